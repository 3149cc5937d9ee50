"""What a worker calls under load, one file a kind: Python callables, programs, requests to a service.

The loop around an operation is racebench.load.call_worker's. To add a kind, add a file, and its line in
racebench.load.assignment's `Assignment.application`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from racebench.core.model import Outcome
from racebench.history.recording import encode_status


@dataclass(frozen=True, slots=True)
class Ending:
    """How an operation ended: `code` and `message` of its error are "" without one.

    `fault`: the connection to the server, or to the service, was lost. `unknown`: it is not known whether the operation
    has committed, as after such a fault.
    """

    code: str = ""
    message: str = ""
    fault: bool = False
    unknown: bool = False

    @property
    def status(self) -> int:
        """As it is recorded."""
        unknown = self.fault or self.unknown
        outcome = Outcome.UNKNOWN if unknown else Outcome.FAIL if self.code else Outcome.OK
        return encode_status(outcome, self.code)


class Place(Protocol):
    """Where the thread of a worker stands: a load.standing.Standing."""

    begun: int
    says: str


class Caller(Protocol):
    """The application, ready to be called in this process; it is to be closed."""

    @property
    def subjects(self) -> Sequence[Any]:
        """What it calls: the workers take turns with them."""

    @property
    def sees_faults(self) -> bool:
        """Whether a lost connection to the server is told from another failure of an operation."""

    @property
    def used(self) -> bool:
        """Whether a statement may have been sent over a connection of racebench's own."""

    def connect(self) -> None:
        """Connect again after a fault; raises DatabaseProblem."""

    def silent_connections(self) -> tuple[int, ...]:
        """The pids of this process's sessions that have sent nothing of an operation's."""

    def run(self, subject: Any) -> Ending:
        """Run one operation. Raises UsageProblem."""

    def close(self) -> None:
        """End what is left."""


class Application(Protocol):
    """What a process has to know to call an application: a value that can be sent to it.

    `late`: modules that are imported before the first operation.
    """

    @property
    def late(self) -> tuple[str, ...]: ...

    def caller(self, place: Place) -> Caller:
        """The application in this process; raises RacebenchError. `place` follows what it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The environment and the working folder of the command, for a process that was forked from another."""

    environment: dict[str, str]
    folder: str

    def enter(self) -> None:
        """Make them this process's."""
        os.environ.clear()
        os.environ.update(self.environment)
        with contextlib.suppress(OSError):
            os.chdir(self.folder)


def surroundings() -> Surroundings:
    """This process's."""
    return Surroundings(environment=dict(os.environ), folder=str(Path.cwd()))
