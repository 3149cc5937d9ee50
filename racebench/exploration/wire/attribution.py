"""Which session a piece belongs to, where several requests share an instance of a service.

Only the runner, or a session that waited inside the application, can have sent it. What each of them sends when it runs
alone tells them apart: a session that has sent so many statements goes on with the next one of its own. If that fits
several, it is the one whose transaction is open on the connection, unless the application mixes them. If the runner
has responded, or goes on elsewhere, the piece is another's: of several that wait, the first one's (a pool is a queue).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Attributed(Protocol):
    """A session that may have sent a piece. `trace`: what it held when it ran alone; `texts`: all that it sent then.

    `reached`: how many of its trace it has sent in this schedule.
    """

    name: str
    trace: list[str]
    texts: set[str]
    reached: int

    @property
    def has_responded(self) -> bool:
        """Whether its response is complete."""

    @property
    def can_go_on(self) -> bool:
        """Whether it is at the gate, or waits for the server."""


@dataclass(frozen=True, slots=True)
class Found:
    """The session that a piece belongs to, and whether that is certain."""

    session: Attributed
    certain: bool


def attribute(text: str, runner: Attributed | None, inside: Sequence[Attributed], *, owner: object = None) -> Found:
    """The session that sent a piece with this text; `inside`: those that wait, the one first that has waited longest.

    There is at least one session. `owner`: whose transaction is open on the connection, if that is known.
    """
    able = [*([runner] if runner is not None else []), *inside]
    fits = [one for one in able if _next(one) == text] or [one for one in able if text in one.texts] or able
    if len(fits) == 1:
        return Found(fits[0], certain=True)
    if (owning := next((one for one in fits if one is owner), None)) is not None:
        return Found(owning, certain=True)
    waiting = [one for one in fits if one is not runner]
    if runner in fits and runner is not None:
        if runner.has_responded or runner.can_go_on:
            return Found(waiting[0], certain=True)
        return Found(runner, certain=False)
    return Found(waiting[0], certain=True)


def _next(session: Attributed) -> str | None:
    """What a session sends next, if it does as it did alone."""
    return session.trace[session.reached] if session.reached < len(session.trace) else None
