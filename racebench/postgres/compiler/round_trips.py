"""Divides a script into round trips: which statements are sent together and answered together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from racebench.core.errors import ScenarioProblem
from racebench.core.model import Assign, Branch, Jump, Pipeline, Protocol, Script, Sleep, Statement
from racebench.postgres.compiler.transactions import begins, ends, opens


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
    Raises ScenarioProblem for a pipeline that cannot be sent.
    """
    targets = {step.otherwise for step in script.steps if isinstance(step, Branch)}
    targets |= {step.to for step in script.steps if isinstance(step, Jump)}
    parts: list[tuple[int, Instruction]] = []
    together: list[int] = []
    opened: bool | None = False
    piped = False

    def flush() -> None:
        if together:
            parts.append((together[0], Exchange(tuple(together))))
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
            parts.append((at, step))
    flush()
    return parts


def _is_zero(step: Sleep, zero: frozenset[str]) -> bool:
    return step.amount in zero if isinstance(step.amount, str) else step.amount == 0


def _sends(script: Script, together: Sequence[int], name: str) -> bool:
    return any(name in step.parameters for at in together if isinstance(step := script.steps[at], Statement))


def _awaited(script: Script, together: Sequence[int], columns: Mapping[int, Sequence[str]]) -> set[str]:
    """The variables that the answers of these statements will set."""
    awaited = set()
    for at in together:
        statement = script.steps[at]
        assert isinstance(statement, Statement)
        if (prefix := statement.prefix) is not None:
            awaited |= {prefix + name for name in columns.get(at, ())}
    return awaited
