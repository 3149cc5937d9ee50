"""What the kernel says of a thread: its state, and whether it has run since (proc(5)). Linux only.

Whose threads they are, and what follows from it, is the callers': wire/rest.py of the processes of an application,
sessions/rest.py of the threads of this process.
"""

from __future__ import annotations

import os
import threading
from functools import cache

#: The states of a thread that does not go on by itself: asleep, idle in the kernel, stopped, traced, ended.
#: Not D, which is asleep until a device answers, and goes on then.
_AT_REST = frozenset(b"SItTZX")
#: Longer than any of the lines.
_LINE = 1024


class KernelThread:
    """A thread of any process. Its files stay open, so that a look costs 2 µs; another thread with its id is not seen.

    Every method raises OSError if the thread has ended.
    """

    __slots__ = ("_ran", "_state", "process", "tid")

    def __init__(self, process: int, tid: int) -> None:
        """`process`: the id of its process. Raises OSError if there is no such thread."""
        self.process, self.tid = process, tid
        self._state = self._ran = -1
        try:
            self._state = os.open(f"/proc/{process}/task/{tid}/stat", os.O_RDONLY)
            self._ran = os.open(f"/proc/{process}/task/{tid}/schedstat", os.O_RDONLY)
        except OSError:
            self.close()
            raise

    def at_rest(self) -> bool:
        """Whether it is asleep, stopped or ended at this moment."""
        line = os.pread(self._state, _LINE, 0)
        return line[line.rindex(b")") + 2] in _AT_REST  # its name may have parentheses too

    def activity(self) -> bytes:
        """Its processor time, and how often it was given a processor: equal if it has not run in between."""
        return os.pread(self._ran, _LINE, 0)

    def processor_time_ns(self) -> int:
        """How long it has run."""
        return int(self.activity().split()[0])

    def name(self) -> str:
        """Its name, of at most 15 characters."""
        line = os.pread(self._state, _LINE, 0)
        return line[line.index(b"(") + 1 : line.rindex(b")")].decode(errors="replace")

    def close(self) -> None:
        """Close its files."""
        for descriptor in (self._state, self._ran):
            if descriptor >= 0:
                os.close(descriptor)
        self._state = self._ran = -1


@cache
def available() -> bool:
    """Whether the kernel says when a thread ran: Linux does, unless it was built without that."""
    try:
        thread = KernelThread(os.getpid(), threading.get_native_id())
    except OSError:
        return False
    turns = int(thread.activity().split()[2])  # always 0 where the kernel does not count them
    thread.close()
    return turns > 0
