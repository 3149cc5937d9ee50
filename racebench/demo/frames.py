"""What is to be seen after each step, as values: whoever draws them knows neither the server nor the strategy.

All text is the scenario's or the server's own, on one line and without control characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Of a line of SQL: not sent yet, done, done just now, sent and not answered, refused by the server."""

    AHEAD = "ahead"
    DONE = "done"
    NOW = "now"
    WAITS = "waits"
    REFUSED = "refused"


class Mark(StrEnum):
    """What is said of a row. `WAITING`: committed, and the consumer has not come to it yet."""

    TWIN = "TWIN"
    DELIVERED = "delivered"
    WAITING = "not delivered yet"
    LOST = "NEVER DELIVERED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One statement of a lane, and what it returned ("" as long as it has not)."""

    text: str
    state: State = State.AHEAD
    answer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A session or the consumer: its script, and how it stands in words ("" if there is nothing to say)."""

    name: str
    title: str
    lines: tuple[Line, ...]
    stands: str = ""
    acts: bool = False

    @property
    def waits(self) -> bool:
        return any(line.state is State.WAITS for line in self.lines)

    @property
    def heading(self) -> str:
        """Its title, and in a word how it stands."""
        stands = "WAITS" if self.waits else {"ended: OK": "done", "ended: FAIL": "FAILED"}.get(self.stands, self.stands)
        return f"{self.title}: {stands}" if stands else self.title


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A committed row."""

    cells: tuple[str, ...]
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Committed rows, as a connection of its own reads them; `more` are not shown.

    `locked`: a session holds a lock that lets nobody read it.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    more: int = 0
    locked: bool = False

    @property
    def title(self) -> str:
        """Its name, and what is to be said of its rows."""
        if self.locked:
            return f"table {self.name}: locked, nobody can read it now"
        more = f", {self.more} more" if self.more else ""
        return f"table {self.name}, committed rows{more}:{'' if self.rows else ' none'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The consumer: where its cursor stands, and what it has delivered last, in that order, after `more` rows."""

    name: str
    cursor: str
    delivered: tuple[str, ...]
    more: int = 0

    @property
    def said(self) -> str:
        """What it has delivered, in words."""
        more = f"{self.more} rows, " if self.more else ""
        return f"delivered: {more}{', '.join(self.delivered) or 'nothing yet'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Something that went wrong: a kind of racebench.core.anomalies, how often, and what that means here."""

    kind: str
    count: int
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WentOn:
    """A session that had waited and does no more: what it was answered, and whether that was an error."""

    session: int
    answer: str
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The step that led to a frame: who took it, what was sent and answered, and who waited or went on.

    `line` is its place in the lane's script; `refused`: the answer is an error.
    """

    session: int
    line: int
    sent: str
    answer: str
    refused: bool = False
    waits_for: tuple[str, ...] = ()
    went_on: tuple[WentOn, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What is to be seen: before the first step (number 0), after each, and at the end (`losses` is None until then).

    `taken` is None where nothing was sent: at the start, at the end, and where a session's turn came and it waits.
    """

    act: int
    heading: str
    number: int
    sentence: str
    lanes: tuple[Lane, ...]
    tables: tuple[Table, ...]
    reader: Reader | None = None
    note: str = ""
    taken: Taken | None = None
    losses: tuple[Loss, ...] | None = None

    @property
    def ended(self) -> bool:
        return self.losses is not None

    @property
    def verdict(self) -> str:
        """What was lost, in one line; "" before the end."""
        if self.losses is None:
            return ""
        return ", ".join(f"{loss.kind}: {loss.count}" for loss in self.losses) or "nothing lost"


def clean(text: str) -> str:
    """One line without control characters, so that a terminal shows it and does nothing else."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in " ".join(text.split()))
