"""What a session of an application does in a schedule: runs a program, or sends a request to a service.

How it is started and ended is racebench.workloads'; when, is the session's.
"""

from __future__ import annotations

import json
import os
import select
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from racebench.core.model import HttpRequest, Program, Service
from racebench.core.plain_text import one_line, shortened
from racebench.workloads.addresses import Environment
from racebench.workloads.http import HttpClient, NoAnswer, Response, is_expected
from racebench.workloads.processes import Exit, Process
from racebench.workloads.services import RunningService


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an operation has ended. `code`: "" for a success, else "HTTP 500", "exit 1" …; `said`: more of it.

    `returned`: what it returned, as a value to compare. `unknown`: whether it was carried out is not known.
    """

    code: str
    said: str
    returned: Any
    unknown: bool = False


class Actor(Protocol):
    """What one session does."""

    @property
    def pids(self) -> Collection[int]:
        """The processes that work for it, without their descendants."""

    def begin(self) -> None:
        """Begin another operation."""

    @property
    def ended(self) -> bool:
        """Whether the operation has come to its end: the response is complete, the process has ended."""

    @property
    def is_at_rest(self) -> bool:
        """Whether all that racebench itself does for the operation is done: it is the application's turn."""

    def ending(self) -> Ending:
        """How the operation has ended. Raises RacebenchError if its service has."""

    def check(self) -> None:
        """Raise RacebenchError if what it needs has ended."""

    def stuck(self) -> str:
        """Where it stands, if it does not come to its end, to follow a sentence."""

    def close(self) -> None:
        """End what it has started."""


class ProgramActor:
    """Runs a program, in a process of its own each time."""

    def __init__(self, program: Program, environment: Environment) -> None:
        self._program, self._environment = program, environment
        self._process: Process | None = None

    @property
    def pids(self) -> Collection[int]:
        return () if self._process is None else (self._process.pid,)

    def begin(self) -> None:
        self.close()
        self._process = Process.start(self._program.words, self._environment)

    @property
    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    @property
    def is_at_rest(self) -> bool:
        return True

    def ending(self) -> Ending:
        assert self._process is not None  # it has begun
        exit_ = self._process.poll()
        assert exit_ is not None  # it has ended
        ending = _of_exit(exit_, self._process.last_lines())
        self.close()  # also what it has left behind
        return ending

    def check(self) -> None:
        """A program may end."""

    def stuck(self) -> str:
        last = "" if self._process is None else self._process.last_lines()
        return f"; it printed last: {last}" if last else ""

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.stop(termination_s=0.5)


def _of_exit(exit_: Exit, said: str) -> Ending:
    output = exit_.stdout.decode(errors="replace")
    return Ending(code="" if exit_.code == 0 else exit_.described, said=said, returned=_value(output))


class RequestActor:
    """Sends a request to an instance of a service, over a connection of its own."""

    def __init__(
        self, request: HttpRequest, service: Service, running: Callable[[], RunningService], limit_s: float
    ) -> None:
        self._request, self._service, self._running = request, service, running
        self._limit_s = limit_s
        self._requests: SimpleQueue[tuple[str, int] | None] = SimpleQueue()
        self._result: Response | NoAnswer | None = None
        self._client: HttpClient | None = None
        #: An eventfd that becomes readable when an answer is here; who waits for it reads it.
        self.arrived = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._live, daemon=True, name="racebench HTTP")
        self._thread.start()

    @property
    def pids(self) -> Collection[int]:
        process = self._running().process
        return () if process is None else (process.pid,)

    def begin(self) -> None:
        self._result = None
        running = self._running()
        running.check()
        self._requests.put((running.host, running.port))

    @property
    def ended(self) -> bool:
        return self._result is not None

    @property
    def is_at_rest(self) -> bool:
        if self._result is not None:
            return True
        client = self._client
        descriptor = -1 if client is None else client.waits_on
        return descriptor >= 0 and not _is_readable(descriptor) and _sleeps(self._thread)

    def ending(self) -> Ending:
        result = self._result
        assert result is not None  # it has ended
        if isinstance(result, NoAnswer):
            self._running().check()
            return Ending(code="no answer", said=str(result), returned=None, unknown=True)
        code = "" if is_expected(result.status, self._service.expect) else f"HTTP {result.status}"
        body = result.body.decode(errors="replace")
        return Ending(code=code, said=result.text, returned=(result.status, _value(body)))

    def check(self) -> None:
        self._running().check()

    def stuck(self) -> str:
        said = self._running().said()
        return f"; the service printed last{said}" if said else ""

    def close(self) -> None:
        self._requests.put(None)
        if self.arrived >= 0:
            self._thread.join(1.0)  # it may wait for an answer of a service that was started elsewhere
            if not self._thread.is_alive():
                os.close(self.arrived)
            self.arrived = -1

    def _live(self) -> None:
        while (where := self._requests.get()) is not None:
            try:
                # Closed each time: a server of one thread could not serve another connection while it waits on this.
                with HttpClient(*where) as client:
                    self._client = client
                    result: Response | NoAnswer = client.send(self._request, self._limit_s)
            except NoAnswer as problem:
                result = problem
            except Exception as problem:  # noqa: BLE001 - it must be known that it has ended
                result = NoAnswer(str(problem), sent=True)
            self._result = result
            if self.arrived >= 0:
                os.eventfd_write(self.arrived, 1)


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _sleeps(thread: threading.Thread) -> bool:
    """Whether a thread of this process waits; True on systems that do not tell."""
    try:
        stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "S"


def _value(text: str) -> Any:
    """What a text stands for, as a value to compare: JSON if it is that, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def shown(ending: Ending) -> str:
    """How an operation has ended, as the last answer of its session."""
    said = f" ({one_line(ending.said)})" if ending.said and ending.said != ending.code else ""
    return shortened(f"{ending.code}{said}" if not ending.said.startswith(ending.code) else one_line(ending.said))
