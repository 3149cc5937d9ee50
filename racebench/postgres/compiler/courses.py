"""Which scripts a course (racebench.postgres.extension) can run: statements, behind `\\set` of what never changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from racebench.core.model import Assign, Script
from racebench.postgres.compiler.round_trips import Exchange, Instruction
from racebench.postgres.compiler.transactions import ends, is_commit
from racebench.workloads.expressions import depends_on

#: What a loop sets anew for each operation.
_OF_AN_OPERATION = frozenset({"operation", "version"})


def has_course(
    script: Script, parts: Sequence[tuple[int, Instruction]], stored: Collection[str], constants: Collection[str]
) -> bool:
    """Whether every operation is the first one again, with other answers, and ends with a commit.

    `stored`: the variables that answers set; `constants`: those that nothing but the script changes. A variable that is
    set once, before any statement, from what does not change, has in each operation the value that it has in the first.
    """
    if any(ends(statement) and not is_commit(statement) for statement in script.statements):
        return False
    assigned = [step.name for step in script.steps if isinstance(step, Assign)]
    known = set(constants) - {*assigned, *stored}
    fixed = {name for name in assigned if assigned.count(name) == 1} - {*_OF_AN_OPERATION, *stored}
    begun = False
    for _, part in parts:
        if isinstance(part, Exchange):
            begun = True
        elif isinstance(part, Assign) and not begun and part.name in fixed and depends_on(part.tree, known):
            known.add(part.name)
        else:
            return False
    return True
