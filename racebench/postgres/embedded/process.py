"""One process of an embedded server or standby: started with its watcher, watched until it is ready, and stopped.

It ends by `stop` or, if the command is killed, by its watcher (watcher.py). What it is started with, and where,
belongs to server.py and standby.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.core.signals import shielded
from racebench.postgres.embedded import template
from racebench.postgres.embedded.programs import start_program
from racebench.postgres.embedded.watcher import watcher

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
#: How long after a signal it is sent again.
_AGAIN_SECONDS = 0.1


class ServerProcess:
    """A server that was started. `what` is its name in messages: "the embedded server"; `log` is its log.

    `packed`: the template, if the command unpacks it first (template.unpacking). The watcher is dismissed, and what the
    program has said is closed, when the stack is.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        what: str,
        data: Path,
        log: Path,
        stack: contextlib.ExitStack,
        packed: IO[bytes] | None = None,
    ) -> None:
        self.what, self.log = what, log
        self._data = data
        self._said = stack.enter_context(contextlib.closing(tempfile.TemporaryFile()))  # noqa: SIM115
        errors, stdin = (subprocess.STDOUT, subprocess.DEVNULL) if packed is None else (self._said, packed)
        with log.open("wb") as output, shielded():
            # A backend that an exploration has stopped (SIGSTOP) does not end by itself: after 5 s the server ends it
            # by force. A background job of a shell ignores SIGQUIT, and so does the server until it has got that far.
            watch = stack.enter_context(watcher("QUIT"))
            self._process = start_program(list(command), cwd=data, output=output, errors=errors, stdin=stdin)
            watch(self._process.pid)

    @property
    def pid(self) -> int:
        """The postmaster's."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def wait_ready(self, is_ready: Callable[[], bool]) -> None:
        """Wait until it says in its log that it is ready; raises DatabaseProblem with the log's end."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                if code == template.NOT_UNPACKED:
                    self._said.seek(0)
                    raise template.not_unpacked(self._data, self._said.read().decode(errors="replace"))
                raise DatabaseProblem(
                    f"{self.what} did not start: {last_words(self.log)}; see {self.log}, "
                    "or try `racebench server reset`"
                )
            if is_ready():
                return
            time.sleep(0.002)
        raise DatabaseProblem(f"{self.what} was not ready within {_START_SECONDS:.0f} s; see {self.log}")

    def send(self, number: int) -> None:
        """Send a signal to the server, if it runs, and to what still unpacks its data."""
        if not self.ended:
            os.killpg(self.pid, number)

    def stop(self) -> None:
        """End it and wait for that, by force if need be: its data is not needed any more."""
        process = self._process
        deadline = time.monotonic() + _STOP_SECONDS
        while process.returncode is None and time.monotonic() < deadline:
            # Where SIGQUIT is ignored, as in a background job of a shell, it is so until the server sets its own.
            self.send(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_AGAIN_SECONDS)
        if process.returncode is None:
            self.send(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5.0)


def last_words(log: Path) -> str:
    """The gravest of the last lines of a server's log."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    grave = ("PANIC", "FATAL", "ERROR", "error")
    fatal = [line for word in reversed(grave) for line in lines if word in line and "terminating conn" not in line]
    return one_line((fatal or lines or ["nothing in its log"])[-1])
