"""Runs calls in threads of this process: what stands in place of functions of libraries meanwhile, for those threads.

They do not sleep, have random numbers and clocks of their own (randomness.py), and hand their context to executors
(ownership.py). How what they send to the server is held is interception.py's, or the wire gate's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from racebench.core.errors import UsageProblem
from racebench.exploration.sessions.ownership import Ownership
from racebench.exploration.sessions.patches import Function, Patch, all_applied
from racebench.exploration.sessions.randomness import Generators, Randomness, replacements
from racebench.exploration.sessions.rest import Rest
from racebench.exploration.sessions.threads import SessionThread


class Execution:
    """The threads of one exploration. Made and installed by the thread that schedules."""

    def __init__(self) -> None:
        self.ownership, self._rest = Ownership[SessionThread](), Rest()
        self._generators = Generators()
        self._process = os.getpid()

    @contextlib.contextmanager
    def installed(self, patches: Iterable[Patch]) -> Iterator[None]:
        """Put everything in its place, and these patches too."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.ownership.end)
            stack.enter_context(self._generators.kept())
            stack.enter_context(all_applied((*patches, *self._patches())))
            yield

    def _patches(self) -> Iterator[Patch]:
        yield Patch(ThreadPoolExecutor, "submit", self.ownership.submit(ThreadPoolExecutor.submit))
        # The time limits and the sleep of an event loop are real; its clock must be as well.
        yield Patch(asyncio.BaseEventLoop, "time", _real_clock(time.monotonic))
        yield Patch(time, "sleep", self._sleep(time.sleep))
        yield Patch(os, "_exit", self._exit(os._exit))
        for replacement in replacements(self._randomness):
            yield Patch(*replacement)

    def thread(self, number: int, notify: Callable[[], object] = bool) -> SessionThread:
        """Start the thread of a session, which draws random numbers of its own; `notify`: called when a call ends."""
        return SessionThread(number, self.ownership, self._generators, self._rest, notify)

    def _randomness(self) -> Randomness | None:
        """That of the session that this thread or task works for."""
        session = self.ownership.session()
        return None if session is None else session.randomness

    def _sleep(self, sleep: Function) -> Function:
        def slept(seconds: float) -> None:
            own = self._randomness()
            if own is None:
                sleep(seconds)
            else:
                own.sleep(seconds)

        return slept

    def _exit(self, exit_process: Function) -> Function:
        def refused(status: int) -> None:
            if self.ownership.session() is not None and os.getpid() == self._process:
                raise UsageProblem(f"the call ends its process (os._exit({status})); a call must return, or raise")
            exit_process(status)

        return refused


def _real_clock(monotonic: Function) -> Function:
    """The clock of an event loop, with the function that is time.monotonic while nothing is explored."""

    def read(loop: asyncio.BaseEventLoop) -> Any:  # noqa: ARG001 - all loops have the same
        return monotonic()

    return read
