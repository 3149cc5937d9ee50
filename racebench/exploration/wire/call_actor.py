"""What a session does that calls a Python callable in this process: an actor (actors.py), whichever driver it uses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from typing import Any

from racebench.core.errors import UsageProblem
from racebench.core.model import Call
from racebench.core.plain_text import message_of
from racebench.exploration.sessions.failures import Failure, failure
from racebench.exploration.sessions.threads import Finished, SessionThread
from racebench.exploration.wire.actors import Ending
from racebench.workloads.callables import no_outcome, signature, where


class CallActor:
    """Calls a callable in a session's thread. `thread` makes the thread, given what to call when a call has ended.

    `given`: what the callable is given, asked in that thread. `draw`: the number of the draw of random numbers with
    which the next call begins. `failure`: how the last call failed, empty if it did not.
    """

    #: It works in this process.
    pids: Collection[int] = ()

    def __init__(
        self, call: Call, thread: Callable[[Callable[[], object]], SessionThread], function: Callable[[], Any]
    ) -> None:
        self.draw = 0
        self.failure: Failure = ()
        #: Becomes readable when the call has ended.
        self.arrived = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.call, self._function = call, function
        self._ending: Ending | None = None
        self._problem: UsageProblem | None = None
        self.thread = thread(self._notify)

    def _notify(self) -> None:
        if self.arrived >= 0:
            os.eventfd_write(self.arrived, 1)

    def begin(self) -> None:
        """Begin another call."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.arrived)
        self._ending = self._problem = None
        self.failure = ()
        self.thread.call(self._function, self.draw)

    @property
    def ended(self) -> bool:
        """Whether the call has returned, or raised an exception."""
        if self._ending is None and (finished := self.thread.finished()) is not None:
            self._ending = self._read(finished)
        return self._ending is not None

    @property
    def is_at_rest(self) -> bool:
        """True: the thread that calls it is the application's."""
        return True

    def _read(self, finished: Finished) -> Ending:
        """How the call ended. The exception is not kept: its traceback would keep connections open."""
        error = finished.error
        if error is None:
            return Ending(code="", said="", returned=finished.value)
        self._problem = no_outcome(self.call, error)
        self.failure = failure(error)
        said = f"raises {type(error).__name__}: {message_of(error)}{where(error)}"
        return Ending(code=signature(error), said=said, returned=None)

    def ending(self) -> Ending:
        """How the call has ended. Raises UsageProblem for what no call may do."""
        assert self._ending is not None  # it has ended
        if self._problem is not None:
            raise self._problem
        return self._ending

    def check(self) -> None:
        """It needs nothing but this process."""

    def stuck(self) -> str:
        """Where it stands, to follow a sentence."""
        return f": it is in Python at {self.thread.position()}"

    def close(self) -> None:
        """End the thread, if it can be ended; its connections are closed before."""
        self.thread.close()
        if self.arrived >= 0:
            arrived, self.arrived = self.arrived, -1
            os.close(arrived)
