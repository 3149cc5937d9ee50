"""Callables over other drivers than psycopg 3: their races are found through the wire gate, and their fixes proved."""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import psycopg
import pytest

import applications as app
from racebench.api import Bench, Exploration, Search
from racebench.core.errors import UsageProblem
from racebench.core.verdict import Verdict
from racebench.exploration.sessions import wire
from racebench.exploration.wire import rest

asyncpg = pytest.importorskip("asyncpg")
pg8000 = pytest.importorskip("pg8000.dbapi")
psycopg2 = pytest.importorskip("psycopg2")
sqlalchemy = pytest.importorskip("sqlalchemy")
fastapi = pytest.importorskip("fastapi")

pytestmark = pytest.mark.skipif(not rest.available(), reason="asks the Linux kernel")

LOCK = "SELECT pg_advisory_xact_lock(42)"
READ = "SELECT coalesce(max(number), 0) + 1 FROM orders"
#: The schedules of two sessions that read, write and commit; and of two that take a lock before.
ALL, ALL_LOCKED = 20, 8


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    with Bench() as made:
        yield made


def explored(bench: Bench, *calls: Callable[..., Any], reduce: bool = True, **options: Any) -> Exploration:
    search = Search(reduce=reduce)
    given = {"setup": app.SCHEMA, "invariant": app.TWINS, "budget": math.inf, "search": search, **options}
    found = bench.explore(*calls, **given)
    assert isinstance(found, Exploration)
    return found


def _url() -> str:
    return os.environ["DATABASE_URL"]


# The same transaction over each driver: with a lock, it is right.


async def over_asyncpg(locked: bool) -> None:
    connection = await asyncpg.connect(_url())
    try:
        async with connection.transaction():
            if locked:
                await connection.execute(LOCK)
            number = await connection.fetchval(READ)
            await connection.execute("INSERT INTO orders (number) VALUES ($1)", number)
    finally:
        await connection.close()


def _over_dbapi(connection: Any, locked: bool) -> None:
    cursor = connection.cursor()
    if locked:
        cursor.execute(LOCK)
    cursor.execute(READ)
    cursor.execute("INSERT INTO orders (number) VALUES (%s)", cursor.fetchone())
    connection.commit()
    connection.close()


def over_psycopg2(locked: bool) -> None:
    _over_dbapi(psycopg2.connect(_url()), locked)


def over_pg8000(locked: bool) -> None:
    parts = urlsplit(_url())
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    connection = pg8000.connect(
        user=unquote(parts.username or ""),
        database=unquote(parts.path[1:]),
        unix_sock=f"{query['host']}/.s.PGSQL.{query.get('port', '5432')}",
        startup_params={"search_path": query["options"].partition("search_path=")[2]},
    )
    _over_dbapi(connection, locked)


@functools.cache
def _engine() -> Any:
    return sqlalchemy.create_engine(_url().replace("postgresql://", "postgresql+psycopg2://", 1))


def over_a_pool_of_all_sessions(locked: bool) -> None:
    """One session gives its connection back, and another gets it."""
    with _engine().begin() as connection:
        if locked:
            connection.execute(sqlalchemy.text(LOCK))
        number = connection.execute(sqlalchemy.text(READ)).scalar_one()
        connection.execute(sqlalchemy.text("INSERT INTO orders (number) VALUES (:number)"), {"number": number})


def later(locked: bool, tasks: fastapi.BackgroundTasks) -> None:
    tasks.add_task(over_psycopg2, locked)


@functools.cache
def _client() -> Any:
    from fastapi.testclient import TestClient

    service = fastapi.FastAPI()
    for path, endpoint in {"/asynchronous": over_asyncpg, "/thread": over_psycopg2, "/later": later}.items():
        service.add_api_route(path, endpoint, methods=["POST"])
    return TestClient(service)


def _post(path: str, locked: bool) -> None:
    _client().post(path, params={"locked": locked}).raise_for_status()


@pytest.mark.parametrize("call", [over_psycopg2, over_asyncpg, over_pg8000], ids=lambda call: call.__name__)
def test_each_driver_has_the_schedules_that_psycopg_3_has(bench: Bench, call: Callable[[bool], Any]) -> None:
    wrong = explored(bench, functools.partial(call, False), reduce=False)
    right = explored(bench, functools.partial(call, True), reduce=False)
    assert (wrong.verdict, wrong.complete, wrong.run, wrong.anomalous) == (Verdict.INVALID, True, ALL, ALL - 2)
    assert (right.verdict, right.complete, right.run, right.anomalous) == (Verdict.VALID, True, ALL_LOCKED, 0)


@pytest.mark.parametrize(
    "call",
    [
        over_a_pool_of_all_sessions,
        *(functools.partial(_post, path) for path in ("/asynchronous", "/thread", "/later")),
    ],
    ids=["pool", "asynchronous endpoint", "endpoint in a thread", "background task"],
)
def test_what_works_for_a_call_is_the_calls(bench: Bench, call: Callable[[bool], Any]) -> None:
    """The second exploration finds the pool with connections that are closed."""
    wrong, right = (explored(bench, functools.partial(call, locked)) for locked in (False, True))
    assert (wrong.verdict, wrong.complete) == (Verdict.INVALID, True)
    assert (right.verdict, right.complete, right.anomalous, right.result.fault) == (Verdict.VALID, True, 0, "")
    assert not right.result.notes


def over_psycopg(connection: psycopg.Connection[Any]) -> None:
    app.create_order(connection)


def test_drivers_race_each_other_and_lines_are_told(bench: Bench) -> None:
    found = explored(bench, over_psycopg, functools.partial(over_psycopg2, False))
    assert (found.verdict, found.complete) == (Verdict.INVALID, True)
    assert _lines(found) == {"s1": {"tests/applications.py"}, "s2": {"tests/api/test_other_drivers.py"}}


def _lines(found: Exploration) -> dict[str, set[str]]:
    """The files from which each session sends the steps of the witness."""
    assert found.result.witness is not None
    lines: dict[str, set[str]] = {}
    for step in found.result.witness.steps:
        lines.setdefault(step.session, set()).add(step.where.partition(":")[0])
    return lines


_LOCK = threading.Lock()


def behind_a_lock_of_the_process() -> None:
    with _LOCK:
        over_psycopg2(False)


def test_a_call_that_waits_inside_the_process_is_no_deadlock(bench: Bench) -> None:
    found = explored(bench, behind_a_lock_of_the_process)
    assert (found.verdict, found.anomalous) == (Verdict.VALID, 0)
    assert any("inside this process" in note for note in found.result.notes)


def test_another_system_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "available", lambda: False)
    with pytest.raises(UsageProblem, match="are explored on Linux only"):
        explored(bench, functools.partial(over_psycopg2, False))


def raises() -> None:
    psycopg2.connect(_url()).close()
    raise KeyError("TENANT")


_kept: list[Any] = []


def leaves_its_transaction_open() -> None:
    connection = psycopg2.connect(_url())
    connection.cursor().execute("INSERT INTO orders (number) VALUES (1)")
    _kept.append(connection)


def test_a_connection_that_was_opened_before_is_named(bench: Bench) -> None:
    """As a pool does that is opened at import, or in a fixture."""
    connections: list[Any] = []

    def setup(connection: psycopg.Connection[Any]) -> None:
        connection.execute("DROP TABLE IF EXISTS orders")
        connection.execute(app.SCHEMA)
        connections.append(psycopg2.connect(_url()))

    def call() -> None:
        connections[-1].cursor().execute("INSERT INTO orders (number) VALUES (1)")
        connections[-1].commit()

    with pytest.raises(
        UsageProblem, match=r"over a connection that racebench does not see.*: one that was opened before"
    ):
        explored(bench, call, setup=setup)
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (raises, r"raises fails when it runs alone.*KeyError: 'TENANT' \(\S*test_other_drivers.py:\d+\)"),
        (leaves_its_transaction_open, "leaves its transaction open"),
    ],
)
def test_what_no_call_may_do_is_named(bench: Bench, call: Callable[[], None], message: str) -> None:
    with pytest.raises(UsageProblem, match=message):
        explored(bench, call)
    for connection in _kept:
        connection.close()
    _kept.clear()


def test_hammer_needs_no_gate(bench: Bench) -> None:
    pressed = bench.hammer(app.create_order_over_asyncpg, setup=app.SCHEMA, invariant=app.TWINS, operations=4)
    assert pressed.counts["committed"] == 4
    # It imports its driver only when it is called.
    found = explored(bench, app.create_order_over_asyncpg)
    assert found.verdict is Verdict.INVALID
    assert _lines(found) == {"s1": {"tests/applications.py"}, "s2": {"tests/applications.py"}}
