"""An excerpt of a run for a timeline: some operations and polls, the anomalies among them, and what was left out.

This module has the values only. history.py makes an excerpt from a history, witnesses.py from a result's witnesses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from racebench.core.anomalies import by_witness


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One operation. Times are microseconds since the common start; `end_us` is None if it never ended.

    `row` is the id of the row it wrote, None if that is not known; `version` that row's, else what the script said.
    `delivered` has the poll that first delivered the row, by the consumer's place in the excerpt.
    """

    worker: int
    operation: int
    start_us: float
    end_us: float | None
    outcome: str
    sqlstate: str
    tries: int
    tenant: int
    version: int | str | None
    row: int | None = None
    delivered: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """One poll that returned rows. `before` and `after` are its cursor's values, None if they are not known."""

    consumer: int
    number: int
    start_us: float
    end_us: float
    rows: int
    before: int | str | None
    after: int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One anomaly: the bars and polls of the excerpt that show it, and a sentence that explains it."""

    kind: str
    text: str
    bars: tuple[int, ...]
    polls: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of time: `shown` of its `total` operations are in the excerpt."""

    start_us: float
    end_us: float
    shown: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """What a timeline shows. `bars` and `polls` are sorted by start, `marks` by the start of their first bar.

    `operations` and `sessions`: the numbers of the run. `polls_left_out`: the number of polls that are in the windows
    and not in the excerpt. `whole`: the excerpt is from the history; otherwise it is from witnesses, and nothing is
    known of the operations between them.
    """

    bars: tuple[Bar, ...]
    polls: tuple[Poll, ...]
    marks: tuple[Mark, ...]
    windows: tuple[Window, ...]
    consumers: tuple[str, ...]
    operations: int
    sessions: int
    polls_left_out: int = 0
    whole: bool = True

    @property
    def workers(self) -> tuple[int, ...]:
        """The workers that have a bar, by number."""
        return tuple(sorted({bar.worker for bar in self.bars}))

    @property
    def first(self) -> Mark | None:
        """The mark to show first: the earliest of the most serious kind."""
        return min(self.marks, key=lambda mark: by_witness(mark.kind), default=None)
