"""Where tasks run: what the drivers of load and of exploring need of such a place, and the messages of every place.

An executor is given a function and a task, and knows nothing of SQL. `processes` runs them in processes of this
machine, `cluster` on machines of a Dask scheduler; another place is another file with the same `Executor`. A run of
load relies on two things that such a place has to provide: what workers record is in files of the driver once it has
settled, and the times in it are of one clock, which is the driver's `time.perf_counter_ns` plus `offset_ns`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from racebench.history.clocks import MachineClock
from racebench.history.recording import Layout


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


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A file that a task writes records of a layout to, and whose they are: a session's number, a consumer's name."""

    path: Path
    layout: Layout
    owner: int | str


@runtime_checkable
class Recording(Protocol):
    """A task whose function writes records. On another machine they are written there, and the driver gets them."""

    @property
    def recorded(self) -> tuple[RecordedFile, ...]:
        """Its files."""

    def recorded_in(self, folder: Path) -> Self:
        """The same task with files of the same names in another folder."""


@runtime_checkable
class Timed(Protocol):
    """A message that has times."""

    def shifted(self, by_ns: int) -> Self:
        """The same message for a clock that is so far ahead."""


class Report:
    """A last message: the function that sends it has written all its records."""

    __slots__ = ()


class Worker(Protocol):
    """The driver's side of one place where a task runs."""

    def send(self, message: object) -> None:
        """Send a message. A worker that has ended is reported by `Executor.messages`, not here."""

    def kill(self) -> None:
        """End it at once, and wait until it has ended."""


class Executor(Protocol):
    """A pool of workers.

    `offset_ns`: the clock of records and of messages with times, minus this process's `perf_counter_ns`. `lead_ns`: how
    long a message needs to reach all workers.
    """

    @property
    def offset_ns(self) -> int: ...

    @property
    def lead_ns(self) -> int: ...

    def warm(self, count: int) -> None:
        """Have `count` idle workers."""

    def start(self, function: Callable[[Any, Channel], None], task: object) -> Worker:
        """Run `function(task, channel)` on an idle worker, or a new one; raises RacebenchError if there can be none."""

    def messages(self, workers: Collection[Worker], timeout: float) -> Iterator[tuple[Worker, Any]]:
        """Yield (worker, message) for each message that arrived within `timeout` seconds, Failure and Died included."""

    def settle(self, workers: Iterable[Worker]) -> tuple[MachineClock, ...]:
        """Put the records of those that have ended on the one clock; the clocks of other machines that they ran on."""

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
    """The worker ended without a message; `exit_code` is negative for a signal, None if it is not known.

    `machine`: it was on this one, which is lost.
    """

    exit_code: int | None
    machine: str | None = None

    @property
    def cause(self) -> str:
        """The exit code or the signal, in words."""
        if self.machine is not None:
            return f"machine {self.machine} was lost"
        if self.exit_code is None:
            return "no exit code"
        return f"signal {-self.exit_code}" if self.exit_code < 0 else f"exit code {self.exit_code}"
