"""On which machine each session ran, and how well its clock is known, for many operations at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.history.clocks import MachineClock

Array = npt.NDArray[Any]


class SessionClocks:
    """The machines of a history's sessions, numbered from 0; a session that no clock names has a machine of its own.

    `largest_ns`: the largest bound.
    """

    def __init__(self, clocks: Sequence[MachineClock]) -> None:
        machines = {session: number for number, clock in enumerate(clocks) for session in clock.sessions}
        self.count = len(clocks) + 1
        self.largest_ns = max(clock.bound_ns for clock in clocks)
        self._sessions = np.array(sorted(machines), np.int64)
        self._machines = np.array([machines[session] for session in sorted(machines)], np.int64)
        self._bounds = np.array([*(clock.bound_ns for clock in clocks), self.largest_ns], np.int64)

    def look_up(self, sessions: Array) -> tuple[Array, Array]:
        """The machine of each session, and the bound of its clock in nanoseconds."""
        machine = np.full(len(sessions), self.count - 1, np.int64)
        if len(self._sessions):
            at = np.minimum(np.searchsorted(self._sessions, sessions), len(self._sessions) - 1)
            machine = np.where(self._sessions[at] == sessions, self._machines[at], machine)
        return machine, self._bounds[machine]
