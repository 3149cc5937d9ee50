"""What is shown after each step, as values. The code that draws them knows neither the server nor the strategy.

All text is the scenario's or the server's own, on one line and without control characters (`clean`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from racebench.core.quantity import quantity
from racebench.exploration.choices import Cut


class State(StrEnum):
    """State of a statement: not sent, answered, answered in this step, sent and waiting, refused by the server."""

    AHEAD = "ahead"
    DONE = "done"
    NOW = "now"
    WAITS = "waits"
    REFUSED = "refused"


class Mark(StrEnum):
    """Remark on a row. `PENDING`: committed, and the consumer has not delivered it yet."""

    DUPLICATE = "DUPLICATE"
    DELIVERED = "delivered"
    PENDING = "not delivered yet"
    MISSED = "MISSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One statement of a lane, and its answer ("" until it has one)."""

    text: str
    state: State = State.AHEAD
    answer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A session or the consumer: its script, and its status in words ("" if there is nothing to say).

    `active`: this session took the step that led to the frame.
    """

    name: str
    title: str
    lines: tuple[Line, ...]
    status: str = ""
    active: bool = False

    @property
    def waits(self) -> bool:
        return any(line.state is State.WAITS for line in self.lines)

    @property
    def heading(self) -> str:
        """The title, and the status in a word."""
        status = "WAITS" if self.waits else {"ended: OK": "done", "ended: FAIL": "FAILED"}.get(self.status, self.status)
        return f"{self.title}: {status}" if status else self.title


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A committed row."""

    cells: tuple[str, ...]
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Committed rows, read by a separate connection; `more` rows are not shown.

    `locked`: a session holds a lock that blocks every reader of the table.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    more: int = 0
    locked: bool = False

    @property
    def title(self) -> str:
        """The table's name, and how many of its rows are shown."""
        if self.locked:
            return f"table {self.name}: locked, cannot be read now"
        more = f", {self.more} more" if self.more else ""
        return f"table {self.name}, committed rows{more}:{'' if self.rows else ' none'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerState:
    """The consumer's cursor, and the rows it has delivered last, in that order, after `more` earlier rows."""

    name: str
    cursor: str
    delivered: tuple[str, ...]
    more: int = 0

    @property
    def summary(self) -> str:
        """The delivered rows in words."""
        more = f"{quantity(self.more, 'row')}, " if self.more else ""
        return f"delivered: {more}{', '.join(self.delivered) or 'nothing yet'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAnomaly:
    """An anomaly at the end of a part: its kind (one of racebench.core.anomalies), its count, a description."""

    kind: str
    count: int
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """A session whose wait has ended: the answer it got, and whether that was an error."""

    session: int
    answer: str
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a statement did: `rows` that it changed, locked or returned, None if its answer does not say how many.

    `values` are those of the last row that it returned, as text.
    """

    sql: str
    rows: int | None = None
    values: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenStep:
    """The step that led to a frame: the session that took it, what it sent and got, which sessions wait or resumed.

    `line`: index of the statement in the lane's script. `refused`: the answer is an error. `effects`: of each statement
    that was answered. `cut`: the connection was cut at the step; `refused` holds too then. `in_transaction`: a
    transaction of the session is open after the step. `isolation`: the level of the session's transactions, "" for the
    server's default. `rolled_back`: the server rolled back what should commit.
    """

    session: int
    line: int
    sent: str
    answer: str
    refused: bool = False
    cut: Cut | None = None
    effects: tuple[Effect, ...] = ()
    in_transaction: bool = False
    isolation: str = ""
    rolled_back: bool = False
    waits_for: tuple[str, ...] = ()
    resumed: tuple[Resumed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What is shown before the first step (number 0), after each step, and at the end.

    `anomalies` is None until the end. `step` is None where nothing was sent: at the start, at the end, and where the
    scheduled session still waits.
    """

    part: int
    heading: str
    number: int
    sentence: str
    lanes: tuple[Lane, ...]
    tables: tuple[Table, ...]
    consumer: ConsumerState | None = None
    note: str = ""
    step: TakenStep | None = None
    anomalies: tuple[FoundAnomaly, ...] | None = None

    @property
    def ended(self) -> bool:
        return self.anomalies is not None

    @property
    def verdict(self) -> str:
        """The anomalies in one line; "" before the end."""
        if self.anomalies is None:
            return ""
        return ", ".join(f"{anomaly.kind}: {anomaly.count}" for anomaly in self.anomalies) or "no anomaly"


def clean(text: str) -> str:
    """One line without control characters, so that a terminal shows it as text and executes nothing."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))
