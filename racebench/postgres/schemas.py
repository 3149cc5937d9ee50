"""A schema of racebench's own on the server: created with a scenario's DDL, dropped whatever happens.

Its sessions are recognized by their application name, so that no other session is waited for or ended.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from racebench.core.environ import exported
from racebench.core.errors import ConnectionLost, DatabaseProblem
from racebench.core.model import Consumer, Origin, Scenario, SqlFile, Strategy
from racebench.core.plain_text import one_line
from racebench.core.quantity import quantity
from racebench.core.signals import shielded
from racebench.core.target import Target
from racebench.core.watching import unsaid
from racebench.postgres import abandoned, outside, removal
from racebench.postgres.connection import connect, run_file
from racebench.postgres.control import Control
from racebench.postgres.removal import Inventory, Removal
from racebench.postgres.two_phase import roll_back_prepared
from racebench.workloads import addresses, callables

_GRACE_SECONDS = 5.0
_SUPERUSER = "what needs a superuser runs with --superuser, or with superuser = true in its scenario.toml"
#: How often a schema is tried to be dropped if the connection is lost meanwhile.
_MOST_DROPS = 3


@contextlib.contextmanager
def fresh_schema(
    target: Target,
    schema: str,
    scenario: Scenario,
    strategy: Strategy,
    consumers: Sequence[Consumer],
    *,
    keep: bool = False,
    tell: Callable[[str], None] = unsaid,
    control: Control | None = None,
) -> Iterator[None]:
    """Create the schema with the scenario's, the strategy's and the consumers' DDL; drop it, whatever happened.

    `tell` is called at the end with a sentence about what was made outside the schema, if anything was. `control`: the
    session to do that with, which stays; None for one of its own.
    """
    closing = [part for consumer in consumers for part in consumer.closing]
    with empty_schema(target, schema, closing, keep=keep, tell=tell, control=control):
        fill(target, schema, scenario, strategy, consumers, control=control)
        yield


@contextlib.contextmanager
def empty_schema(
    target: Target,
    schema: str,
    closing: Sequence[SqlFile] = (),
    *,
    keep: bool = False,
    tell: Callable[[str], None] = unsaid,
    control: Control | None = None,
) -> Iterator[None]:
    """Create a schema; drop it, whatever happened, after the SQL in `closing`, which removes what is outside it.

    `tell` is called at the end with sentences about what else was made outside it, if anything was; on a server that
    no other program uses that is removed too. On a user's server a session stays for as long, so that the schema is
    known to be in use (abandoned.py). `control`: as for fresh_schema.
    """
    if control is None:
        with Control(target) as own, _made(target, schema, closing, keep, tell, own):
            if target.kind != "external":
                own.close()
            yield
        return
    with _made(target, schema, closing, keep, tell, control):
        yield


@contextlib.contextmanager
def _made(
    target: Target,
    schema: str,
    closing: Sequence[SqlFile],
    keep: bool,
    tell: Callable[[str], None],
    control: Control,
) -> Iterator[None]:
    """As empty_schema, with a control session."""
    marked: _Marked | None = None
    try:
        with control.session(schema, inside=False) as connection:
            marked = _marked(connection, target, control)
            _create(connection, target, schema)
        yield
        if keep:
            with control.session(schema, inside=False) as connection:
                abandoned.mark(connection, schema, kept=True)
                _tell(outside.sentences((), outside.made_since(connection, marked.mark), target), tell)
    except BaseException as first:
        with shielded():
            try:
                said = _drop(target, schema, closing, marked, control)
            except DatabaseProblem as second:  # the first failure is reported, with a note of what is left
                if target.kind == "external":
                    first.add_note(str(second))
            else:
                if target.kind == "external":
                    _tell(said, first.add_note)
        raise
    if not keep:
        with shielded():
            said = _drop(target, schema, closing, marked, control)
        _tell(said, tell)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marked:
    """The moment before a schema was made, and what was there then; None if nothing is to be removed."""

    mark: str | None
    before: Inventory | None


def _marked(connection: psycopg.Connection[Any], target: Target, control: Control) -> _Marked:
    # Between two schemas nothing is made: what there was before the last one is there again.
    before = (control.inventory or removal.take(connection)) if target.exclusive else None
    control.inventory = None
    return _Marked(mark=outside.mark(connection), before=before)


def _tell(sentences: Sequence[str], tell: Callable[[str], None]) -> None:
    for sentence in sentences:
        tell(sentence)


def _create(connection: psycopg.Connection[Any], target: Target, schema: str) -> None:
    try:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    except psycopg.Error as problem:
        raise DatabaseProblem(f"cannot create a schema on {target.label}: {one_line(str(problem))}") from None
    if target.kind == "external":
        abandoned.mark(connection, schema)


def fill(
    target: Target,
    schema: str,
    scenario: Scenario,
    strategy: Strategy,
    consumers: Sequence[Consumer],
    *,
    control: Control | None = None,
) -> None:
    """Run the DDL of the scenario, the strategy and the consumers in a schema, and call the scenario's setup.

    `control`: the session to do that with; the user's own code has a connection of its own.
    """
    parts = dict.fromkeys(
        [*scenario.schema, *strategy.schema, *(part for consumer in consumers for part in consumer.schema)]
    )
    session = (
        connect(target, schema=schema, application_name=application_name(schema, "setup"))
        if control is None or scenario.origin is Origin.OWN_CODE
        else control.session(schema)
    )
    with session as connection:
        for part in parts:
            run_file(connection, part, if_denied=_SUPERUSER if target.sealed else "")
    if scenario.setup:
        _set_up(target, schema, scenario)


def remake(
    connection: psycopg.Connection[Any],
    target: Target,
    schema: str,
    scenario: Scenario,
    strategy: Strategy,
    consumers: Sequence[Consumer],
) -> None:
    """Drop a schema of racebench's own and set it up again under its name, while no session is in a transaction.

    The sessions go on: the server plans again what they have prepared, by name. Other schemas' objects that depend on
    dropped ones are dropped too. Raises RacebenchError.
    """
    name = sql.Identifier(schema)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(f"{_GRACE_SECONDS:g}s"))
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(name))
            _create(connection, target, schema)
    except psycopg.Error as problem:
        raise DatabaseProblem(f"schema {schema} cannot be made again: {one_line(str(problem))}") from None
    fill(target, schema, scenario, strategy, consumers)


def _set_up(target: Target, schema: str, scenario: Scenario) -> None:
    """Call the scenario's setup."""
    named = application_name(schema, "setup")
    with exported(addresses.variables(target, schema, named)):
        for call in scenario.setup:
            with connect(target, schema=schema, application_name=named, autocommit=False, own_code=True) as connection:
                callables.set_up(call, connection)


def _drop(
    target: Target, schema: str, closing: Sequence[SqlFile], marked: _Marked | None, control: Control
) -> tuple[str, ...]:
    """Drop the schema: terminate the run's sessions that remain and do not rest, run `closing`, then drop it.

    Returns sentences about what was made outside it since a mark. Transactions that the run has only prepared would
    keep their locks for ever; they are rolled back first. If the control session is lost, another one is made.
    """
    try:
        for _ in range(_MOST_DROPS - 1):
            with contextlib.suppress(ConnectionLost):
                return _try_to_drop(target, schema, closing, marked, control)
        return _try_to_drop(target, schema, closing, marked, control)
    except (psycopg.Error, DatabaseProblem) as problem:
        raise DatabaseProblem(
            f"schema {schema} could not be dropped on {target.label}: {one_line(str(problem))}; "
            f'drop it yourself: DROP SCHEMA "{schema}" CASCADE'
        ) from None


def _try_to_drop(
    target: Target, schema: str, closing: Sequence[SqlFile], marked: _Marked | None, control: Control
) -> tuple[str, ...]:
    settings = {"lock_timeout": "5s", "client_min_messages": "warning"}
    with control.session(schema, settings=settings) as connection:
        try:
            quiesce(connection, schema, wait_seconds=0.0, resting=control.resting)
            roll_back_prepared(connection, schema)
            for part in closing:
                connection.execute(part.text.encode())
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
            control.dropped()
            if marked is None:
                return ()
            if marked.before is None:
                done = Removal()
            else:
                done = removal.remove_since(connection, marked.before)
                control.inventory = marked.before if done.unchanged else None
            return outside.sentences(done.removed, outside.made_since(connection, marked.mark), target)
        except psycopg.Error as problem:
            if connection.broken:
                raise ConnectionLost(one_line(str(problem))) from None
            raise


def new_name() -> str:
    """A name that no other schema has."""
    return f"racebench_{secrets.token_hex(6)}"


def application_name(schema: str, role: str) -> str:
    """The application name of a schema's sessions on the server."""
    return f"{schema} {role}"


def quiesce(
    connection: psycopg.Connection[Any],
    schema: str,
    *,
    role: str = "%",
    wait_seconds: float,
    resting: Collection[int] = (),
) -> None:
    """Wait until the run's backends have ended, so that no commit is under way; terminate those that stay.

    A backend that waits for a lock does not notice that its client was killed. `resting`: the pids of those that stay,
    because their clients have received the answer to all that they have sent.
    """
    pattern = application_name(schema, role).replace("_", r"\_")
    started = time.monotonic()
    while True:
        terminate = time.monotonic() - started >= wait_seconds
        left = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE %s AND pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name LIKE %s AND pid <> pg_backend_pid() AND pid <> ALL(%s)",
            (terminate, pattern, [*resting]),
        ).fetchone()
        if left is None or left[0] == 0:
            return
        if time.monotonic() - started > wait_seconds + _GRACE_SECONDS:
            sessions = quantity(left[0], "session", "sessions")
            raise DatabaseProblem(f"schema {schema}: {sessions} did not end; see pg_stat_activity")
        time.sleep(0.005)
