"""Connects a worker's session again after its connection was lost, as an application would.

One rule for the two kinds of worker. What is opened is theirs; other sessions of the process go on meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

from racebench.core.errors import ConnectionLost, DatabaseProblem

#: How long a server may be away: crash recovery of a small one takes seconds.
_RECONNECT_SECONDS = 10.0
_PAUSE_SECONDS = 0.05
#: How often a connection may be lost while it is being made ready for the start of a run.
_MOST_TRIES = 5


def reconnect(connect: Callable[[], object], until_ns: int) -> Generator[float, None, str]:
    """Connect again and again, with a pause that is yielded, in seconds, between two tries.

    Returns "", or the problem if the server cannot be reached for too long or until `until_ns` (perf_counter_ns).
    """
    deadline_ns = min(until_ns, time.perf_counter_ns() + int(_RECONNECT_SECONDS * 1e9))
    while True:
        try:
            connect()
        except DatabaseProblem as problem:
            if time.perf_counter_ns() > deadline_ns:
                return str(problem)
            yield _PAUSE_SECONDS
        else:
            return ""


def connect_first(connect: Callable[[], object]) -> None:
    """Connect before the start; a connection that is lost at once is replaced. Raises DatabaseProblem."""
    for _ in range(_MOST_TRIES - 1):
        try:
            connect()
        except ConnectionLost:
            continue
        return
    connect()
