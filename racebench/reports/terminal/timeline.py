"""A witness drawn as lanes: one for each operation, one for the consumer, to one scale of time.

    worker 3   ├──── version 17 ────┤          row 40: delivered by poll 12
    worker 5      ├───── version 17 ──────┤    row 41: never delivered
    consumer                     ▲             poll 12: cursor 16 → 17

Returns lines of text; who shows them decides on color.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from racebench.core import codes
from racebench.core.results import Anomaly

_NARROWEST = 24
_LANES = 3


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters a timeline is drawn with."""

    begin: str
    end: str
    line: str
    open_end: str
    mark: str
    arrow: str


UNICODE = Glyphs("├", "┤", "─", "…", "▲", "→")
ASCII = Glyphs("|", "|", "-", ">", "^", "->")


def draw(witness: Anomaly, *, width: int, glyphs: Glyphs = UNICODE) -> list[str]:
    """Draw a witness at most `width` columns wide, if that is not too narrow; no lines if it has no operations."""
    operations = witness.operations[:_LANES]
    if not operations:
        return []
    polls = witness.polls[-1:] if witness.kind == "redelivered" else witness.polls[:1]
    if witness.kind == "out-of-order":
        polls = witness.polls
    begin, end = _extent(operations, polls)
    names = [f"worker {operation['worker']}" for operation in operations]
    notes = [_fate(witness, operation) for operation in operations]
    names += [witness.consumer or "consumer"] * len(polls)
    notes += [_moved(poll, glyphs) for poll in polls]
    name_width = max(map(len, names)) + 2
    lane = max(_NARROWEST, width - name_width - 2 - max(map(len, notes)))

    def column(us: float) -> int:
        return round((us - begin) / max(end - begin, 1e-9) * (lane - 1))

    bars = [_bar(operation, lane, column, glyphs) for operation in operations]
    bars += [(" " * column(poll["start_us"]) + glyphs.mark).ljust(lane) for poll in polls]
    lines = [f"{name:<{name_width}}{bar}  {note}".rstrip() for name, bar, note in zip(names, bars, notes, strict=True)]
    left, right = f"{begin / 1e3:.2f} ms", f"{end / 1e3:.2f} ms"
    return [*lines, " " * name_width + left + right.rjust(lane - len(left))]


def _moved(poll: Mapping[str, Any], glyphs: Glyphs) -> str:
    if poll["cursor_after"] is None:
        return f"poll {poll['poll']}"
    before = "start" if poll["cursor_before"] is None else poll["cursor_before"]
    return f"poll {poll['poll']}: cursor {before} {glyphs.arrow} {poll['cursor_after']}"


def _extent(operations: Sequence[Mapping[str, Any]], polls: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    begins = [operation["start_us"] for operation in operations]
    ends = [operation["end_us"] for operation in operations if operation["end_us"] is not None]
    times = [*begins, *ends, *(poll["start_us"] for poll in polls)]
    return min(times), max(times)


def _bar(operation: Mapping[str, Any], lane: int, column: Callable[[float], int], glyphs: Glyphs) -> str:
    first = column(operation["start_us"])
    pending = operation["end_us"] is None
    last = lane - 1 if pending else column(operation["end_us"])
    inner = max(last - first - 1, 0)
    label = "" if operation["version"] is None else f" version {operation['version']} "
    if len(label) > inner:
        label = "" if operation["version"] is None else f"{operation['version']}"
    if len(label) > inner:
        label = ""
    end = glyphs.open_end if pending else glyphs.end
    return (" " * first + glyphs.begin + label.center(inner, glyphs.line) + end).ljust(lane)[: max(lane, last + 1)]


def _fate(witness: Anomaly, operation: Mapping[str, Any]) -> str:
    """What became of an operation's row."""
    if operation["outcome"] != "OK":
        return f"{operation['outcome']} {codes.shown(operation['sqlstate'] or '')}".rstrip()
    row = next((row for row in witness.rows if row["operation"] == operation["operation"]), None)
    if row is None:
        return "acknowledged"
    polls = [poll["poll"] for poll in witness.polls if row["id"] in poll["delivered"]]
    if polls:
        return f"row {row['id']}: delivered by poll {polls[0]}"
    complete = all(len(poll["delivered"]) == poll["rows"] for poll in witness.polls)
    if witness.kind in ("missed", "duplicates") and witness.polls and complete:
        return f"row {row['id']}: never delivered"
    return f"row {row['id']}"
