"""The limits of an exploration that a call gives, checked."""

from __future__ import annotations

from typing import TypeVar

from racebench.core.defaults import MOST_EXPLORED_SESSIONS
from racebench.core.errors import UsageProblem

_Limit = TypeVar("_Limit", bound=float | None)


def sessions_of(number: int | None, default: int, *, alone: bool) -> int:
    """The number of sessions to explore; `alone`: there is no consumer beside them."""
    if number is None:
        return default
    if not 1 <= number <= MOST_EXPLORED_SESSIONS:
        raise UsageProblem(f"sessions is a number from 1 to {MOST_EXPLORED_SESSIONS}, not {number}")
    if number == 1 and alone:
        raise UsageProblem("sessions=1: a race needs two sessions; give 2 or more")
    return number


def from_0(name: str, number: int, most: int) -> int:
    if not 0 <= number <= most:
        raise UsageProblem(f"{name} is a number from 0 to {most}, not {number}")
    return number


def above_0(name: str, limit: _Limit) -> _Limit:
    """A limit of a search, which lets it run one schedule at least."""
    if limit is not None and not limit > 0:
        raise UsageProblem(f"{name} is a number above 0, not {limit}")
    return limit
