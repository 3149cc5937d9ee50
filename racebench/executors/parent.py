"""Ends a process when its parent has ended, whatever the process is doing then.

A process that works reads no message for minutes, so a thread watches the pipe. It waits
in the kernel and takes no time from the loop. prctl's PR_SET_PDEATHSIG would not do: it is about the server that forked
a process, which lives as long as its children.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import Any

#: How long a process has to end by itself: one that works, and one that is closing what it has opened.
_WORKING_SECONDS = 1.0
_IDLE_SECONDS = 5.0


class ParentWatch:
    """Kills this process soon after the other end of a pipe was closed. `working`: it has a task."""

    def __init__(self, pipe: Any) -> None:
        self.working = False
        self._file = os.dup(pipe.fileno())  # the pipe's own number may be used for another file after its end
        threading.Thread(target=self._wait, name="racebench-parent-watch", daemon=True).start()

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._file, 0)  # an event of its own: the other end was closed
        poll.poll()
        time.sleep(_WORKING_SECONDS if self.working else _IDLE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)
