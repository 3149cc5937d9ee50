"""The compiled extension, where it is installed: what it offers, as types, and how it is found.

racebench/compiled/racebench_compiled.pyx runs the usual course of a session's operations. Without it the programs of
the compiler do the same in Python. RACEBENCH_COMPILED=0 leaves it out, so that both can be compared.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Sequence
from typing import Any, Protocol

#: Of a course that has stopped: operations done, the round trip (-1: between operations; their number: after the last),
#: the time at which the operation began, in ns, and the answer of that round trip, or the error.
Result = tuple[int, int, int, bytes | OSError | None]

#: A round trip: (head of its Bind message, the names of its values) of each statement, and the variable that it sets.
Trip = tuple[Sequence[tuple[bytes, Sequence[str]]], str | None]


class Course(Protocol):
    """Runs one session's operations as long as every answer is as usual."""

    def learn(self, trip: int, before: bytes, after: bytes = b"") -> None:
        """Take what the usual answer to a round trip is, or what stands before and after the row that sets a value."""

    def begin(self, *given: Any) -> Course:
        """Set what it does when a loop starts it: variables, number of the first operation, how many, end, records."""


class Loop(Protocol):
    """Waits for sockets and runs courses; used by one thread."""

    def watch(self, fd: int, /) -> None:
        """Wait for a socket from now on."""

    def forget(self, fd: int, /) -> None:
        """Do not wait for a socket any longer; it may have been closed."""

    def start(self, course: Any, /) -> None:
        """Run a course until `wait` returns its result."""

    def wait(self, timeout: float | None, /) -> Sequence[tuple[int, Any]]:
        """Return the sockets that can be read, and the results of courses; `timeout`: seconds, None for no limit."""

    def close(self) -> None:
        """Release what it holds."""


class Extension(Protocol):
    """The extension's module."""

    def Course(self, fd: int, trips: Sequence[Trip], begun: bytes, committed: bytes) -> Course:  # noqa: N802 - a class
        """Make a session's course. `begun` and `committed`: records whose times and version it fills in."""

    def Loop(self) -> Loop:  # noqa: N802 - a class
        """Make a loop."""


def extension() -> Extension | None:
    """The extension; None if it is not installed, or not wanted."""
    return None if os.environ.get("RACEBENCH_COMPILED") == "0" else _installed()


@functools.cache
def _installed() -> Extension | None:
    try:
        found: Any = importlib.import_module("racebench_compiled")
    except ImportError:
        return None
    module: Extension = found
    return module
