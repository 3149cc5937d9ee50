"""One connection: connects, runs a script, a query or a file of SQL on it, and classifies what came of a script.

It knows nothing of workers, histories or reports. A script is compiled once (compiler/) for the way its bytes travel
(transport.py).
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from racebench.core.environ import hidden
from racebench.core.errors import DatabaseProblem, ScenarioProblem, one_line
from racebench.core.model import Assign, Outcome, Protocol, Script, SqlFile, Statement
from racebench.postgres.compiler.program import (
    DIRECT,
    GENERATOR,
    LoopCalls,
    Program,
    ProgramWriter,
    Route,
    SessionCalls,
    Stopped,
    Waits,
)
from racebench.postgres.compiler.round_trips import Exchange, Instruction, instructions
from racebench.postgres.compiler.transactions import ROLLBACK
from racebench.postgres.transport import Line, Prepared, See, Variables, line_of
from racebench.workloads.scripts import statement_lines

if TYPE_CHECKING:
    from racebench.core.target import Target

_OK = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY})
_PLANNED = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "WITH"})


def connect(
    target: Target,
    *,
    schema: str | None = None,
    application_name: str = "racebench",
    settings: Mapping[str, str] | None = None,
    autocommit: bool = True,
) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect, in autocommit mode unless told otherwise, with `search_path` set to the schema and the given settings.

    Raises DatabaseProblem, in one line and without the password, when the server cannot be reached.
    """
    options = dict(settings or {})
    if schema is not None:
        options["search_path"] = schema
    parameters = dict(target.parameters)
    parameters.setdefault("connect_timeout", "10")
    parameters["application_name"] = application_name
    words = [f"-c {name}={_escape(value)}" for name, value in options.items()]
    parameters["options"] = " ".join([part for part in [parameters.get("options", ""), *words] if part])
    try:
        # A stray PGSERVICE or PGOPTIONS must not reach the embedded server.
        with hidden("PG") if target.sealed else contextlib.nullcontext():
            return psycopg.connect(**parameters, autocommit=autocommit, prepare_threshold=None)  # type: ignore[arg-type]
    except psycopg.Error as problem:
        raise DatabaseProblem(f"cannot connect to {target.label}: {one_line(str(problem))}") from None


def _escape(value: str) -> str:
    """Escape a value for libpq's `options`, where backslash quotes a space."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def run_file(connection: psycopg.Connection[tuple[Any, ...]], file: SqlFile) -> None:
    """Run a file of SQL as one message (one transaction, unless it says otherwise).

    Raises ScenarioProblem with the file and the line of the statement that the server refuses.
    """
    pgconn = connection.pgconn
    pgconn.send_query(file.text.encode())
    done, refused = 0, None
    while (result := pgconn.get_result()) is not None:
        if result.status == pq.ExecStatus.COPY_IN:
            pgconn.put_copy_end(b"a file of SQL here has no stdin to COPY from")
            continue
        done += refused is None and result.status in _OK
        if result.status not in _OK and refused is None:
            refused = result
    if refused is None:
        return
    position = refused.error_field(pq.DiagnosticField.STATEMENT_POSITION)
    message = one_line((refused.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace"))
    lines = statement_lines(file.text)
    line = file.text.count("\n", 0, int(position)) + 1 if position else lines[min(done, len(lines) - 1)]
    raise ScenarioProblem(f"{file.path}:{line}: the server refuses this: {message or pgconn.get_error_message()}")


class Session:
    """One connection with one script compiled for it.

    `gated`: `steps` stops before each exchange and yields its statements, for whoever decides who goes on.
    After `run`, `sqlstate` is the error ("" if none) and `message` the server's words for it. `zero`: variables that
    are always 0, so that sleeping for them is left out.
    """

    def __init__(
        self,
        connection: psycopg.Connection[tuple[Any, ...]],
        script: Script,
        *,
        seed: str = "",
        protocol: Protocol = Protocol.PREPARED,
        zero: frozenset[str] = frozenset(),
        gated: bool = False,
        see: See | None = None,
    ) -> None:
        self._gated = gated
        self.connection = connection
        self.script = script
        self.sqlstate = ""
        self.message = ""
        self._alive = True
        self._failed = False
        self._line: Line | None = None
        try:
            prepared = self._prepare(protocol)
            self._line = line_of(connection, script.path, protocol, prepared, see)
            self._route = Route(
                transport=self._line.transport,
                protocol=protocol,
                columns={statement: known.columns for statement, known in prepared.items()},
                shown=see is not None,
            )
            columns = {
                at: prepared[step].columns for at, step in enumerate(script.steps) if isinstance(step, Statement)
            }
            # Not a blocking recv: on a Unix socket that wakes up whenever the server has read what it was sent.
            poll = select.poll()
            poll.register(connection.pgconn.socket, select.POLLIN)
            self.ready = poll.poll
            self._random = Random(seed)
            self._sets = _sets(script, columns)
            self._parts = instructions(script, protocol, columns, zero - self._sets)
            self._steps = self._compile(self._writer(script, self._parts).once())
            self._rollback = self._compile_one(ROLLBACK)
            if gated:
                self._configure, self._unlock = self._compile_one(_CONFIGURE), self._compile_one(_UNLOCK)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """False once the connection is lost."""
        return self._alive

    @property
    def socket(self) -> int:
        """The number of the socket to wait for."""
        return self.connection.pgconn.socket

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
        self.connection.close()

    def _prepare(self, protocol: Protocol) -> dict[Statement, Prepared]:
        """Have the server look at every statement and plan it, and keep them unless the protocol sends text."""
        pgconn, path = self.connection.pgconn, self.script.path
        prepared = {}
        own = (_UNLOCK, _CONFIGURE) if self._gated else ()
        for number, statement in enumerate((*self.script.statements, ROLLBACK, *own)):
            prepared[statement] = made = _prepare(pgconn, path, statement, b"racebench_%d" % number)
            if statement.keyword in _PLANNED:
                # A session's first plan reads the catalogue, which costs it milliseconds; not at the common start.
                # What cannot be explained fails here without a trace, and will be planned when it is run.
                nothing = b", ".join([b"NULL"] * len(statement.parameters))
                pgconn.exec_(b"EXPLAIN EXECUTE " + made.name + (b"(" + nothing + b")" if nothing else b""))
        if protocol is Protocol.SIMPLE:
            pgconn.exec_(b"DEALLOCATE ALL")
        return prepared

    def _writer(
        self, script: Script, parts: Sequence[tuple[int, Instruction]], *, waits: Waits = GENERATOR
    ) -> ProgramWriter:
        gated = self._gated and script is self.script
        return ProgramWriter(script, parts, self._route, waits=waits, gated=gated)

    def _compile(self, program: Program, loop: LoopCalls | None = None) -> Any:
        assert self._line is not None
        calls = SessionCalls(
            random=self._random, stopped=self._stopped, wait=self.wait, ready=self.ready, sleep=time.sleep
        )
        return program.compile(self._line.provide(program.round_trips), calls, loop)

    def _compile_one(self, statement: Statement) -> Any:
        """Compile a statement of racebench's own, sent without a gate."""
        script = Script(path=Path(statement.text), text=statement.text, steps=(statement,))
        return self._compile(self._writer(script, [(0, Exchange((0,)))]).once())

    def loop(self, calls: LoopCalls, *, direct: bool, draws: bool, due: bool) -> Any:
        """Compile the script with the loop around it: ProgramWriter.loop says what it takes.

        Direct: a function that waits itself; else a generator that yields as `steps` does.
        """
        writer = self._writer(self.script, self._parts, waits=DIRECT if direct else GENERATOR)
        return self._compile(writer.loop(draws=draws, due=due, versioned="version" in self._sets), calls)

    def configure(self, name: str, value: str) -> None:
        """Change a setting of the session, waiting for the answer."""
        if self.alive:
            self.wait(self._configure({"name": name.encode(), "value": value.encode()}, False))

    def reseed(self, seed: str) -> None:
        """Have the script draw the same from now on as any other session with this seed."""
        self._random.seed(seed)

    def start_afresh(self) -> None:
        """Roll back whatever is open and let go of session locks, waiting for the answers."""
        if self.alive:
            self.wait(self._rollback({}, False))
            self.wait(self._unlock({}, False))

    def steps(self, variables: Variables, roll_back: bool = False) -> Generator[float | None, None, Outcome]:
        """Run the script once; variables are read and set in place. `roll_back`: send ROLLBACK in place of COMMIT.

        Yields None to wait until the socket can be read, or seconds to sleep. Returns
        OK: every statement succeeded. FAIL: the server refused one, or the script itself rolled back.
        UNKNOWN: the connection was lost when a commit may already have happened.
        Raises ScenarioProblem when the script itself is at fault (an unset variable, \\gset without a row).
        """
        self.sqlstate = ""
        steps: Generator[float | None, None, Outcome] = self._steps(variables, roll_back)
        return steps

    def rolling_back(self) -> Generator[float | None, None, None]:
        """End a failed transaction, so that the next try starts clean; yields as `steps`."""
        if self._failed:
            self._failed = False
            sqlstate, message = self.sqlstate, self.message
            yield from self._rollback({}, False)
            self.sqlstate, self.message = sqlstate, message

    def wait(self, steps: Generator[float | None, None, Any]) -> Any:
        """Drive what `steps` or any generator over it yields, and return what it returns; this process waits."""
        try:
            while True:
                pause = next(steps)
                if pause is None:
                    self.ready()
                else:
                    time.sleep(pause)
        except StopIteration as done:
            return done.value

    def run(self, variables: Variables, *, roll_back: bool = False) -> Outcome:
        """Run the script once, waiting for each answer; see `steps`."""
        outcome: Outcome = self.wait(self.steps(variables, roll_back))
        return outcome

    def rollback(self) -> None:
        """End a failed transaction, waiting for the answer."""
        self.wait(self.rolling_back())

    def _stopped(self, why: Stopped | OSError, in_doubt: bool) -> Outcome:
        """What is known of an operation whose exchange did not succeed."""
        assert self._line is not None
        stopped = self._line.lost(why) if isinstance(why, OSError) else why
        self.sqlstate, self.message = stopped.sqlstate, one_line(stopped.message)
        self._alive = not stopped.lost
        self._failed = stopped.status in (b"T", b"E")
        return Outcome.UNKNOWN if stopped.lost and in_doubt else Outcome.FAIL


def _prepare(pgconn: pq.abc.PGconn, path: Path, statement: Statement, name: bytes) -> Prepared:
    """Prepare a statement and ask what it returns; raises ScenarioProblem, with its line, if the server refuses it."""
    result = pgconn.prepare(name, statement.sql.encode())
    if result.status in _OK:
        result = pgconn.describe_prepared(name)
    if result.status not in _OK:
        said = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
        if result.error_field(pq.DiagnosticField.SQLSTATE) == _LOCK_TIMEOUT:
            raise DatabaseProblem(
                f"{path}:{statement.line}: '{one_line(statement.text)}' cannot even be prepared: somebody else has "
                "locked what it needs; see pg_locks"
            )
        raise ScenarioProblem(
            f"{path}:{statement.line}: the server refuses this statement: "
            f"{one_line(said or pgconn.get_error_message())}"
        )
    return Prepared(name, tuple((result.fname(column) or b"").decode() for column in range(result.nfields)))


_LOCK_TIMEOUT = b"55P03"
_QUERY = b"racebench_query"
_UNLOCK = Statement(
    line=0,
    text="SELECT pg_advisory_unlock_all()",
    sql="SELECT pg_advisory_unlock_all()",
    parameters=(),
    fragments=("SELECT pg_advisory_unlock_all()",),
)
_CONFIGURE = Statement(
    line=0,
    text="SELECT set_config(:name, :value, false)",
    sql="SELECT set_config($1, $2, false)",
    parameters=("name", "value"),
    fragments=("SELECT set_config(", ", ", ", false)"),
    slots=("name", "value"),
)


def _sets(script: Script, columns: Mapping[int, Sequence[str]]) -> set[str]:
    """The variables that a script sets itself."""
    names = {step.name for step in script.steps if isinstance(step, Assign)}
    for at, step in enumerate(script.steps):
        if isinstance(step, Statement) and (prefix := step.prefix) is not None:
            names |= {prefix + name for name in columns[at]}
    return names


class Query:
    """One query of a script, run again and again with other parameters; prepared, unless some errors are tolerated.

    A statement that cannot be prepared yet (its column is still to be added) cannot be prepared at all.
    """

    def __init__(
        self, connection: psycopg.Connection[tuple[Any, ...]], script: Script, tolerate: frozenset[str] = frozenset()
    ) -> None:
        self._pgconn = connection.pgconn
        self._step = self.statement = script.statements[0]
        self._results: list[pq.abc.PGresult] = []
        self._path = script.path
        self._tolerate = tolerate
        if not tolerate:
            _prepare(connection.pgconn, script.path, self._step, _QUERY)

    def run(self, parameters: Sequence[bytes]) -> pq.abc.PGresult | None:
        """Return the rows, None for a tolerated error; raises ScenarioProblem or DatabaseProblem for another."""
        if self._tolerate:
            return self._usable(self._pgconn.exec_params(self._step.sql.encode(), list(parameters)))
        return self._usable(self._pgconn.exec_prepared(_QUERY, list(parameters)))

    def send(self, parameters: Sequence[bytes]) -> None:
        """Ask without waiting; `fetch` has the answer."""
        self._results = []
        if self._tolerate:
            self._pgconn.send_query_params(self._step.sql.encode(), list(parameters))
        else:
            self._pgconn.send_query_prepared(_QUERY, list(parameters))

    def fetch(self) -> list[pq.abc.PGresult] | None:
        """Take what has arrived: None if that is not all yet, no result for a tolerated error; raises as `run`."""
        self._pgconn.consume_input()
        while not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                return [usable for each in self._results if (usable := self._usable(each)) is not None]
            self._results.append(result)
        return None

    def _usable(self, result: pq.abc.PGresult) -> pq.abc.PGresult | None:
        if result.status in _OK:
            return result
        sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        if sqlstate in self._tolerate:
            return None
        message = one_line((result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace"))
        raise DatabaseProblem(f"{self._path}:{self._step.line}: {message or self._pgconn.get_error_message()}")
