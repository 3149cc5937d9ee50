"""What follows for a run from a restart of the server in the middle of it.

That it restarted is found by racebench.postgres.restarts.
"""

from __future__ import annotations

from dataclasses import replace

from racebench.analysis.verdicts import decide
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict

#: How the note about a restart begins.
RESTARTED = "the server crashed or was restarted during the run"
#: What the loss of the last commits causes, whatever the strategy: the rows are gone, and their numbers, which a
#: consumer has passed, are given again. What is left is a state that the tables had, so that nothing else follows.
_CAUSED = frozenset({"lost", "missed", "redelivered", "inversions", "gaps", "out-of-order"})


def after_restart(result: RunResult, *, loses_commits: bool) -> RunResult:
    """The result of a run in which the server restarted.

    `loses_commits`: it may have lost acknowledged commits (synchronous_commit or fsync is off). Then the strategy is
    not accused of what that causes, and not cleared either.
    """
    if not loses_commits:
        lost = result.counts["lost"]
        guilt = (
            f"; {lost:,} acknowledged rows are gone, although synchronous_commit and fsync are on: "
            "look for the cause in the server and its disks, not in the strategy"
        )
        return replace(result, notes=(f"{RESTARTED}{guilt if lost else ''}", *result.notes))
    note = (
        f"{RESTARTED}, and may have lost acknowledged commits, because synchronous_commit or fsync is off; "
        f"{', '.join(sorted(_CAUSED))} are not counted against the strategy"
    )
    forbidden = tuple(kind for kind in result.forbidden if kind not in _CAUSED)
    return replace(
        result,
        verdict=decide(forbidden, result.counts, complete=False),
        forbidden=forbidden,
        upper_bound=None,
        as_expected=None if result.as_expected is None else False,
        consumers=tuple(replace(consumer, verdict=Verdict.UNKNOWN) for consumer in result.consumers),
        notes=(note, *result.notes),
    )
