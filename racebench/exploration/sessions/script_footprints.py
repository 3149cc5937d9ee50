"""What the steps of a strategy's script may touch, read from the script once, before any schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from racebench.core.model import Assign, Pipeline, Script, Sleep, Statement
from racebench.exploration.independence import Footprint, footprint
from racebench.exploration.inspection import Facts
from racebench.exploration.resources import Reached
from racebench.postgres.compiler.transactions import begins


class ScriptFootprints:
    """What the steps of one script may touch; asked for each step, and found out once.

    A step is known by its identity: a compiled script yields the same tuple each time. `shares`: its sessions are
    clients of a pooler, and which server session they have may matter.
    """

    def __init__(
        self, script: Script, level: str | None, facts: Facts, reached: Reached | None, *, shares: bool = False
    ) -> None:
        reach = None if reached is None else reached.of
        self._touched = partial(footprint, isolation=level, volatile=facts.volatile, reach=reach)
        self._in_pipelines = _in_pipelines(script)
        self._after_begin = _after_begin(script, self._touched)
        self._ddl = _ddl(script, facts.ddl)
        #: With the step itself, so that its identity stays its own.
        self._known: dict[int, tuple[tuple[Statement, ...], Footprint]] = {}
        #: Whether BEGIN touches nothing, so that it may be taken together with the statement after it.
        self.begin_is_seen = facts.begin_is_seen
        self.begin_is_free = not facts.begin_is_seen and not shares  # the pooler gives a server session for a BEGIN

    def of(self, step: tuple[Statement, ...]) -> Footprint:
        if (known := self._known.get(id(step))) is None:
            known = self._known[id(step)] = (step, self._of(step))
        return known[1]

    def change_catalog(self, step: tuple[Statement, ...]) -> bool:
        """Whether a step, or the statement that a BEGIN is taken together with, may be DDL."""
        return any(id(statement) in self._ddl for statement in step)

    def _of(self, step: tuple[Statement, ...]) -> Footprint:
        if is_begin(step):
            # now() is the time of BEGIN.
            return Footprint.WRITE if self.begin_is_seen else self._after_begin.get(id(step[0]), Footprint.ANYTHING)
        if any(id(statement) in self._in_pipelines for statement in step):
            return Footprint.ANYTHING  # without a transaction it commits at its end
        return self._touched(step)


def is_begin(step: Sequence[Statement]) -> bool:
    """Whether a step is a BEGIN alone."""
    return len(step) == 1 and begins(step[0])


def _after_begin(script: Script, touched: Callable[[Sequence[Statement]], Footprint]) -> dict[int, Footprint]:
    """What the statement after each BEGIN may touch, by the BEGIN's identity; none for one before a branch."""
    touches = {}
    for place, step in enumerate(script.steps):
        if not isinstance(step, Statement) or not begins(step):
            continue
        after = next((other for other in script.steps[place + 1 :] if not isinstance(other, Assign | Sleep)), None)
        if isinstance(after, Statement):
            touches[id(step)] = touched([after])
    return touches


def _ddl(script: Script, texts: frozenset[str]) -> frozenset[int]:
    """The identities of the statements with one of these texts, and of the BEGINs right before them."""
    identities: set[int] = set()
    begin: set[int] = set()
    for step in script.steps:
        if isinstance(step, Statement):
            if step.sql in texts:
                identities |= {id(step)} | begin
            begin = {id(step)} if begins(step) else set()
    return frozenset(identities)


def _in_pipelines(script: Script) -> frozenset[int]:
    """The identities of the statements in pipelines: a pipeline commits at its end if no transaction was begun."""
    identities, inside = set(), False
    for step in script.steps:
        if isinstance(step, Pipeline):
            inside = step.start
        elif isinstance(step, Statement) and inside:
            identities.add(id(step))
    return frozenset(identities)
