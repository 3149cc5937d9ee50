"""Sessions that never come to their end while the others wait for their turn: a retry without a limit, or a spin lock.

A search would take such a session's next step for ever, because its schedule never ends and no limit is looked at.
"""

from __future__ import annotations

from racebench.core.errors import UsageProblem
from racebench.exploration.sessions.session import Session

#: The steps in a row after which a session that sends few different statements, values included, counts as endless.
_MOST = 1_000
_FEW = 4


class Endless:
    """Watches the steps of a schedule."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Another schedule begins."""
        self._last, self._steps = 0, 0
        self._texts: dict[str, None] = {}

    def note(self, session: Session) -> None:
        """Note that a session takes a step; raises UsageProblem if it has only repeated itself for too long."""
        if session.number != self._last:
            self._last, self._steps = session.number, 0
            self._texts.clear()
        self._steps += 1
        if self._steps <= _MOST // 2 or len(self._texts) > _FEW:
            return
        self._texts[session.literal()] = None
        if self._steps < _MOST or len(self._texts) > _FEW:
            return
        texts = " and ".join(f"'{text}'" for text in self._texts)
        raise UsageProblem(
            f"{session.name} sends {texts} again and again, {self._steps:,} steps in a row, while others wait for "
            "their turn: give its retries a limit, or have it wait for the lock at the server"
        )
