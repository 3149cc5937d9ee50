"""A script as an exploration runs it: what the server would wrap in a transaction of its own is written as one.

An autocommitted INSERT is BEGIN, INSERT, COMMIT to the server; explored as one step it would hide the race between its
number and its commit. A plain read is left alone: nothing of it outlives it. So is what a transaction block would
change: what the server runs outside of one only, or inside of one only, and a call of what commits by itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from racebench.core.model import Assign, Branch, Jump, Pipeline, Script, Statement, Step
from racebench.exploration.independence import COMMITTING, Footprint, footprint
from racebench.postgres.compiler.transactions import begins, ends, opens
from racebench.workloads import expressions

#: What is another thing in a transaction block.
_OUTSIDE = frozenset({"VACUUM", "CLUSTER", "DISCARD", "SAVEPOINT", "RELEASE", "LOCK", "DECLARE"})
_ALONE = re.compile(r"\s*(CREATE|DROP|REINDEX|ALTER)\b.*\b(CONCURRENTLY|DATABASE|TABLESPACE|SYSTEM)\b", re.I | re.S)
_ENDS = re.compile(r"\b(COMMIT|ROLLBACK)\b", re.IGNORECASE)
#: Whether a transaction is open, where that depends on the way that was taken.
_OPEN = "racebench_open"
_CLOSED = expressions.parse(f":{_OPEN} = 0")


def in_transactions(script: Script, volatile: Collection[str] = ()) -> Script:
    """Put BEGIN and COMMIT around each statement that has no transaction, but for plain reads and pipelines.

    Where it depends on an \\if whether there is one, it is found out as the script runs.
    """
    opened = _opened(script.steps)
    unsure = any(len(each) > 1 for each in opened[:-1])
    made: list[Step] = []
    moved: list[int] = []  # where each step of the script went
    own: set[int] = set()  # branches that are not the script's
    if unsure:
        made.append(_set(0, script.steps[0]))
    piped = False
    for at, step in enumerate(script.steps):
        moved.append(len(made))
        if isinstance(step, Pipeline):
            piped = step.start
        if not isinstance(step, Statement) or piped:
            made.append(step)
            continue
        if begins(step) or ends(step):
            made.append(step)
            if unsure:
                made.append(_set(int(opens(step)), step))
        elif opened[at] == {True} or not _wrapped(step, volatile):
            made.append(step)
        else:
            for part in (_word("BEGIN", step), step, _word("COMMIT", step)):
                if True in opened[at] and part is not step:
                    made.append(Branch(line=step.line, tree=_CLOSED, otherwise=len(made) + 2))
                    own.add(id(made[-1]))
                made.append(part)
    moved.append(len(made))
    steps = tuple(
        replace(step, otherwise=moved[step.otherwise])
        if isinstance(step, Branch) and id(step) not in own
        else replace(step, to=moved[step.to])
        if isinstance(step, Jump)
        else step
        for step in made
    )
    return replace(script, steps=steps)


def _opened(steps: Sequence[Step]) -> list[set[bool]]:
    """Whether a transaction may be open before each step, and at the end: every way through the branches is gone."""
    found: list[set[bool]] = [set() for _ in range(len(steps) + 1)]
    found[0] = {False}
    for at, step in enumerate(steps):
        after = found[at]
        if isinstance(step, Statement) and (begins(step) or ends(step)):
            after = {opens(step)} if after else after
        if isinstance(step, Branch):
            found[step.otherwise] |= after
        found[step.to if isinstance(step, Jump) else at + 1] |= after
    return found


def _wrapped(step: Statement, volatile: Collection[str]) -> bool:
    """Whether a statement without a transaction is BEGIN, statement, COMMIT to everybody else, and not one step."""
    if step.keyword in _OUTSIDE or _ALONE.match(step.sql):
        return False
    if step.keyword in ("CALL", "DO") and (COMMITTING in volatile or _ENDS.search(step.sql)):
        return False
    return footprint([step], isolation=None, volatile=volatile) not in (Footprint.READ, Footprint.SERIALIZABLE_READ)


def _set(value: int, step: Step) -> Assign:
    return Assign(line=step.line, name=_OPEN, tree=expressions.parse(str(value)))


def _word(word: str, step: Statement) -> Statement:
    return Statement(line=step.line, text=word, sql=word, parameters=(), fragments=(word,))
