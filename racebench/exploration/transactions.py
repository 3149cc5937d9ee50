"""Makes implicit transactions explicit: an explored script has BEGIN and COMMIT where the server would add them.

For the server an autocommitted INSERT is BEGIN, INSERT, COMMIT. As one step it would hide the race between its number
and its commit. A plain read is not changed, because it has no effect after its end. Statements that a transaction block
would change are not changed either: those that the server runs only outside or only inside a block, and calls of
procedures that commit.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from racebench.core.model import Assign, Branch, Jump, Pipeline, Script, Statement, Step
from racebench.exploration.independence import COMMITTING, Footprint, footprint
from racebench.postgres.compiler.transactions import begins, ends, opens
from racebench.workloads import expressions

#: Statements that fail or have another meaning in a transaction block.
_OUTSIDE = frozenset({"VACUUM", "CLUSTER", "DISCARD", "SAVEPOINT", "RELEASE", "LOCK", "DECLARE"})
_ALONE = re.compile(r"\s*(CREATE|DROP|REINDEX|ALTER)\b.*\b(CONCURRENTLY|DATABASE|TABLESPACE|SYSTEM)\b", re.I | re.S)
_ENDS = re.compile(r"\b(COMMIT|ROLLBACK)\b", re.IGNORECASE)
#: The variable that says whether a transaction is open, where that depends on the branch that was taken.
_OPEN = "racebench_open"
_CLOSED = expressions.parse(f":{_OPEN} = 0")


def in_transactions(script: Script, volatile: Collection[str] = ()) -> Script:
    """Put BEGIN and COMMIT around each statement without a transaction, except plain reads and pipelines.

    Where it depends on an \\if whether there is a transaction, a variable of the script says so while it runs.
    """
    opened = _opened(script.steps)
    unsure = any(len(states) > 1 for states in opened[:-1])
    explicit: list[Step] = []
    moved: list[int] = []  # the new index of each step of the script
    added: set[int] = set()  # branches that are not the script's
    if unsure:
        explicit.append(_set(0, script.steps[0]))
    piped = False
    for at, step in enumerate(script.steps):
        moved.append(len(explicit))
        if isinstance(step, Pipeline):
            piped = step.start
        if not isinstance(step, Statement) or piped:
            explicit.append(step)
            continue
        if begins(step) or ends(step):
            explicit.append(step)
            if unsure:
                explicit.append(_set(int(opens(step)), step))
        elif opened[at] == {True} or not _wrapped(step, volatile):
            explicit.append(step)
        else:
            for part in (_word("BEGIN", step), step, _word("COMMIT", step)):
                if True in opened[at] and part is not step:
                    explicit.append(Branch(line=step.line, tree=_CLOSED, otherwise=len(explicit) + 2))
                    added.add(id(explicit[-1]))
                explicit.append(part)
    moved.append(len(explicit))
    steps = tuple(
        replace(step, otherwise=moved[step.otherwise])
        if isinstance(step, Branch) and id(step) not in added
        else replace(step, to=moved[step.to])
        if isinstance(step, Jump)
        else step
        for step in explicit
    )
    return replace(script, steps=steps)


def implicit(script: Script, explored: Script) -> frozenset[int]:
    """The identities of the statements that were put in: BEGIN and COMMIT where the server does both by itself."""
    own = {id(step) for step in script.steps}
    return frozenset(id(step) for step in explored.steps if isinstance(step, Statement) and id(step) not in own)


def _opened(steps: Sequence[Step]) -> list[set[bool]]:
    """Whether a transaction may be open before each step, and at the end, over every way through the branches."""
    states: list[set[bool]] = [set() for _ in range(len(steps) + 1)]
    states[0] = {False}
    for at, step in enumerate(steps):
        after = states[at]
        if isinstance(step, Statement) and (begins(step) or ends(step)):
            after = {opens(step)} if after else after
        if isinstance(step, Branch):
            states[step.otherwise] |= after
        states[step.to if isinstance(step, Jump) else at + 1] |= after
    return states


def _wrapped(step: Statement, volatile: Collection[str]) -> bool:
    """Whether a statement without a transaction is explored as BEGIN, statement, COMMIT."""
    if step.keyword in _OUTSIDE or _ALONE.match(step.sql):
        return False
    if step.keyword in ("CALL", "DO") and (COMMITTING in volatile or _ENDS.search(step.sql)):
        return False
    return footprint([step], isolation=None, volatile=volatile) not in (Footprint.READ, Footprint.SERIALIZABLE_READ)


def _set(value: int, step: Step) -> Assign:
    return Assign(line=step.line, name=_OPEN, tree=expressions.parse(str(value)))


def _word(word: str, step: Statement) -> Statement:
    return Statement(line=step.line, text=word, sql=word, parameters=(), fragments=(word,))
