"""A service under test: started on a free port, waited for until it answers, watched, and stopped.

The requests are racebench.workloads.http's; its process is racebench.workloads.processes'.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable

from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.model import HttpRequest, Service
from racebench.workloads.addresses import Environment
from racebench.workloads.applications import address_of, called
from racebench.workloads.http import HttpClient, NoAnswer
from racebench.workloads.processes import Process

#: How long a service may take until it is ready, in seconds.
READY_S = 60.0
_ASK_AGAIN_S = 0.02
_ANSWER_S = 5.0
#: Ports that no system hands out for connections by itself (Linux: ip_local_port_range begins at 32768).
_FIRST_PORT, _LAST_PORT = 20_000, 32_000
_TRIES = 200
#: Where a server that was told "localhost" listens.
_HOSTS = ("127.0.0.1", "::1")


class RunningService:
    """A service that answers at `host` and `port`. `process`: None if it was started elsewhere."""

    def __init__(self, service: Service, host: str, port: int, process: Process | None) -> None:
        self.service = service
        self.host, self.port = host, port
        self.process = process

    @classmethod
    def start(
        cls,
        service: Service,
        environment: Environment,
        *,
        ready_s: float = READY_S,
        meanwhile: Callable[[float], None] = time.sleep,
    ) -> RunningService:
        """Start a service, and wait until it is ready; of one with a `url`, only wait. Raises UsageProblem.

        `environment`: more variables. `meanwhile`: called again and again until it is ready, with the longest time, in
        seconds, that it may take; the service may connect to the database then.
        """
        if service.url:
            host, port = address_of(service.url)
            running = cls(service, host, port, None)
        else:
            port = free_port()
            words = [word.replace("{port}", str(port)) for word in service.command]
            running = cls(service, _HOSTS[0], port, Process.start(words, {**environment, "PORT": str(port)}))
        try:
            running._await_ready(ready_s, meanwhile)
        except BaseException:
            running.stop()
            raise
        return running

    @property
    def name(self) -> str:
        """What messages call it."""
        return called(self.service)

    def check(self) -> None:
        """Raise RacebenchError if its process has ended, with its last lines."""
        if (ended := self.ended()) is not None:
            raise RacebenchError(f"the service '{self.name}' ended ({ended}){self.said()}; look at its log")

    def ended(self) -> str | None:
        """How its process has ended: "exit 1", "SIGKILL"; None while it runs."""
        if self.process is None:
            return None
        self.process.limit_output()
        exit_ = self.process.poll()
        return None if exit_ is None else exit_.described

    def said(self) -> str:
        """The last lines that it printed, to follow a sentence; "" if there are none."""
        last = self.process.last_lines() if self.process is not None else ""
        return f": {last}" if last else ""

    def stop(self) -> None:
        """End its process, with all descendants. It may be called twice."""
        if self.process is not None:
            self.process.stop()

    def _await_ready(self, ready_s: float, meanwhile: Callable[[float], None]) -> None:
        given_up = threading.Event()
        ready = threading.Event()
        last = [""]

        def ask() -> None:
            while not given_up.is_set():
                reason = self._asked()
                if reason is None:
                    ready.set()
                    return
                last[0] = reason
                given_up.wait(_ASK_AGAIN_S)

        asking = threading.Thread(target=ask, name="racebench readiness", daemon=True)
        asking.start()
        deadline = time.monotonic() + ready_s
        try:
            while not ready.is_set():
                meanwhile(_ASK_AGAIN_S)
                if (ended := self.ended()) is not None:
                    raise UsageProblem(
                        f"the service '{self.name}' ended before it was ready ({ended}){self.said()}; "
                        "run the command by itself to see more"
                    )
                if not ready.is_set() and time.monotonic() > deadline:
                    raise UsageProblem(self._not_ready(ready_s, last[0]))
        finally:
            given_up.set()

    def _asked(self) -> str | None:
        """None if it is ready, else why it is not."""
        hosts = [self.host] if self.process is None else _HOSTS
        reason = "nothing listens there"
        for host in hosts:
            if self.service.ready:
                with HttpClient(host, self.port) as client:
                    try:
                        answer = client.send(HttpRequest(method="GET", path=self.service.ready), _ANSWER_S)
                    except NoAnswer as problem:
                        reason = str(problem) if problem.sent else reason
                        continue
                if 200 <= answer.status < 400:
                    self.host = host
                    return None
                return f"GET {self.service.ready} answers {answer.text}"
            with contextlib.suppress(OSError), socket.create_connection((host, self.port), _ANSWER_S):
                self.host = host
                return None
        return reason

    def _not_ready(self, ready_s: float, reason: str) -> str:
        place = f"{self.host}:{self.port}"
        if self.process is None:
            return f"the service at {place} is not ready ({reason}); start it, or correct --url"
        takes_port = any("{port}" in word for word in self.service.command)
        advice = (
            "does it listen on the port that it is given?"
            if takes_port
            else "the command has no {port}: does it listen on $PORT?"
        )
        return (
            f"the service '{self.name}' was not ready at {place} after {ready_s:g} s ({reason}){self.said()}; {advice}"
        )


def free_port() -> int:
    """A port of this machine that nothing listens on. Raises RacebenchError."""
    for _ in range(_TRIES):
        port = random.SystemRandom().randint(_FIRST_PORT, _LAST_PORT)
        with contextlib.suppress(OSError), socket.socket() as trial:
            trial.bind((_HOSTS[0], port))
            return port
    raise RacebenchError(f"no free port from {_FIRST_PORT} to {_LAST_PORT}; end what listens there")
