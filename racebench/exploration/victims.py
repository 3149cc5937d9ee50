"""Which session of a deadlock the server aborts, and whether it aborted the one that was chosen.

A session looks for a deadlock once, its own deadlock_timeout after it began to wait: the one with the shortest is the
victim. Only a superuser may set it; for others the server decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from racebench.exploration.preparation import Preparation
from racebench.exploration.search import Unsteady
from racebench.exploration.sessions.session import Session, State

#: The shortest deadlock_timeout of a session; sessions must come to wait for each other within it. It is doubled, at
#: most to the second number, when a busy machine was slower than that.
_DEADLOCK_MS, _LONGEST_DEADLOCK_MS = 15, 2_000


@dataclass(frozen=True, slots=True)
class BeforeStep:
    """What was seen before a step: how often each session had been a victim, and which sessions waited."""

    deadlocks: Sequence[int]
    waiting: frozenset[int]


class Victims:
    """The victims of the deadlocks of one search. `first`: the session that is aborted, if it is in the deadlock."""

    def __init__(self) -> None:
        self.first = 1
        self._deadlock_ms = _DEADLOCK_MS
        self._wrong = False
        self._parts: Preparation

    def adopt(self, preparation: Preparation) -> None:
        """Go on with the parts of a world that has been made."""
        self._parts = preparation
        self.order(self.first)

    def order(self, first: int) -> None:
        """Have the server abort one session of each deadlock: this one, or else the one with the lowest number."""
        self.first = first
        scheduler = self._parts.scheduler
        sessions = sorted(self._parts.strategy_sessions, key=lambda session: (session.number != first, session.number))
        scheduler.victims = [session.number for session in sessions]
        if not self._parts.chooses_victims:
            return
        for place, session in enumerate(sessions, 1):
            # Stopped sessions do not look for a deadlock; only the victim does.
            times = place if scheduler.freezer is None else 1
            session.configure("deadlock_timeout", f"{self._deadlock_ms * times}ms")

    def begin(self) -> None:
        """Begin a schedule."""
        if self._wrong:
            self.order(self.first)
        self._wrong = False

    def before(self) -> BeforeStep:
        """What is seen before a step."""
        return BeforeStep(
            [session.deadlocks for session in self._parts.strategy_sessions],
            frozenset(other.number for other in self._parts.scheduler.sessions if other.state is State.WAITING),
        )

    def after(self, session: Session, before: BeforeStep) -> frozenset[int]:
        """The sessions of the deadlock that the step of a session led to; none if there was no deadlock."""
        compared = zip(self._parts.strategy_sessions, before.deadlocks, strict=True)
        victims = {other.number for other, deadlocks in compared if other.deadlocks > deadlocks}
        # A deadlock may be over before it was seen: then all that waited are suspects.
        suspects = before.waiting | {session.number} if victims else frozenset[int]()
        deadlock = self._parts.scheduler.deadlock or suspects
        self._wrong |= self._are_wrong(victims, deadlock)
        return deadlock

    def _are_wrong(self, victims: AbstractSet[int], deadlock: AbstractSet[int]) -> bool:
        """Whether a step had the server abort other sessions of a deadlock than the chosen one.

        It does so if the deadlock began after the chosen session had looked for it.
        """
        if not victims or not self._parts.chooses_victims or self._deadlock_ms >= _LONGEST_DEADLOCK_MS:
            return False
        among = {session.number for session in self._parts.strategy_sessions} & deadlock
        return bool(among) and min(among, key=self._parts.scheduler.victims.index) not in victims

    def check(self) -> None:
        """Raise Unsteady if the last step aborted the wrong session; from then on sessions look for deadlocks later."""
        if self._wrong:
            self._deadlock_ms *= 2
            raise Unsteady
