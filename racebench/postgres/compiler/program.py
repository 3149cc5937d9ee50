"""Writes a script's function: straight-line Python that sends each round trip and keeps account of the transaction.

The function is a generator, so that one process can drive hundreds of connections: it yields None to wait until its
socket can be read, seconds to sleep and, if it is gated, the statements that it is about to send. For one connection
alone the same function waits by itself (`Waits`).

All source is written in this file. It calls the names of `SessionCalls` and `LoopCalls`, those of `_CONSTANTS`,
and what the connection provides for each round trip (`RoundTrip`). Its own variables are:

    v           the script's variables, by name
    roll_back   send ROLLBACK in place of COMMIT
    opened      whether a transaction is open; `was_open`: whether one was before the round trip under way
    committed   whether something has been committed for certain, `doubt` whether something may have been, should the
                connection be lost now; `rolled_back`: whether the script itself has rolled back
    outcome     what is known of the operation at its end
    at          the step to go on with, in a script with branches
    pause, data, size, a0, a1 …   used within one instruction

and in a loop `first`, `left`, `stop`, `start` and `tenant` (`ProgramWriter.loop`). If a course runs what is as usual,
also `done`, the operations that it has done, and `trip`, the round trip at which it stopped: its answer is in `data`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import lru_cache
from random import Random
from types import CodeType
from typing import Any

from racebench.core.errors import ScenarioProblem
from racebench.core.model import Assign, Branch, Jump, Outcome, Protocol, Script, Sleep, Statement
from racebench.postgres.compiler.round_trips import Exchange, Instruction
from racebench.postgres.compiler.transactions import ROLLBACK, begins, ends, is_commit, leaves_open, opens
from racebench.postgres.extension import Course
from racebench.workloads import expressions

#: The most bytes of a first recv: what Python's own allocator serves; few answers are longer. Then of the rest.
_SMALL = 448
_SIZE = 16_384

Steps = Generator[float | None, None, Any]


class Stopped(Exception):  # noqa: N818 - a refusal is no error of the program
    """The server refused a statement (`status` is the transaction's state then), or the connection was lost."""

    def __init__(self, sqlstate: str, message: str, *, status: bytes = b"", lost: bool = False) -> None:
        super().__init__(sqlstate, message)
        self.sqlstate, self.message, self.status, self.lost = sqlstate, message, status, lost


class Transport(Enum):
    """SOCKET: racebench writes and reads the bytes itself. LIBPQ: libpq does."""

    SOCKET = "socket"
    LIBPQ = "libpq"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How a program's round trips reach the server.

    `columns`: the names that each statement returns. `shown`: each answer is taken apart and shown to an observer.
    """

    transport: Transport
    protocol: Protocol
    columns: Mapping[Statement, Sequence[str]]
    shown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How a program waits: as a generator that its driver resumes, or by itself."""

    answer: str
    sleep: str
    drive: str


GENERATOR = Waits(answer="yield", sleep="yield {}", drive="yield from {}")
DIRECT = Waits(answer="ready()", sleep="sleep({})", drive="wait({})")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCalls:
    """What a program calls of its session.

    `stopped(why, in_doubt)`: classify what ended it early. `ready()`: wait until the socket can be read; `sleep(s)`;
    `wait(generator)`: drive a generator to its end.
    """

    random: Random
    stopped: Callable[[Stopped | OSError, bool], Outcome]
    wait: Callable[[Steps], Any]
    ready: Callable[[], object]
    sleep: Callable[[float], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopCalls:
    """What a loop calls of its worker.

    `clock()`: nanoseconds. `begin` and `finish` record an operation in `record`, which has its `count`. `line_up()`:
    once, before the first operation. `draw(v)`: draw an operation's tenant, and whether it rolls back. `due()`: seconds
    until the next operation is due. `again(v, outcome, roll_back, start, tenant)`: retry an operation that did not
    succeed and record it. `changed()`: whether the session is another now. `version(v)`: the number the script used.
    `course`: runs the operations as long as all is as usual, if there is one.
    """

    clock: Callable[[], int]
    begin: Callable[[int, int, int, int, int, int], None]
    finish: Callable[[int, int, int, int, int, int], None]
    record: Any
    line_up: Callable[[], None]
    draw: Callable[[dict[str, bytes | None]], tuple[int, bool]]
    due: Callable[[], float]
    again: Callable[[dict[str, bytes | None], Outcome, bool, int, int], Steps]
    changed: Callable[[], bool]
    version: Callable[[dict[str, bytes | None]], int]
    no_version: int
    committed_status: int
    course: Course | None = None


_CONSTANTS: Mapping[str, Any] = {
    "OK": Outcome.OK,
    "FAIL": Outcome.FAIL,
    "Stopped": Stopped,
    "ExpressionError": expressions.ExpressionError,
    "render": expressions.render,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    """One exchange of a program, known to its source by `number`.

    The connection provides, for number 0: `x0`, which takes the answer; over the socket also `m0`, the message, and
    `s0`, the shape of the usual answer, if it sets one variable. `values`: the variables that are sent, in order;
    `stored`: those that the answer sets, for each statement that sets any.
    """

    number: int
    statements: tuple[Statement, ...]
    values: tuple[str, ...]
    stored: tuple[tuple[str, ...], ...]
    shown: bool

    @property
    def variable(self) -> str | None:
        """The one variable that the answer sets; None if it sets none, or several."""
        return self.stored[0][0] if len(self.stored) == 1 and len(self.stored[0]) == 1 else None

    @property
    def recognizable(self) -> bool:
        """Whether an answer may be compared as bytes: not if it sets several variables, or is shown to an observer."""
        return (not self.stored or self.variable is not None) and not self.shown

    @property
    def leaves_open(self) -> bool | None:
        """Whether a transaction is open afterwards; None if it is as it was before."""
        return leaves_open(self.statements)


def sent_values(statements: Sequence[Statement], protocol: Protocol) -> tuple[str, ...]:
    """The variables whose values an exchange sends, in the order in which it sends them."""
    return tuple(
        name
        for statement in statements
        for name in (statement.slots if protocol is Protocol.SIMPLE else statement.parameters)
    )


@dataclass(slots=True, kw_only=True)
class Program:
    """A script's function as source: its parameters, its lines, and the step of each line, for messages.

    `round_trips` are what the connection has to provide, `gates` the statements before each of which it stops.
    """

    script: Script
    parameters: tuple[str, ...]
    body: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    round_trips: list[RoundTrip] = field(default_factory=list)
    gates: list[tuple[Statement, ...]] = field(default_factory=list)

    def source(self, names: Sequence[str] = ()) -> str:
        """The function's text, with some names bound as its defaults."""
        bound = [f"{name}={name}" for name in names]
        keywords = ["*", *bound] if bound else []
        return "\n".join([f"def program({', '.join([*self.parameters, *keywords])}):", *self.body])

    def compile(self, provided: Mapping[str, Any], session: SessionCalls, loop: LoopCalls | None = None) -> Any:
        """Make the function. `provided`: what the connection has for each round trip, by name."""
        names = {
            **_CONSTANTS,
            **provided,
            **_fields(session),
            **({} if loop is None else _fields(loop)),
            "trees": trees(self.script),
            "gates": self.gates,
            "fault": self._fault,
            "unfinished": self._unfinished,
        }
        # Bound as defaults, the names are found by position and not in a dictionary.
        used = set(re.findall(r"[A-Za-z_]\w*", "\n".join(self.body)))
        source = self.source([name for name in names if name in used])
        exec(_code(source), names)
        return names["program"]

    def _fault(self, problem: Exception) -> ScenarioProblem:
        """The script's own mistake, with the line it is on: the step of the program's line that raised it."""
        traceback = problem.__traceback__
        # The first line is the header.
        step = self.script.steps[self.steps[traceback.tb_lineno - 2] if traceback is not None else 0]
        what = f"variable :{problem.args[0]} is not set" if isinstance(problem, KeyError) else str(problem)
        return ScenarioProblem(f"{self.script.path}:{step.line}: {what}")

    def _unfinished(self) -> ScenarioProblem:
        line = self.script.steps[-1].line
        return ScenarioProblem(f"{self.script.path}:{line}: the script ends inside a transaction; end it with COMMIT;")


def _fields(calls: SessionCalls | LoopCalls) -> dict[str, Any]:
    return {each_field.name: getattr(calls, each_field.name) for each_field in fields(calls)}


def trees(script: Script) -> dict[int, expressions.Compiled]:
    """The expressions of a script's steps by index; a `\\sleep` of a variable has one too."""
    compiled: dict[int, expressions.Compiled] = {}
    for at, step in enumerate(script.steps):
        if isinstance(step, Assign | Branch):
            compiled[at] = expressions.compiled(step.tree)
        elif isinstance(step, Sleep) and isinstance(step.amount, str):
            compiled[at] = expressions.compiled(("var", step.amount))
    return compiled


#: Has the course run what it can. The first operation is the program's own: it teaches the course the usual answers.
_COURSE = (
    "done, trip, start, data = yield course.begin("
    "v, first + record.count, left if record.count else 0, stop, *record.room())",
    "record.skip(done)",
    "left -= done",
    "if trip < 0:",
    "    if not left:",
    "        return False",
)


class ProgramWriter:
    """Writes one program of a script, from its instructions and how they reach the server."""

    def __init__(
        self,
        script: Script,
        parts: Sequence[tuple[int, Instruction]],
        route: Route,
        *,
        waits: Waits = GENERATOR,
        gated: bool = False,
    ) -> None:
        self._script, self._parts, self._route = script, parts, route
        self._waits, self._gated = waits, gated
        self._resumes = False
        self._program = Program(script=script, parameters=())

    def _write(self, step: int, depth: int, *lines: str) -> None:
        self._program.body += ("    " * depth + line for line in lines)
        self._program.steps += [step] * len(lines)

    def once(self) -> Program:
        """Write `program(v, roll_back)`: runs the script once and returns the Outcome."""
        self._program.parameters = ("v", "roll_back")
        self._attempt(1)
        self._write(0, 1, "return outcome")
        return self._program

    def loop(self, *, draws: bool, due: bool, versioned: bool, course: bool = False) -> Program:
        """Write `program(v, first, left, stop)`: runs the script again and again, and records each operation.

        Operations are numbered from `first`. It ends when `left` operations are done or one would begin at `stop`, and
        returns True if it ended because the session `changed`. `draws`: something is drawn for each operation; `due`:
        each waits for its time; `versioned`: the script says which version it used. `course`: a course runs what is as
        usual; it is yielded, and the program goes on where it stopped. Nothing may be drawn or due then.
        """
        write, waits = self._write, self._waits
        self._resumes = course
        self._program.parameters = ("v", "first", "left", "stop")
        write(0, 1, "tenant, roll_back = 1, False", "while left > 0:")
        if due:
            write(0, 2, "pause = due()", "if pause > 0:", "    " + waits.sleep.format("pause"))
        inner = 2
        if course:
            write(0, 2, *_COURSE)
            inner = 3
        write(0, inner, "start = clock()", "if start >= stop:", "    return False")
        write(0, 2, "left -= 1")
        if draws:
            write(0, 2, "tenant, roll_back = draw(v)")
        write(0, 2, "v['operation'] = b'%d' % (first + record.count)")
        if course:
            write(0, 2, "if trip < 0:")
        if versioned:
            write(0, inner, "v['version'] = None")
        write(0, inner, "begin(start, 0, no_version, tenant, 1, 0)", "if not record.count:", "    line_up()")
        self._attempt(2)
        version = "version(v)" if versioned else "no_version"
        write(0, 2, "if outcome is OK:")
        write(0, 3, f"finish(start, clock(), {version}, tenant, 1, committed_status)", "continue")
        write(0, 2, waits.drive.format("again(v, outcome, roll_back, start, tenant)"))
        write(0, 2, "if changed():", "    return True")
        write(0, 1, "return False")
        return self._program

    def _attempt(self, depth: int) -> None:
        """Run the script once; `outcome` is what is known of it."""
        script, write = self._script, self._write
        jumps = any(isinstance(part, Branch | Jump) for _, part in self._parts)
        write(0, depth, "opened = committed = rolled_back = doubt = False", *(["at = 0"] if jumps else []), "try:")
        for index, part in self._parts:
            inner = depth + 1
            if jumps:  # they go forward only, so a step that can be skipped is an `if`
                write(index, inner, f"if at <= {index}:")
                inner += 1
            if isinstance(part, Exchange):
                statements = [step for at in part.steps if isinstance(step := script.steps[at], Statement)]
                write(index, inner, *self._exchange(statements))
            elif isinstance(part, Sleep):
                amount = f"(trees[{index}](v, random) or 0)" if isinstance(part.amount, str) else repr(part.amount)
                write(index, inner, f"pause = {amount} * {part.unit_us / 1e6!r}")
                write(index, inner, "if pause > 0:", "    " + self._waits.sleep.format("pause"))
            elif isinstance(part, Assign):
                write(index, inner, f"v[{part.name!r}] = render(trees[{index}](v, random))")
            elif isinstance(part, Branch):
                write(index, inner, f"if not trees[{index}](v, random):", f"    at = {part.otherwise}")
            else:
                write(index, inner, f"at = {part.to}")
        last = len(script.steps) - 1
        write(last, depth, "except (Stopped, OSError) as why:", "    outcome = stopped(why, doubt or committed)")
        write(last, depth, "except (KeyError, ExpressionError) as problem:", "    raise fault(problem) from None")
        write(last, depth, "else:", "    if opened:", "        raise unfinished()")
        write(last, depth, "    outcome = FAIL if rolled_back else OK")

    def _exchange(self, statements: Sequence[Statement]) -> Iterator[str]:
        """A round trip and what follows from its success; if it commits, beside its twin that rolls back instead."""
        if self._resumes or not any(is_commit(statement) for statement in statements):
            yield from self._round_trip(statements)
            return
        # Inside the exchange a BEGIN may open what its COMMIT ends.
        yield "if roll_back:" if any(begins(statement) for statement in statements) else "if roll_back and opened:"
        twins = [ROLLBACK if is_commit(statement) else statement for statement in statements]
        yield from _indented(self._round_trip(twins))
        yield "else:"
        yield from _indented(self._round_trip(statements))

    def _round_trip(self, statements: Sequence[Statement]) -> Iterator[str]:
        yield f"doubt = {_may_commit(statements)}"
        effects = _effects(statements)
        if any("was_open" in effect for effect in effects):
            yield "was_open = opened"
        yield f"# {'; '.join(' '.join(statement.text.split()) for statement in statements)}"
        program, route = self._program, self._route
        if self._gated:
            yield f"yield gates[{len(program.gates)}]"
            program.gates.append(tuple(statements))
        trip = RoundTrip(
            number=len(program.round_trips),
            statements=tuple(statements),
            values=sent_values(statements, route.protocol),
            stored=tuple(
                tuple(statement.prefix + column for column in route.columns[statement])
                for statement in statements
                if statement.prefix is not None
            ),
            shown=route.shown,
        )
        program.round_trips.append(trip)
        if route.transport is Transport.LIBPQ:
            yield from _over_libpq(trip, self._waits)
        else:
            lines = _over_socket(trip, route.protocol, self._waits)
            yield from self._resumed(trip, lines) if self._resumes else lines
        yield from effects

    def _resumed(self, trip: RoundTrip, lines: Iterator[str]) -> Iterator[str]:
        """A round trip of an operation that a course has begun: made, or answered by `data`, or still to be made."""
        yield f"if trip < {trip.number}:"
        yield from _indented(lines)
        yield f"elif trip == {trip.number}:"
        yield from _indented(_settle(trip, self._waits))
        if trip.leaves_open is not None:
            yield "else:"
            yield f"    opened = {trip.leaves_open}"


def _may_commit(statements: Sequence[Statement]) -> str:
    """Whether something may have been committed if the connection is lost during a round trip."""
    if any(is_commit(statement) for statement in statements):
        return "True"
    return "False" if begins(statements[0]) else "not opened"


def _effects(statements: Sequence[Statement]) -> list[str]:
    """What follows from a round trip that succeeded, in terms of `was_open`."""
    effects: list[str] = []
    open_now: bool | None = None  # None: as it was before
    for statement in statements:
        if is_commit(statement):
            if open_now is None:
                effects.append("rolled_back = rolled_back and not was_open")
            elif open_now:
                effects.append("rolled_back = False")
            effects.append("committed = True")
        elif ends(statement):
            effects.append("rolled_back = True")
        elif not begins(statement) and open_now is None:
            effects.append("committed = committed or not was_open")
        elif not begins(statement) and not open_now:
            effects.append("committed = True")
        if begins(statement) or ends(statement):
            open_now = opens(statement)
    return effects


def _over_socket(trip: RoundTrip, protocol: Protocol, waits: Waits) -> Iterator[str]:
    """Send a message, wait, and compare the answer with the usual one; take another apart. Ends with `opened` set."""
    yield from _send(trip, protocol)
    x, s = f"x{trip.number}", f"s{trip.number}"
    yield waits.answer
    yield f"data = recv({_SMALL})"
    settle = _settle(trip, waits)
    usual = [] if trip.leaves_open is None else [f"opened = {trip.leaves_open}"]
    if not trip.recognizable:
        yield from settle
    elif trip.variable is None:
        yield f"if data != {x}.reply:"
        yield from _indented(settle)
        if usual:
            yield "else:"
            yield from _indented(usual)
    else:
        yield f"size = len(data) - {s}.fixed"
        yield f"if size >= 0 and data.endswith({s}.after) and data.startswith({s}[size]):"
        yield from _indented([f"v[{trip.variable!r}] = data[{s}.at : {s}.at + size]", *usual])
        yield "else:"
        yield from _indented(settle)


def _settle(trip: RoundTrip, waits: Waits) -> list[str]:
    """Receive the rest of the answer that begins with `data`, and take it apart."""
    x = f"x{trip.number}"
    return [
        f"while not {x}.fetch(data):",
        f"    {waits.answer}",
        f"    data = recv({_SIZE})",
        f"opened = {x}.settle(v, opened)",
    ]


def _send(trip: RoundTrip, protocol: Protocol) -> Iterator[str]:
    """Send the message: bytes, if it has no values; else the template for the lengths of its values, filled in."""
    message = f"m{trip.number}"
    if protocol is Protocol.SIMPLE:
        values = "".join(f"v[{name!r}], " for name in trip.values)
        yield f"send(query({message}(({values}))))"
        return
    if not trip.values:
        yield f"send({message})"
        return
    local = {name: f"a{at}" for at, name in enumerate(dict.fromkeys(trip.values))}
    lengths = "".join(f"{local[name]} and len({local[name]}), " for name in trip.values)
    values = "".join(f'{local[name]} or b"", ' for name in trip.values)
    yield from (f"{variable} = v[{name!r}]" for name, variable in local.items())
    yield f"send({message}[{lengths}] % ({values}))"


def _over_libpq(trip: RoundTrip, waits: Waits) -> Iterator[str]:
    """Have libpq send and receive. Ends with `opened` set."""
    x = f"x{trip.number}"
    values = "".join(f"v[{name!r}], " for name in trip.values)
    yield f"{x}.submit(({values}))"
    yield waits.answer
    yield f"while not {x}.fetch():"
    yield f"    {waits.answer}"
    yield f"opened = {x}.settle(v, opened)"


def _indented(lines: Sequence[str] | Iterator[str]) -> Iterator[str]:
    return ("    " + line for line in lines)


@lru_cache(maxsize=64)
def _code(source: str) -> CodeType:
    """The code of a function's source: a process runs the same script again and again."""
    return compile(source, "<script>", "exec")
