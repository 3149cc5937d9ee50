"""A hot standby on which consumers read: checked before anything starts, and waited for until it has replayed a commit.

How far it is, is compared by positions in the write-ahead log. What ends a query there, but says nothing of the
consumer, is named here too. The embedded standby's processes belong to embedded/standby.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.core.target import Target
from racebench.core.watching import beat, unsaid
from racebench.postgres.connection import connect
from racebench.postgres.external import ask, first_connection
from racebench.postgres.restarts import has_ended

#: How long a standby may need to replay what was committed, beside its own delay.
PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.002
_SAY_SECONDS = 5.0
#: SQLSTATEs of a query that a standby cancels because replay conflicts with it (PostgreSQL manual, "Handling Query
#: Conflicts"); a deadlock of replay and a query is one of them.
_CONFLICTS = frozenset({"40001", "40P01"})
#: The SQLSTATE of a statement that would write (read_only_sql_transaction).
_READ_ONLY = "25006"

_QUESTION = """
SELECT pg_is_in_recovery() AS recovery, current_database() AS database,
       current_setting('server_version_num')::int / 10000 AS version
"""
_SYSTEM = "SELECT system_identifier::text AS system FROM pg_control_system()"


def is_conflict(problem: Exception) -> bool:
    """Whether a standby has canceled a query because its replay conflicted with it; by the error's cause."""
    return _sqlstate(problem) in _CONFLICTS


def is_write(problem: Exception) -> bool:
    """Whether a query was refused because it would write; by the error's cause."""
    return _sqlstate(problem) == _READ_ONLY


def ended_or(standby: Target | None, problem: BaseException) -> BaseException:
    """What to raise where a standby cannot be used before a run: the problem, or that its server has ended."""
    if isinstance(problem, DatabaseProblem | psycopg.OperationalError) and standby and has_ended(standby):
        return DatabaseProblem(f"{standby.label} has ended before the run began; run again")
    return problem


def _sqlstate(problem: Exception) -> str | None:
    cause = problem.__cause__
    return cause.sqlstate if isinstance(cause, psycopg.Error) else None


def usable(primary: Target, standby: Target) -> Target:
    """Return the user's standby with what is known of it, once it is sure that it is a hot standby of the primary.

    Raises DatabaseProblem if it cannot be reached, or is not in recovery, or is of another cluster, version or
    database. Where a role may not read the cluster's identifier, only the rest is compared. A copy of a cluster has its
    identifier, too: `follow` finds that it lacks the schema of a run.
    """
    with first_connection(primary) as (connection, _):
        here = _facts(connection)
    with first_connection(standby) as (connection, known):
        there = _facts(connection)
    if not there["recovery"]:
        raise DatabaseProblem(
            f"{standby.label} (--consumer-dsn) is not a standby: pg_is_in_recovery() is false; "
            "give the DSN of a hot standby, or leave out --consumer-dsn"
        )
    for name, what in (("system", "system identifier"), ("version", "PostgreSQL version"), ("database", "database")):
        if None not in (here[name], there[name]) and here[name] != there[name]:
            raise DatabaseProblem(
                f"{standby.label} (--consumer-dsn) is not a standby of {primary.label}: its {what} is "
                f"{one_line(str(there[name]))}, the primary's is {one_line(str(here[name]))}; "
                "give the DSN of the same database on a standby of that server"
            )
    return known


def _facts(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    facts, system = ask(connection, _QUESTION), ask(connection, _SYSTEM, denied={"system": None})
    assert facts is not None
    assert system is not None
    return {**facts, **system}


def mark(connection: psycopg.Connection[Any]) -> str:
    """Commit a mark on the primary, and return its position in the write-ahead log: all earlier commits are before it.

    A message, unlike pg_current_wal_insert_lsn(), is a record that a standby replays, also at a page's end; its commit
    writes out those of synchronous_commit = off before it.
    """
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = local")
        row = connection.execute("SELECT pg_logical_emit_message(true, 'racebench', '')").fetchone()
    assert row is not None
    return str(row[0])


class Replay:
    """Whether a standby has replayed up to a mark; a context manager that closes its connection.

    `problem`: why it could not be asked the last time; `reached`: the position that it had then; `was_promoted`: it
    is no standby any more, and will not replay the mark.
    """

    def __init__(self, standby: Target, position: str) -> None:
        self._standby, self._position = standby, position
        self._connection: psycopg.Connection[Any] | None = None
        self._began_s = time.monotonic()
        self._said = False
        self.problem = ""
        self.reached = "nothing"
        self.was_promoted = False

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_problem: object) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def limit_s(self) -> float:
        """How long it may take."""
        return PATIENCE_SECONDS + self._standby.behind_ms / 1e3

    def is_done(self) -> bool:
        """Ask; False also if the standby does not answer, to which another connection is opened the next time."""
        beat()
        try:
            if self._connection is None:
                self._connection = connect(self._standby)
            row = self._connection.execute(
                "SELECT pg_last_wal_replay_lsn()::text, coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false), "
                "pg_is_in_recovery()",
                (self._position,),
            ).fetchone()
        except (DatabaseProblem, psycopg.Error) as problem:
            self.problem = one_line(str(problem))
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            return False
        assert row is not None
        self.problem, self.reached, is_done = "", str(row[0]), bool(row[1])
        self.was_promoted = not is_done and not row[2]
        return is_done

    def say_once(self, say: Callable[[str], None]) -> None:
        """Give a line to `say` if it takes long, the first time only."""
        if not self._said and time.monotonic() > self._began_s + _SAY_SECONDS:
            self._said = True
            say(f"waiting until {self._standby.label} has replayed the last commit, for {self.limit_s:.0f} s at most")

    def lack(self) -> str:
        """What is wrong, as a clause: it does not answer, it was promoted, or it is not so far."""
        if self.problem:
            return f"{self._standby.label} does not answer: {self.problem}"
        if self.was_promoted:
            return (
                f"{self._standby.label} was promoted and is no standby any more: it has replayed up to {self.reached}, "
                f"the last commit is at {self._position}"
            )
        return (
            f"{self._standby.label} has not replayed the last commit after {self.limit_s:.0f} s: it is at "
            f"{self.reached}, the commit at {self._position}"
        )


def follow(
    primary: Target, connection: psycopg.Connection[Any], schema: str, say: Callable[[str], None] = unsaid
) -> None:
    """Wait until the standby of a primary has replayed what was committed there, a new schema among it.

    `say` is given a line if that takes long. Raises DatabaseProblem if it does not in time, or if the schema is not
    there: it is no standby of this primary.
    """
    known = primary.standby
    assert known is not None
    with Replay(known, mark(connection)) as replay:
        deadline_s = time.monotonic() + replay.limit_s
        while not replay.is_done():
            replay.say_once(say)
            if time.monotonic() > deadline_s or replay.was_promoted or (replay.problem and has_ended(known)):
                look = "" if replay.was_promoted else "; see its log, and whether its replay is paused"
                lack = DatabaseProblem(f"{replay.lack()}{look}")
                raise ended_or(known, lack)
            time.sleep(_PAUSE_SECONDS)
    try:
        with connect(known) as there:
            row = there.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone()
    except (DatabaseProblem, psycopg.OperationalError) as problem:
        raise ended_or(known, problem) from None
    if row != (1,):
        raise DatabaseProblem(
            f"{known.label} is not a standby of {primary.label}: the schema that was made on the primary is not there; "
            "give the DSN of a standby that streams from that server"
        )
