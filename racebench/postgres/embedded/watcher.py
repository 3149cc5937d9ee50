"""Ends a program that racebench has started if the command ends without a word: by a shell that waits on a pipe.

Nothing in the program itself is relied on. The shell runs as the program's user: if the program's number is another
process's by now, that one is not reached.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from racebench.postgres.embedded.programs import start_program

#: Reads a word, which means that the program was stopped; at the end of the pipe without one it sends the signal.
_WATCHER = """
read -r word && exit
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    kill -{signal} "$1" 2>/dev/null || exit
    sleep 0.2
done
"""


@contextlib.contextmanager
def watched(pid: int, signal_name: str) -> Iterator[None]:
    """Have a program ended by a signal ("QUIT", "KILL"), sent until it has ended, if the command does not get to it.

    At the end of the block the program must have been stopped.
    """
    watcher = start_program(
        ["/bin/sh", "-c", _WATCHER.format(signal=signal_name), "sh", str(pid)],
        cwd=Path("/"),
        stdin=subprocess.PIPE,
        output=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        assert watcher.stdin is not None
        with contextlib.suppress(OSError):
            watcher.stdin.write(b"stopped\n")
            watcher.stdin.close()
        watcher.wait()
