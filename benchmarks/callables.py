"""The functions that benchmarks/frontrun.py explores with both explorers, and one exploration in a process of its own.

`python -m benchmarks.callables SIDE CASE WORKERS` prints a line of JSON: verdict ("right", "wrong", "none"), schedules,
seconds of the exploration without imports, and the reason for "none". DATABASE_URL names the server.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

_TABLES = """
CREATE TABLE events (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, version int NOT NULL);
CREATE TABLE delivered (version int NOT NULL);
CREATE SEQUENCE versions;
"""
_UNIQUE = "CREATE UNIQUE INDEX events_version ON events (version);"
_TWINS = "SELECT version FROM events GROUP BY version HAVING count(*) > 1"
_MISSED = """
SELECT version FROM events
WHERE version < (SELECT max(version) FROM delivered) AND version NOT IN (SELECT version FROM delivered)
"""


def _connect(*, autocommit: bool = False) -> psycopg.Connection[Any]:
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=autocommit)


def _number(connection: psycopg.Connection[Any]) -> None:
    row = connection.execute("SELECT coalesce(max(version), 0) + 1 FROM events").fetchone()
    connection.execute("INSERT INTO events (version) VALUES (%s) RETURNING id", row)


def naive() -> None:
    """MAX() + 1."""
    with _connect() as connection:
        _number(connection)


def unique_retry() -> None:
    """MAX() + 1 with a unique index, retried after a unique violation."""
    with _connect() as connection:
        while True:
            try:
                with connection.transaction():
                    _number(connection)
                return
            except psycopg.errors.UniqueViolation:
                continue


def advisory() -> None:
    """MAX() + 1 under an advisory lock."""
    with _connect() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(42)")
        _number(connection)


def sequence() -> None:
    """Insert a number from a sequence."""
    with _connect() as connection:
        connection.execute("INSERT INTO events (version) VALUES (nextval('versions')) RETURNING id")


def consumer() -> None:
    """Deliver the rows above the last delivered version."""
    with _connect(autocommit=True) as connection:
        row = connection.execute("SELECT coalesce(max(version), 0) FROM delivered").fetchone()
        versions = connection.execute("SELECT version FROM events WHERE version > %s ORDER BY version", row).fetchall()
        for version in versions:
            connection.execute("INSERT INTO delivered (version) VALUES (%s) RETURNING version", version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case, and whether it is free of races."""

    title: str
    function: Callable[[], None]
    right: bool
    schema: str = _TABLES
    invariant: str = _TWINS
    consumer: bool = False

    def functions(self, workers: int) -> list[Callable[[], None]]:
        """The functions for a number of workers, with the consumer if the case has one."""
        return [self.function] * workers + [consumer] * self.consumer


CASES = {
    "naive": Case(title="MAX() + 1", function=naive, right=False),
    "unique-retry": Case(title="unique index, retry", function=unique_retry, right=True, schema=_TABLES + _UNIQUE),
    "advisory": Case(title="advisory lock", function=advisory, right=True),
    "sequence": Case(
        title="sequence, and a consumer", function=sequence, right=False, invariant=_MISSED, consumer=True
    ),
}


def _racebench(case: Case, workers: int) -> dict[str, Any]:
    import racebench

    # As frontrun is imported before its clock starts.
    import racebench.exploration.comparison
    import racebench.exploration.explorer
    import racebench.exploration.sessions.python
    import racebench.postgres.external

    with racebench.Bench(os.environ["DATABASE_URL"]) as bench:
        begin = time.perf_counter()
        exploration = bench.explore(
            *case.functions(workers), setup=case.schema, invariant=case.invariant, stop_at_first=True
        )
        seconds = time.perf_counter() - begin
    said = {"VALID": True, "INVALID": False}.get(exploration.verdict.name)
    return _judged(case, said, exploration.run, seconds, "")


def _frontrun(case: Case, workers: int) -> dict[str, Any]:
    import frontrun  # type: ignore[import-not-found,unused-ignore]

    def reset() -> None:
        with _connect() as connection:
            connection.execute("DELETE FROM events")
            connection.execute("DELETE FROM delivered")
            connection.execute("ALTER SEQUENCE versions RESTART")

    def holds(_state: object) -> bool:
        with _connect() as connection:
            return not connection.execute(case.invariant.encode()).fetchall()

    def worker(function: Callable[[], None]) -> Callable[[object], None]:
        return lambda _state: function()

    with _connect(autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        connection.execute(case.schema.encode())
    begin = time.perf_counter()
    try:
        result = frontrun.explore(
            setup=reset,
            workers=[worker(call) for call in case.functions(workers)],
            invariant=holds,
            reproduce_on_failure=0,
            warn_nondeterministic_sql=False,  # otherwise it refuses every case
        )
    except Exception as problem:  # noqa: BLE001 - any exception is a result
        return _judged(case, None, 0, time.perf_counter() - begin, f"{type(problem).__name__}: {problem}")
    seconds = time.perf_counter() - begin
    return _judged(case, result.property_holds, result.num_explored, seconds, result.inconclusive_reason or "")


def _judged(case: Case, said: bool | None, schedules: int, seconds: float, why: str) -> dict[str, Any]:
    verdict = "none" if said is None else "right" if said == case.right else "wrong"
    return {"verdict": verdict, "schedules": schedules, "seconds": seconds, "why": why[:300]}


SIDES: dict[str, Callable[[Case, int], dict[str, Any]]] = {
    "racebench": _racebench,
    "frontrun": _frontrun,
}


def main() -> None:
    """Run one exploration and print its result."""
    side, case, workers = sys.argv[1:]
    figures = SIDES[side](CASES[case], int(workers))
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a thread that frontrun could not end would keep the process alive


if __name__ == "__main__":
    main()
