"""One connection with one script: runs the script, and determines the outcome of each operation.

A script is compiled once (compiler/) for the way its bytes travel (transport.py). Workers, histories and reports are
others'.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from racebench.core.model import Assign, Outcome, Protocol, Script, Statement
from racebench.core.plain_text import one_line
from racebench.postgres.compiler.courses import has_course
from racebench.postgres.compiler.program import (
    DIRECT,
    GENERATOR,
    LoopCalls,
    Program,
    ProgramWriter,
    Route,
    SessionCalls,
    Stopped,
    Transport,
    Waits,
)
from racebench.postgres.compiler.round_trips import Exchange, Instruction, instructions
from racebench.postgres.compiler.transactions import ROLLBACK
from racebench.postgres.prepared import Prepared, prepare
from racebench.postgres.transport import Line, See, Variables, line_of


class Session:
    """One connection with one script compiled for it.

    `gated`: `steps` stops before each exchange and yields its statements; its driver decides when it goes on.
    After `run`, `sqlstate` is the error ("" if none) and `message` the server's message; `in_doubt`: whether something
    may have been committed before it. `zero`: variables that are
    always 0, so that a sleep of them is left out. `see` is shown each answer; `every_row`: with all its rows.
    `shared`: the session of the server may be another one in the next transaction, so that nothing is prepared by name;
    the protocol must be the simple one. `text`: as a Strategy's; the protocol is the simple one then.
    `switches`: it may go on over another connection.
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
        every_row: bool = False,
        shared: bool = False,
        text: bool = False,
        switches: bool = False,
    ) -> None:
        self._shared, self._text = shared, text
        protocol = Protocol.SIMPLE if text else protocol
        self._gated = gated
        self.connection = connection
        self.script = script
        self.sqlstate = ""
        self.message = ""
        self._alive = True
        self._failed = False
        self.in_doubt = False
        self._line: Line | None = None
        self._protocol = protocol
        try:
            prepared = self._prepare()
            self._line = line_of(
                connection, script.path, protocol, prepared, see, every_row=every_row, switches=switches
            )
            self._route = Route(
                transport=self._line.transport,
                protocol=protocol,
                columns={statement: known.columns for statement, known in prepared.items()},
                shown=see is not None,
            )
            columns = {
                at: prepared[step].columns for at, step in enumerate(script.steps) if isinstance(step, Statement)
            }
            self.ready = _ready(connection)
            self._random = Random(seed)
            self._stored = _stored(script, columns)
            self._sets = self._stored | {step.name for step in script.steps if isinstance(step, Assign)}
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
        """The number of the socket to wait for; -1 once libpq has closed it."""
        try:
            return self.connection.pgconn.socket
        except psycopg.OperationalError:
            return -1

    def close(self) -> None:
        """Close the connection."""
        if self._line is not None:
            self._line.close()
        self.connection.close()

    def detach(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Give the connection back to libpq, for another use of it: this session ends, and the connection does not."""
        if self._line is not None:
            self._line.close()
        os.set_blocking(self.connection.pgconn.socket, False)
        return self.connection

    def switch(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        """Go on over another connection, on which the same statements are prepared under the same names.

        Only if it was made to switch, and between two answers. Closing the connection that it leaves is its owner's.
        """
        assert self._line is not None
        if connection is not self.connection:
            self.connection = connection
            self.ready = _ready(connection)
            self._line.switch(connection.pgconn)

    def prepare_again(self) -> None:
        """Prepare every statement again, after what they name was made again; raises as the first time."""
        self.connection.pgconn.exec_(b"DEALLOCATE ALL")
        self._prepare()

    def _prepare(self) -> dict[Statement, Prepared]:
        """Prepare and plan every statement; the prepared statements are kept unless the protocol sends text."""
        pgconn, path = self.connection.pgconn, self.script.path
        own = (_UNLOCK, _CONFIGURE) if self._gated else ()
        # A session's first plan reads the catalog, which takes milliseconds: too long at the common start.
        statements = (*self.script.statements, ROLLBACK, *own)
        wanted = [(b"" if self._shared else b"racebench_%d" % at, one) for at, one in enumerate(statements)]
        known = prepare(pgconn, path, wanted, planned=not self._shared, later=self._text)
        prepared = {statement: one for (_, statement), one in zip(wanted, known, strict=True)}
        if self._protocol is Protocol.SIMPLE and not self._shared:
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
        course = None if loop is None else loop.course
        return program.compile(self._line.provide(program.round_trips, course), calls, loop)

    def _compile_one(self, statement: Statement) -> Any:
        """Compile a statement of racebench's own, sent without a gate."""
        script = Script(path=Path(statement.text), text=statement.text, steps=(statement,))
        return self._compile(self._writer(script, [(0, Exchange((0,)))]).once())

    @property
    def has_socket(self) -> bool:
        """Whether racebench itself writes and reads the socket; else libpq does, and closes it when it is lost."""
        return self._route.transport is Transport.SOCKET

    def has_course(self, constants: Collection[str]) -> bool:
        """Whether the extension can run the script over this connection. `constants`: variables that do not change."""
        assert self._line is not None
        return self._line.has_courses and has_course(self.script, self._parts, self._stored, constants)

    def loop(
        self, calls: LoopCalls, *, direct: bool, draws: bool, due: bool, records: tuple[bytes, bytes] | None = None
    ) -> Any:
        """Compile the script with the loop around it: ProgramWriter.loop says what it takes.

        Direct: a function that waits itself; else a generator that yields as `steps` does. With `records`, of an
        operation that has begun and of one that was committed, it also yields the course that runs its operations.
        """
        writer = self._writer(self.script, self._parts, waits=DIRECT if direct else GENERATOR)
        program = writer.loop(draws=draws, due=due, versioned="version" in self._sets, course=records is not None)
        if records is not None:
            assert self._line is not None
            calls = replace(calls, course=self._line.course(program.round_trips, *records))
        return self._compile(program, calls)

    def configure(self, name: str, value: str) -> None:
        """Change a setting of the session, waiting for the answer."""
        if self.alive:
            self.wait(self._configure({"name": name.encode(), "value": value.encode()}, False))

    def reseed(self, seed: str) -> None:
        """Set the seed of the script's random draws: sessions with the same seed draw the same."""
        self._random.seed(seed)

    def start_afresh(self) -> None:
        """Roll back an open transaction and release the session's locks, waiting for the answers."""
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
        """End a failed transaction, so that the next try starts clean; yields as `steps`.

        `sqlstate` and `message` stay those of the failure, unless the connection is lost now: then they are of that.
        """
        if self._failed:
            self._failed = False
            sqlstate, message, in_doubt = self.sqlstate, self.message, self.in_doubt
            yield from self._rollback({}, False)
            self.in_doubt = in_doubt
            if self._alive:
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
        """The outcome of an operation whose exchange did not succeed."""
        assert self._line is not None
        stopped = self._line.lost(why) if isinstance(why, OSError) else why
        self.sqlstate, self.message = stopped.sqlstate, one_line(stopped.message)
        self.in_doubt = in_doubt
        self._alive = not stopped.lost
        self._failed = stopped.status in (b"T", b"E")
        return Outcome.UNKNOWN if stopped.lost and in_doubt else Outcome.FAIL


def _ready(connection: psycopg.Connection[tuple[Any, ...]]) -> Callable[[], object]:
    """What waits until the connection's socket can be read."""
    # Not a blocking recv: on a Unix socket that wakes up whenever the server has read what it was sent.
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return poll.poll


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


def _stored(script: Script, columns: Mapping[int, Sequence[str]]) -> set[str]:
    """The variables that answers set; `columns`: what each statement returns, by its step."""
    return {
        prefix + name
        for at, step in enumerate(script.steps)
        if isinstance(step, Statement) and (prefix := step.prefix) is not None
        for name in columns[at]
    }
