"""Counts the faults that stop the schedules of a search, and ends the search when a repetition does not help.

What a fault is, is said by faults.py; the world makes itself again (made_world.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from racebench.core import watching
from racebench.core.target import Target
from racebench.exploration.faults import PROBLEMS, Fault, fault_of
from racebench.exploration.search import Unsteady
from racebench.postgres.connection import connect
from racebench.postgres.reconnecting import reconnect

#: How often a schedule is repeated that faults stop each time.
MOST = 4
_Result = TypeVar("_Result")


class Repeats:
    """`faults`: those that stopped a schedule, in order. `stopped`: a fault has, and the world must be made again.

    `most`: how often a schedule may be stopped in a row and is repeated.
    """

    def __init__(self, most: int = MOST) -> None:
        self.faults: list[Fault] = []
        self.stopped = False
        self._most, self._in_a_row = most, 0
        self._watch = watching.current()

    def part(self, act: Callable[..., _Result], *arguments: Any) -> _Result:
        """A part of a schedule; raises Unsteady if a fault stops it, and Fault if it is one too many."""
        if self._watch is not None:
            self._watch.begin()
        try:
            return act(*arguments)
        except PROBLEMS as problem:
            self.stop(problem)
        finally:
            if self._watch is not None:
                self._watch.end()
        raise Unsteady

    def stop(self, problem: BaseException) -> None:
        """Stop the schedule because of a fault; raises the problem again if it is none, or one too many."""
        fault = fault_of(problem)
        if fault is None or getattr(problem, "__notes__", False):  # what was left behind must be said
            raise problem
        if self._watch is not None and self._watch.gave_up:
            raise Fault(f"{fault}; {self._watch.gave_up}", fault.sqlstate) from None
        self._in_a_row += 1
        if self._in_a_row > self._most:
            times = f"; it was tried {self._in_a_row} times" if self._in_a_row > 1 else ""
            raise Fault(f"{fault}{times}", fault.sqlstate) from None
        self.faults.append(fault)
        self.stopped = True

    def passed(self) -> None:
        """Note that a schedule was not stopped."""
        self._in_a_row = 0

    @property
    def notes(self) -> list[str]:
        """A sentence about the faults, if there were any."""
        if not self.faults:
            return []
        times = "1 schedule was" if len(self.faults) == 1 else f"{len(self.faults)} schedules were"
        return [f"{times} stopped by a fault and run again, with new connections; the last: {self.faults[-1]}"]


def await_server(target: Target) -> str:
    """Wait until a server that may have ended can be reached; the problem if it cannot be for too long, else ""."""
    connecting = reconnect(lambda: connect(target).close(), until_ns=sys.maxsize)
    try:
        while True:
            time.sleep(next(connecting))
    except StopIteration as done:
        return str(done.value)
