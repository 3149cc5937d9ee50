"""From a script to Python: what travels together, and one straight-line function for all of it.

The function is a generator that yields None to wait for the server's answer and a number of seconds to sleep, so that
one process can drive hundreds of connections; for one alone, the same lines wait themselves. It is written once for a
script, whichever way it talks to its server (exchanges.py). Knows neither sockets nor psycopg.
Why not an interpreter: beside 31 other processes, what counts is how little of Python each wakes up (performance.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from racebench.core.errors import ScenarioProblem
from racebench.core.model import Assign, Branch, Jump, Outcome, Pipeline, Protocol, Script, Sleep, Statement
from racebench.workloads import expressions

_COMMITS = frozenset({"COMMIT", "END"})
_BEGINS = frozenset({"BEGIN", "START"})
_ENDS = frozenset({"COMMIT", "END", "ROLLBACK", "ABORT"})
_CHAIN = re.compile(r"\bAND\s+CHAIN\b", re.IGNORECASE)
_TO_SAVEPOINT = re.compile(r"\s*ROLLBACK\s+(WORK\s+|TRANSACTION\s+)?TO\b", re.IGNORECASE)

#: What `--rollback` sends in place of COMMIT.
ROLLBACK = Statement(line=0, text="ROLLBACK", sql="ROLLBACK", parameters=(), fragments=("ROLLBACK",))


class Stopped(Exception):  # noqa: N818 - a refusal is no error of ours
    """The server refused a statement (`status` is the transaction's state then), or the connection was lost."""

    def __init__(self, sqlstate: str, message: str, *, status: bytes = b"", lost: bool = False) -> None:
        super().__init__(sqlstate, message)
        self.sqlstate, self.message, self.status, self.lost = sqlstate, message, status, lost


def is_commit(statement: Statement) -> bool:
    return statement.keyword in _COMMITS


def begins(statement: Statement) -> bool:
    return statement.keyword in _BEGINS


def ends(statement: Statement) -> bool:
    """Whether a statement ends a transaction: COMMIT and ROLLBACK, but not ROLLBACK TO a savepoint."""
    return statement.keyword in _ENDS and not _TO_SAVEPOINT.match(statement.sql)


def opens(statement: Statement) -> bool:
    """Whether a transaction is open after a statement that begins or ends one: COMMIT AND CHAIN does both."""
    return begins(statement) or bool(_CHAIN.search(statement.sql))


@dataclass(frozen=True, slots=True)
class Exchange:
    """Statements (as indexes of steps) that are sent together and answered together: one round trip."""

    steps: tuple[int, ...]


Instruction = Exchange | Sleep | Assign | Branch | Jump


def instructions(
    script: Script, protocol: Protocol, columns: Mapping[int, Sequence[str]], zero: frozenset[str] = frozenset()
) -> list[tuple[int, Instruction]]:
    """Divide a script into round trips; each instruction with the index of its first step.

    `columns` are the names that each statement returns, by its index; `zero` are variables that are always 0, so that
    a `\\sleep` of them is none. A statement joins the one before it only inside a transaction (else two would become
    one), only under `pipelined`, and only if it needs nothing that is answered in the same round trip.
    """
    targets = {step.otherwise for step in script.steps if isinstance(step, Branch)}
    targets |= {step.to for step in script.steps if isinstance(step, Jump)}
    made: list[tuple[int, Instruction]] = []
    together: list[int] = []
    opened: bool | None = False
    piped = False

    def flush() -> None:
        if together:
            made.append((together[0], Exchange(tuple(together))))
            together.clear()

    for at, step in enumerate(script.steps):
        if at in targets:
            flush()
            opened = None
        if isinstance(step, Pipeline):
            if protocol is Protocol.SIMPLE:
                raise ScenarioProblem(
                    f"{script.path}:{step.line}: a pipeline cannot travel by the simple protocol, as in pgbench; "
                    "use --protocol prepared"
                )
            flush()
            piped = step.start
        elif isinstance(step, Statement):
            alone = not piped and (protocol is not Protocol.PIPELINED or not opened)
            if alone or (not piped and _awaited(script, together, columns) & set(step.parameters)):
                flush()
            together.append(at)
            if begins(step) or ends(step):
                opened = opens(step)
            if not piped and ends(step):
                flush()
        elif not (isinstance(step, Sleep) and _is_zero(step, zero)):
            if not piped:
                flush()
            elif isinstance(step, Assign) and _sends(script, together, step.name):
                raise ScenarioProblem(
                    f"{script.path}:{step.line}: \\set {step.name} inside a pipeline that has sent :{step.name}; "
                    "use another name, or set it before \\startpipeline"
                )
            made.append((at, step))
    flush()
    return made


def _is_zero(step: Sleep, zero: frozenset[str]) -> bool:
    return step.amount in zero if isinstance(step.amount, str) else step.amount == 0


def _sends(script: Script, together: Sequence[int], name: str) -> bool:
    return any(name in step.parameters for at in together if isinstance(step := script.steps[at], Statement))


def _awaited(script: Script, together: Sequence[int], columns: Mapping[int, Sequence[str]]) -> set[str]:
    """The variables that the answers of these statements will set."""
    found = set()
    for at in together:
        statement = script.steps[at]
        assert isinstance(statement, Statement)
        prefix = statement.gset if statement.gset is not None else statement.aset
        if prefix is not None:
            found |= {prefix + name for name in columns.get(at, ())}
    return found


@dataclass(slots=True)
class Program:
    """The source of a script's function and the step of each of its lines."""

    source: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    gates: list[tuple[Statement, ...]] = field(default_factory=list)

    def compile(self, namespace: dict[str, Any]) -> Any:
        """Make the function; the namespace holds all that the source calls, and becomes its locals."""
        used = set(re.findall(r"[A-Za-z_]\w*", "\n".join(self.source)))
        names = [name for name in namespace if name in used]
        # As arguments they are found by position, not by name.
        source = [self.source[0].replace("*_", ", ".join(["*_", *(f"{name}={name}" for name in names)]))]
        exec(compile("\n".join(source + self.source[1:]), "<script>", "exec"), namespace)
        return namespace["program"]


Emit = Callable[[Sequence[Statement]], list[str]]


class Writer:
    """Writes a script's program, from its instructions and what its exchanges are to a connection (`emit`).

    The program is a generator; a direct one waits itself, by the `ready` and `sleep` of its namespace. A gated one
    stops before each exchange: it yields the statements (`Program.gates`), and sends them when it is asked to go on.
    """

    def __init__(
        self,
        script: Script,
        parts: Sequence[tuple[int, Instruction]],
        emit: Emit,
        *,
        direct: bool = False,
        gated: bool = False,
    ) -> None:
        self._script, self._parts, self._emit, self._direct, self._gated = script, parts, emit, direct, gated
        self._made = Program()

    def _write(self, step: int, depth: int, *lines: str) -> None:
        for line in lines:
            text = _waiting(line) if self._direct else line
            self._made.source.append("    " * depth + text)
            self._made.lines.append(step)

    def once(self) -> Program:
        """Write `program(v, roll_back)`: runs the script once and returns the Outcome.

        `v` are the variables. The namespace must have what `emit`'s lines call, and `trees`, `render`, `random`,
        `Stopped`, `stopped`, `ExpressionError`, `fault`, `unfinished`, `OK` and `FAIL`.
        """
        self._write(0, 0, "def program(v, roll_back, *_):")
        self._attempt(1)
        self._write(0, 1, "return outcome")
        return self._made

    def loop(self, *, draws: bool, due: bool, versioned: bool) -> Program:
        """Write `program(v, first, left, stop)`: runs the script again and again, and records each operation.

        Until `left` operations are done or one would begin at `stop`; True if it ended because the session
        `changed`. `draws`: something is drawn for each operation (`draw`); `due`: each waits for its time (`due`);
        `versioned`: the script says which version it used. The namespace must have besides `clock`, `begin`, `finish`,
        `record`, `line_up`, `again`, `changed`, `version`, `NO_VERSION` and `COMMITTED`.
        """
        write = self._write
        write(0, 0, "def program(v, first, left, stop, *_):")
        write(0, 1, "tenant, roll_back = 1, False", "while left > 0:")
        if due:
            write(0, 2, "pause = due()", "if pause > 0:", "    yield pause")
        write(0, 2, "start = clock()", "if start >= stop:", "    return False", "left -= 1")
        if draws:
            write(0, 2, "tenant, roll_back = draw(v)")
        write(0, 2, "v['operation'] = b'%d' % (first + record.count)")
        if versioned:
            write(0, 2, "v['version'] = None")
        write(0, 2, "begin(start, 0, NO_VERSION, tenant, 1, 0)", "if not record.count:", "    line_up()")
        self._attempt(2)
        said = "version(v)" if versioned else "NO_VERSION"
        write(0, 2, "if outcome is OK:", f"    finish(start, clock(), {said}, tenant, 1, COMMITTED)", "    continue")
        write(0, 2, "yield from again(v, outcome, roll_back, start, tenant)", "if changed():", "    return True")
        write(0, 1, "return False")
        return self._made

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
                write(index, inner, "if pause > 0:", "    yield pause")
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

    def _exchange(self, statements: list[Statement]) -> Iterator[str]:
        """An exchange and what follows from its success; if it commits, beside its twin that rolls back instead."""
        if not any(is_commit(statement) for statement in statements):
            yield from self._one(statements)
            return
        # Inside the exchange a BEGIN may open what its COMMIT ends.
        yield "if roll_back:" if any(begins(statement) for statement in statements) else "if roll_back and opened:"
        twins = [ROLLBACK if is_commit(statement) else statement for statement in statements]
        yield from ("    " + line for line in self._one(twins))
        yield "else:"
        yield from ("    " + line for line in self._one(statements))

    def _one(self, statements: list[Statement]) -> Iterator[str]:
        # If the connection is lost now, may something have been committed?
        if any(is_commit(statement) for statement in statements):
            yield "doubt = True"
        elif begins(statements[0]):
            yield "doubt = False"
        else:
            yield "doubt = not opened"
        effects, opened = [], "opened"
        for statement in statements:
            if is_commit(statement):
                effects.append(f"rolled_back = rolled_back and not {opened}")
                effects.append("committed = True")
            elif ends(statement):
                effects.append("rolled_back = True")
            elif not begins(statement) and opened != "True":
                effects.append("committed = True" if opened == "False" else "committed = committed or not opened")
            if begins(statement) or ends(statement):
                opened = str(opens(statement))
        # What the effects say of `opened` is meant of before the exchange.
        if any(effect.endswith("not opened") for effect in effects):
            yield "was_open = opened"
        yield f"# {'; '.join(' '.join(statement.text.split()) for statement in statements)}"
        if self._gated:
            yield f"yield gates[{len(self._made.gates)}]"
            self._made.gates.append(tuple(statements))
        yield from self._emit(statements)
        yield from (effect.replace("not opened", "not was_open") for effect in effects)


def _waiting(line: str) -> str:
    """A generator's line as a direct program has it."""
    text = line.lstrip()
    indent = line[: len(line) - len(text)]
    if text == "yield":
        return f"{indent}ready()"
    if text.startswith("yield from "):
        return f"{indent}wait({text.removeprefix('yield from ')})"
    return f"{indent}sleep({text.removeprefix('yield ')})" if text.startswith("yield ") else line


def leaves_open(statements: Sequence[Statement]) -> bool | None:
    """Whether a transaction is open after an exchange that succeeds; None if it is as it was before."""
    for statement in reversed(statements):
        if begins(statement) or ends(statement):
            return opens(statement)
    return None


def names_of(statements: Sequence[Statement], protocol: Protocol) -> list[str]:
    """The variables whose values an exchange sends, in the order in which it sends them."""
    return [
        name
        for statement in statements
        for name in (statement.slots if protocol is Protocol.SIMPLE else statement.parameters)
    ]


def trees(script: Script) -> dict[int, expressions.Compiled]:
    """The expressions of a script's steps by index; a `\\sleep` of a variable has one too."""
    found: dict[int, expressions.Compiled] = {}
    for at, step in enumerate(script.steps):
        if isinstance(step, Assign | Branch):
            found[at] = expressions.compiled(step.tree)
        elif isinstance(step, Sleep) and isinstance(step.amount, str):
            found[at] = expressions.compiled(("var", step.amount))
    return found


def namespace(script: Script, random: Any, **more: Any) -> dict[str, Any]:
    """What every program calls; the rest is its session's."""

    def unfinished() -> ScenarioProblem:
        return ScenarioProblem(
            f"{script.path}:{script.steps[-1].line}: the script ends inside a transaction; end it with COMMIT;"
        )

    return {
        "render": expressions.render,
        "ExpressionError": expressions.ExpressionError,
        "Stopped": Stopped,
        "random": random,
        "trees": trees(script),
        "unfinished": unfinished,
        "OK": Outcome.OK,
        "FAIL": Outcome.FAIL,
        **more,
    }
