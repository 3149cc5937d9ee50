"""What the explorer and a job tell each other: values that are sent from one process to the other."""

from __future__ import annotations

from dataclasses import dataclass

from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Unseen
from racebench.exploration.tree import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The embedded server that a job starts, as the command's own is. `give_up_s`: how long it may not answer."""

    version: int
    connections: int
    superuser: bool
    give_up_s: float


# From the explorer


@dataclass(frozen=True, slots=True)
class Start:
    """Start the server: a job waits for this when it has imported what it needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Whose schedules: a choice of random numbers, the order in which sessions begin, and the victim of deadlocks."""

    draw: int
    order: tuple[int, ...]
    victim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Search a part. `number`: of this message, for the reports. `request`: the exploration, if it is another one."""

    number: int
    tree: Tree
    part: Part
    request: ExplorationRequest | None


@dataclass(frozen=True, slots=True)
class Divide:
    """Give a part of what is searched away."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Search no further, and report that this has ended."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The exploration is over: look for what its schedules left behind, and say what was seen."""


@dataclass(frozen=True, slots=True)
class End:
    """Stop the server, and end."""


# From a job


@dataclass(frozen=True, slots=True)
class Imported:
    """The job waits for Start."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The server runs; the job waits for a Search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a job has seen of the world that it runs schedules in; see SearchedWorld's properties of these names."""

    leftovers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unseen: Unseen | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a Search has done since its last report.

    `left`: all that is not done yet. A job that ends without a word is replaced by searching that: so each schedule is
    counted once. `given`: a part that is not in `left` any more. `ended`: nothing more is done for this Search.
    """

    number: int
    results: tuple[ScheduleResult, ...]
    pruned: int
    left: tuple[Part, ...]
    given: Part | None = None
    ended: bool = False
    seen: Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The answer to Finish."""

    seen: Seen


@dataclass(frozen=True, slots=True)
class Ended:
    """The server was stopped: nothing of the job is left but its process."""
