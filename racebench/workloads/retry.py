"""The retry rule without I/O: whether a failed operation is tried again, and how long it pauses first.

One rule for both drivers: `load` pauses before the next try, `exploration` does not and stops after fewer tries.
"""

from __future__ import annotations

from random import Random

from racebench.core.faults import is_fault
from racebench.core.model import Outcome, Retry

#: The longest pause, as a multiple of the first one's limit.
_MOST_BACKOFF = 16


def longest_pause_s(rule: Retry | None) -> float:
    """The longest pause between two tries, in seconds."""
    return 0.0 if rule is None else rule.backoff_ms * _MOST_BACKOFF / 1e3


class Tries:
    """The tries of one operation. `number`: the current one, from 1; `most`: a limit below the rule's own."""

    __slots__ = ("_most", "_rule", "number")

    def __init__(self, rule: Retry | None, most: int | None = None) -> None:
        self._rule = rule
        self._most = 1 if rule is None else rule.tries if most is None else min(rule.tries, most)
        self.number = 1

    def again(self, outcome: Outcome, sqlstate: str) -> bool:
        """Whether there is another try after this outcome; if there is, it becomes the current one.

        An operation whose outcome is unknown may have been committed. It is tried again only by a rule that asks for
        that (`lost`), as clients do that send again after a lost answer.
        """
        if not self.would_retry(outcome, sqlstate):
            return False
        self.number += 1
        return True

    def would_retry(self, outcome: Outcome, sqlstate: str) -> bool:
        """Whether the rule asks for another try after this outcome; the current one stays."""
        rule = self._rule
        if rule is None or outcome is Outcome.OK or self.number >= self._most:
            return False
        return (outcome is Outcome.FAIL and sqlstate in rule.sqlstates) or (rule.lost and is_fault(sqlstate))

    def pause_s(self, random: Random) -> float:
        """Seconds to wait before the current try, drawn with "full jitter" (model.Retry)."""
        if self._rule is None or self.number == 1:
            return 0.0
        longest_ms = self._rule.backoff_ms * min(2 ** (self.number - 2), _MOST_BACKOFF)
        return random.uniform(0, longest_ms) / 1e3
