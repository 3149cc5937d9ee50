"""Ends a program that racebench has started if the command ends without a word: by a shell that waits on a pipe.

Nothing in the program itself is relied on. The shell is there before the program, and is told its number as soon as it
has one. It runs as the program's user: if the number is another process's by now, that one is not reached.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from racebench.postgres.embedded.programs import start_program

#: Reads the program's number, and then a word, which means that the program was stopped; at the end of the pipe without
#: that word it sends the signal.
_WATCHER = """
read -r number || exit
read -r word && exit
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    kill -{signal} "$number" 2>/dev/null || exit
    sleep 0.2
done
"""


@contextlib.contextmanager
def watcher(signal_name: str) -> Iterator[Callable[[int], None]]:
    """Have a program ended by a signal ("QUIT", "KILL"), sent until it has ended, if the command does not get to it.

    The block is given a function, to call with the program's number as soon as it has started the program. At its end
    the program must have been stopped.
    """
    shell = start_program(
        ["/bin/sh", "-c", _WATCHER.format(signal=signal_name)],
        cwd=Path("/"),
        stdin=subprocess.PIPE,
        output=subprocess.DEVNULL,
    )
    assert shell.stdin is not None
    pipe = shell.stdin

    def watch(pid: int) -> None:
        with contextlib.suppress(OSError):  # another process has ended the shell
            pipe.write(b"%d\n" % pid)
            pipe.flush()

    try:
        yield watch
    finally:
        with contextlib.suppress(OSError):
            pipe.write(b"stopped\n")
        with contextlib.suppress(OSError):
            pipe.close()
        shell.wait()
