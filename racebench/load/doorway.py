"""A port on 127.0.0.1 through which programs and services reach a server that has only a Unix socket.

Some drivers know no Unix socket (JDBC, postgres.js). A process of its own passes everything on as it is, and adds the
schema and the application name to the start-up packet, so that the URL is plain.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from racebench.core.errors import RacebenchError
from racebench.core.target import Target
from racebench.executors import Channel, Died, Executor, Failure, Worker
from racebench.postgres.proxy.link import State
from racebench.postgres.proxy.proxy import Proxy

HOST = "127.0.0.1"
_START_S = 60.0
_TICK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorwayTask:
    """Where to pass connections on to, and what to add to their start-up packet."""

    target: Target
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Opened:
    """The doorway is open, at this port."""

    port: int


def pass_on(task: DoorwayTask, channel: Channel) -> None:
    """Send Opened, then pass connections on until the driver has ended."""
    ended = threading.Event()

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                channel.receive()
        ended.set()

    with Proxy(task.target, task.parameters) as proxy:
        channel.send(Opened(proxy.listen()))
        threading.Thread(target=listen, name="racebench-doorway", daemon=True).start()
        while not ended.is_set():
            for link in proxy.poll(_TICK_S):
                if link.state is State.OPEN:
                    link.relay()


class Doorway:
    """The process of a doorway, for one run; a context manager that ends it. `port`: on HOST."""

    def __init__(self, executor: Executor, target: Target, parameters: Mapping[str, str]) -> None:
        self.port = 0
        self._executor = executor
        self._task = DoorwayTask(target=target, parameters=parameters)
        self._worker: Worker | None = None

    @classmethod
    def is_needed(cls, target: Target) -> bool:
        """Whether a server has only a Unix socket."""
        return target.parameters.get("host", "").startswith("/")

    def __enter__(self) -> Doorway:
        self._worker = self._executor.start(pass_on, self._task)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            for _, message in self._executor.messages([self._worker], _TICK_S):
                if isinstance(message, Opened):
                    self.port = message.port
                    return self
                self.close()
                if isinstance(message, Failure):
                    raise message.error
                cause = message.cause if isinstance(message, Died) else "it sent another message"
                raise RacebenchError(f"the process that passes connections on has ended ({cause}); run again")
        self.close()
        raise RacebenchError(f"the process that passes connections on was not ready within {_START_S:.0f} s; run again")

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and the connections that pass through it."""
        if self._worker is not None:
            worker, self._worker = self._worker, None
            worker.kill()
            self._executor.release([worker])
