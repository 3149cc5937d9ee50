"""From a script to Python: what travels together, and one straight-line generator function for all of it.

The function is run by whoever drives it: it yields None to wait for the server's answer and a number of seconds to
sleep, so that one process can drive one connection or hundreds. It is written once for a script, by the two ways of
talking to a server (exchanges.py) alike. Knows neither sockets nor psycopg.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from racebench import expression
from racebench.errors import ScenarioProblem
from racebench.model import Assign, Branch, Jump, Outcome, Pipeline, Protocol, Script, Sleep, Statement

_COMMITS = frozenset({"COMMIT", "END"})
_BEGINS = frozenset({"BEGIN", "START"})
_ENDS = frozenset({"COMMIT", "END", "ROLLBACK", "ABORT"})
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
            flush()
            piped = step.start
        elif isinstance(step, Statement):
            alone = not piped and (protocol is not Protocol.PIPELINED or not opened)
            if alone or (not piped and _awaited(script, together, columns) & set(step.parameters)):
                flush()
            together.append(at)
            if begins(step) or ends(step):
                opened = begins(step)
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


Steps = Callable[[dict[str, bytes | None], bool], Iterator[float | None]]


@dataclass(slots=True)
class Program:
    """The source of a script's function, and what it needs: exchanges to be made by number, and its twins.

    `exchanges[k]` are the statements of exchange k; `lines` is the step of each line of the source.
    """

    exchanges: list[tuple[Statement, ...]] = field(default_factory=list)
    source: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def compile(self, namespace: dict[str, Any]) -> Any:
        """Make the function; the namespace holds what the source calls (see `program`)."""
        exec(compile("\n".join(self.source), "<script>", "exec"), namespace)  # made here, names quoted
        return namespace["steps"]


def program(
    script: Script, parts: Sequence[tuple[int, Instruction]], emit: Callable[[int, Sequence[Statement]], list[str]]
) -> Program:
    """Write the function `steps(v, roll_back)`: a generator that returns the Outcome of running the script once.

    `emit(number, statements)` writes an exchange: lines that end with `opened` as the server says it is.
    The namespace must have what those lines call, and `evaluate`, `render`, `random`, `trees`, `stopped`, `fault`,
    `unfinished`, `OK` and `FAIL`. Jumps go forward only, so a step that can be skipped is an `if at <= index`.
    """
    made = Program()
    jumps = any(isinstance(part, Branch | Jump) for _, part in parts)

    def write(step: int, depth: int, *lines: str) -> None:
        for line in lines:
            made.source.append("    " * depth + line)
            made.lines.append(step)

    write(0, 0, "def steps(v, roll_back):")
    write(0, 1, "opened = committed = rolled_back = doubt = False", *(["at = 0"] if jumps else []), "try:")
    for index, part in parts:
        depth = 2
        if jumps:
            write(index, 2, f"if at <= {index}:")
            depth = 3
        if isinstance(part, Exchange):
            statements = [step for at in part.steps if isinstance(step := script.steps[at], Statement)]
            for line in _exchange(made, statements, emit):
                write(index, depth, line)
        elif isinstance(part, Sleep):
            amount = f"trees[{index}]" if isinstance(part.amount, str) else repr(("value", part.amount))
            write(index, depth, f"pause = (evaluate({amount}, v, random) or 0) * {part.unit_us / 1e6!r}")
            write(index, depth, "if pause > 0:", "    yield pause")
        elif isinstance(part, Assign):
            write(index, depth, f"v[{part.name!r}] = render(evaluate(trees[{index}], v, random))")
        elif isinstance(part, Branch):
            write(index, depth, f"if not evaluate(trees[{index}], v, random):", f"    at = {part.otherwise}")
        else:
            write(index, depth, f"at = {part.to}")
    last = len(script.steps) - 1
    write(last, 1, "except (Stopped, OSError) as why:", "    return stopped(why, doubt or committed)")
    write(last, 1, "except (KeyError, ExpressionError) as problem:", "    raise fault(problem) from None")
    write(last, 1, "if opened:", "    raise unfinished()", "return FAIL if rolled_back else OK")
    return made


def _exchange(
    made: Program, statements: list[Statement], emit: Callable[[int, Sequence[Statement]], list[str]]
) -> Iterator[str]:
    """An exchange and what follows from its success; if it commits, beside its twin that rolls back instead."""
    if not any(is_commit(statement) for statement in statements):
        yield from _one(made, statements, emit)
        return
    # Inside the exchange a BEGIN may open what its COMMIT ends.
    yield "if roll_back:" if any(begins(statement) for statement in statements) else "if roll_back and opened:"
    twins = [ROLLBACK if is_commit(statement) else statement for statement in statements]
    yield from ("    " + line for line in _one(made, twins, emit))
    yield "else:"
    yield from ("    " + line for line in _one(made, statements, emit))


def _one(
    made: Program, statements: list[Statement], emit: Callable[[int, Sequence[Statement]], list[str]]
) -> Iterator[str]:
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
            opened = str(begins(statement))
    # What they say of `opened` is meant of before the exchange.
    before = [effect for effect in effects if effect.endswith("not opened")]
    if before:
        yield "was_open = opened"
    number = len(made.exchanges)
    made.exchanges.append(tuple(statements))
    yield f"# {number}: {'; '.join(' '.join(statement.text.split()) for statement in statements)}"
    yield from emit(number, statements)
    yield from (effect.replace("not opened", "not was_open") for effect in effects)


def names_of(statements: Sequence[Statement], protocol: Protocol) -> list[str]:
    """The variables whose values an exchange sends, in the order in which it sends them."""
    return [
        name
        for statement in statements
        for name in (statement.slots if protocol is Protocol.SIMPLE else statement.parameters)
    ]


def trees(script: Script) -> dict[int, expression.Tree]:
    """The expressions of a script's steps by index; a `\\sleep` of a variable has one too."""
    found: dict[int, expression.Tree] = {}
    for at, step in enumerate(script.steps):
        if isinstance(step, Assign | Branch):
            found[at] = step.tree
        elif isinstance(step, Sleep) and isinstance(step.amount, str):
            found[at] = ("var", step.amount)
    return found


def namespace(script: Script, random: Any, **more: Any) -> dict[str, Any]:
    """What every program calls; the rest is its session's."""

    def unfinished() -> ScenarioProblem:
        return ScenarioProblem(
            f"{script.path}:{script.steps[-1].line}: the script ends inside a transaction; end it with COMMIT;"
        )

    return {
        "evaluate": expression.evaluate,
        "render": expression.render,
        "ExpressionError": expression.ExpressionError,
        "Stopped": Stopped,
        "random": random,
        "trees": trees(script),
        "unfinished": unfinished,
        "OK": Outcome.OK,
        "FAIL": Outcome.FAIL,
        **more,
    }
