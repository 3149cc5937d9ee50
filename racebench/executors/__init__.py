"""Where tasks run: what the drivers of load and of exploring need of such a place, and the messages of every place.

An executor is given a function and a task, and knows nothing of SQL. `processes` runs them in processes of this
machine; another place is another file with the same `Executor`. A run of load relies on two things that such a place
has to provide: workers write their records to files that the driver reads afterwards, and `time.perf_counter_ns` is one
clock for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol


class Channel(Protocol):
    """The worker's side: messages to and from the driver.

    `kept`: what a function leaves for the next one in the same place, by a name of its choice; it ends with the place.
    """

    kept: dict[str, Any]

    def send(self, message: object) -> None:
        """Send a message."""

    def receive(self) -> Any:
        """Wait for a message; raises EOFError when the driver has ended."""

    def waiting(self, timeout: float = 0.0) -> bool:
        """Whether a message, or the driver's end, can be received within `timeout` seconds."""


class Worker(Protocol):
    """The driver's side of one place where a task runs."""

    def send(self, message: object) -> None:
        """Send a message. A worker that has ended is reported by `Executor.messages`, not here."""

    def kill(self) -> None:
        """End it at once, and wait until it has ended."""


class Executor(Protocol):
    """A pool of workers."""

    def warm(self, count: int) -> None:
        """Have `count` idle workers."""

    def start(self, function: Callable[[Any, Channel], None], task: object) -> Worker:
        """Run `function(task, channel)` on an idle worker, or a new one; raises RacebenchError if there can be none."""

    def messages(self, workers: Collection[Worker], timeout: float) -> Iterator[tuple[Worker, Any]]:
        """Yield (worker, message) for each message that arrived within `timeout` seconds, Failure and Died included."""

    def release(self, workers: Iterable[Worker]) -> None:
        """Take workers back: those that live are idle again, the others are forgotten."""

    def retire(self, workers: Iterable[Worker]) -> None:
        """End workers that have done their task, and forget them."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a worker's function raised."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Died:
    """The worker ended without a message; `exit_code` is negative for a signal, None if it is not known."""

    exit_code: int | None

    @property
    def cause(self) -> str:
        """The exit code or the signal, in words."""
        if self.exit_code is None:
            return "no exit code"
        return f"signal {-self.exit_code}" if self.exit_code < 0 else f"exit code {self.exit_code}"
