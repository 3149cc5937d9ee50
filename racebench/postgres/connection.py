"""Opens a connection to a target, and runs a file of SQL on one."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq, sql

from racebench.core import watching
from racebench.core.environ import hidden
from racebench.core.errors import ConnectionLost, DatabaseProblem, ScenarioProblem
from racebench.core.faults import is_fault
from racebench.core.libpq import next_result, receive
from racebench.core.model import SqlFile
from racebench.core.plain_text import one_line
from racebench.workloads.faults import fault
from racebench.workloads.scripts import statement_lines

if TYPE_CHECKING:
    from racebench.core.target import Target

#: How long the first question of a session may take: behind a pooler it waits for a session of the server.
_SETTLING_SECONDS = 60.0
#: The results of a statement that the server did not refuse.
ACCEPTED = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY})


_DENIED = b"42501"
#: After so many times a statement would be prepared unasked.
_NEVER = sys.maxsize
#: libpq 16.
_FIRST_WITH_REQUIRE_AUTH = 160000


def connect(
    target: Target,
    *,
    schema: str | None = None,
    application_name: str = "racebench",
    settings: Mapping[str, str] | None = None,
    autocommit: bool = True,
    own_code: bool = False,
    prepares: bool = False,
) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect, in autocommit mode unless told otherwise, with `search_path` set to the schema and the given settings.

    `own_code`: the session runs the user's own code, and keeps the settings of the role and the database; others have
    those that strategies are defined under. On a user's server the schema is asked for before anything is sent.
    `prepares`: statements are prepared where that is asked for (`prepare=True`), and no others; none behind a pooler.
    Of racebench's own pooler the sessions have the schema and the settings that it was started with, and no others.
    Raises DatabaseProblem, in one line and without the password, when the server cannot be reached or the session
    would work in another schema.
    """
    options = {**({} if own_code else target.settings), **(settings or {})}
    if schema is not None:
        options["search_path"] = schema
    parameters = dict(target.parameters)
    parameters.setdefault("connect_timeout", "10")
    parameters["application_name"] = application_name
    if target.sealed and pq.version() >= _FIRST_WITH_REQUIRE_AUTH:
        parameters["require_auth"] = "none"  # whatever answers there, it is sent no password of a password file
    by_statement = (target.pooled or not target.keeps_search_path) and not target.configured
    words = (
        [] if by_statement or target.configured else [f"-c {name}={_escape(value)}" for name, value in options.items()]
    )
    parameters["options"] = " ".join([part for part in [parameters.get("options", ""), *words] if part])
    if not target.sealed or target.configured:
        parameters["client_encoding"] = "UTF8"  # of scripts, and of a database of any encoding
    # A stray PGSERVICE or PGOPTIONS must not reach the embedded server; PGDATESTYLE would win over the options.
    unwanted = "PG" if target.sealed else "" if own_code else "PGDATESTYLE"
    threshold = _NEVER if prepares and not target.pooled else None
    try:
        with hidden(unwanted) if unwanted else contextlib.nullcontext():
            connection = psycopg.connect(**parameters, autocommit=autocommit, prepare_threshold=threshold)  # type: ignore[arg-type]
    except (psycopg.Error, UnicodeError) as problem:
        raise DatabaseProblem(f"cannot connect to {target.label}: {one_line(str(problem))}") from None
    if (watch := watching.current()) is not None:
        watch.add(connection.pgconn)
    try:
        if not target.sealed or target.configured:
            settle(connection, target, schema, options if by_statement else {})
    except BaseException:
        connection.close()
        raise
    return connection


def asked(pgconn: pq.abc.PGconn, query: bytes, *, limit_s: float) -> str:
    """The first value of a query's last result as text; "" for null.

    A signal interrupts the wait, which it does not in libpq's own. Raises TimeoutError after the limit, and
    psycopg.Error if the server refuses or the connection is lost.
    """
    deadline_s = time.monotonic() + limit_s
    pgconn.send_query(query)
    last = None
    while True:
        try:
            while pgconn.is_busy():
                receive(pgconn, max(0.0, deadline_s - time.monotonic()))
        except TimeoutError:
            raise TimeoutError(f"no answer within {limit_s:.0f} s") from None
        if (result := pgconn.get_result()) is None:
            break
        last = result
    assert last is not None  # a query was sent
    if last.status not in ACCEPTED:  # the server carries out nothing behind a refused statement
        raise psycopg.errors.error_from_result(last)
    return (last.get_value(0, 0) or b"").decode(errors="replace")


def _escape(value: str) -> str:
    """Escape a value for libpq's `options`, where backslash quotes a space."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def settle(
    connection: psycopg.Connection[Any], target: Target, schema: str | None, settings: Mapping[str, str]
) -> None:
    """Set what the start-up packet has not, and make sure that the session works in the schema: one round trip.

    Poolers drop the options of the start-up packet without a word (PgBouncer's ignore_startup_parameters); then the
    user's own tables would be written.
    """
    if schema is None and not settings:
        return
    commands = sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, false)").format(sql.Literal(name), sql.Literal(value))
        for name, value in settings.items()
    )
    text = sql.SQL("SELECT {}; ").format(commands) if settings else sql.SQL("")
    text += sql.SQL("SELECT coalesce(current_schema(), current_setting('search_path'))")
    try:
        found = asked(connection.pgconn, text.as_bytes(connection), limit_s=_SETTLING_SECONDS)
    except (psycopg.Error, TimeoutError) as problem:
        kind = DatabaseProblem if connection.pgconn.status == pq.ConnStatus.OK else ConnectionLost
        raise kind(f"a session on {target.label} cannot be prepared: {one_line(str(problem))}") from None
    if schema is not None and found != schema:
        raise DatabaseProblem(
            f"a session on {target.label} would work in schema '{one_line(found)}', not in racebench's: a pooler or "
            "proxy drops the search_path that racebench gives; give a DSN of the server itself"
        )


@contextlib.contextmanager
def naming_lost_connections(target: Target) -> Iterator[None]:
    """Raise DatabaseProblem where a connection of racebench's own is lost and nothing before has explained it."""
    try:
        yield
    except psycopg.Error as problem:
        if not fault(problem):
            raise
        lost = DatabaseProblem(f"a connection to {target.label} was lost: {one_line(str(problem))}")
        for note in getattr(problem, "__notes__", ()):
            lost.add_note(note)  # of what is left
        raise lost from None


def run_file(connection: psycopg.Connection[tuple[Any, ...]], file: SqlFile, *, if_denied: str = "") -> None:
    """Run a file of SQL as one message (one transaction, unless it says otherwise).

    `if_denied`: advice for a statement that the role may not run.
    Raises ScenarioProblem with the file and the line of the statement that the server refuses, and ConnectionLost.
    """
    pgconn = connection.pgconn
    pgconn.send_query(file.text.encode())
    done, refused = 0, None
    while (result := next_result(pgconn)) is not None:
        if result.status == pq.ExecStatus.COPY_IN:
            pgconn.put_copy_end(b"a file of SQL here has no stdin to COPY from")
            continue
        done += refused is None and result.status in ACCEPTED
        if result.status not in ACCEPTED and refused is None:
            refused = result
    if refused is None:
        return
    position = refused.error_field(pq.DiagnosticField.STATEMENT_POSITION)
    message = one_line((refused.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace"))
    sqlstate = (refused.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    lines = statement_lines(file.text)
    line = file.text.count("\n", 0, int(position)) + 1 if position else lines[min(done, len(lines) - 1)]
    said = message or one_line(pgconn.get_error_message())
    if is_fault(sqlstate) or pgconn.status != pq.ConnStatus.OK:
        raise ConnectionLost(f"{file.path}:{line}: the connection was lost: {said}")
    if if_denied and refused.error_field(pq.DiagnosticField.SQLSTATE) == _DENIED:
        said += f"; {if_denied}"
    raise ScenarioProblem(f"{file.path}:{line}: the server refuses this: {said}") from psycopg.errors.error_from_result(
        refused
    )
