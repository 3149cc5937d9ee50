"""What live views have in common: which lines fit the terminal, and figures that may not be known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import RenderableType
from rich.text import Text

#: The lines of a table's head: two of names, and the rule.
_HEAD = 3
#: What is not known.
UNKNOWN = "–"
#: How wide figures are at least, so that columns do not move.
_RATE, _LATENCY = 7, 10


def fitted(
    labels: Sequence[tuple[str, bool]], table: Callable[[Sequence[str]], RenderableType], note: str, lines: int
) -> list[RenderableType]:
    """A table of the labels that fit so many lines, above it how many do not, and below it a note if there is room.

    `labels`: each with whether its work goes on; these are shown first, then the last ones of the others.
    """
    room = lines - _HEAD
    if room < 1 or not labels:
        return []
    noted = bool(note) and room > len(labels)
    hides = 1 < room < len(labels)
    order = sorted(range(len(labels)), key=lambda number: (labels[number][1], number), reverse=True)
    chosen = sorted(order[: room - hides])
    parts: list[RenderableType] = []
    if hides:
        parts.append(Text(f"{len(labels) - len(chosen)} more above", style="dim", no_wrap=True, overflow="ellipsis"))
    parts.append(table([labels[number][0] for number in chosen]))
    if noted:
        parts.append(Text(note, style="dim", no_wrap=True, overflow="ellipsis"))
    return parts


def rate(per_s: float | None) -> str:
    """A number a second, of the same width from one picture to the next."""
    return f"{UNKNOWN if per_s is None else f'{per_s:,.0f}':>{_RATE}}"


def latency_ms(p50_us: float | None, p99_us: float | None) -> str:
    """The median and the 99th percentile, in milliseconds; likewise."""
    return f"{UNKNOWN if p50_us is None or p99_us is None else f'{_ms(p50_us)}/{_ms(p99_us)}':>{_LATENCY}}"


def cut(text: Text, columns: int) -> Text:
    """A text of at most so many columns."""
    text.truncate(max(1, columns), overflow="ellipsis")
    return text


def _ms(us: float) -> str:
    ms = us / 1e3
    return f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"
