"""What a process of a pool does, however it was started: it runs one task after the other, until its pipe is closed."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from racebench.executors import Channel, Failure
from racebench.executors.messages import packed, unpacked
from racebench.executors.parent import ParentWatch

#: What each worker of a load needs, and would import by itself if the process that it is forked from had not.
PRELOAD = (
    "racebench.executors.processes",
    "racebench.load.worker",
    "racebench.load.consumer",
    "racebench.load.call_worker",
    "racebench.load.callers.python",
)


class Task(NamedTuple):
    """What a process runs next."""

    function: Callable[[Any, Channel], None]
    task: object


class _PipeChannel:
    """The child's side of a pipe: an executors.Channel."""

    def __init__(self, pipe: Any) -> None:
        self.kept: dict[str, Any] = {}
        self._pipe = pipe

    def send(self, message: object) -> None:
        self._pipe.send_bytes(packed(message))

    def receive(self) -> Any:
        return unpacked(self._pipe.recv_bytes())

    def waiting(self, timeout: float = 0.0) -> bool:
        return bool(self._pipe.poll(timeout))


def mask(how: int, signals: Collection[int] = (signal.SIGINT,)) -> None:
    """Block or let through some signals (SIG_BLOCK, SIG_UNBLOCK), where the system can."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(how, signals)


def serve(pipe: Any) -> None:
    """Run tasks until the parent closes the pipe. Only the parent handles Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    mask(signal.SIG_UNBLOCK)
    watch = ParentWatch(pipe)
    channel = _PipeChannel(pipe)
    with contextlib.suppress(EOFError, OSError):
        while True:
            message = channel.receive()
            if not isinstance(message, Task):
                continue  # a message for a task that has failed: the parent sent it before it knew
            watch.working = True
            try:
                message.function(message.task, channel)
            except EOFError:
                return
            except Exception as error:  # noqa: BLE001 - handed to the parent, whole
                channel.send(Failure(error))
            finally:
                watch.working = False
