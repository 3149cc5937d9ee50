"""The progress of long work, on stderr: what is going on, how much is done, what has ended.

On a terminal this is a bar, below the rows that have ended; it disappears at the end. Elsewhere, and in CI (the
variable CI is set), it is a line every ten seconds, with the time before it, so that short work prints nothing. What is
said is the caller's.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

#: How often the bar is drawn again, and how often a line is printed, in seconds.
_REDRAW_S = 0.1
_LINE_S = 10.0
#: The lines of a terminal that rows leave free: for the bar, and for the prompt above it.
_FREE_LINES = 3
_BAR_WIDTH = 12
#: The seconds and the share of the work before which the time that is left is not estimated.
_EARLY_S = 1.0
_EARLY = 0.01


class Progress(Protocol):
    """What work calls while it goes on, as often as it likes; nothing is drawn at other times."""

    def __call__(self, label: str, fraction: float, *, left: str = "") -> None:
        """Say what is going on, how much of everything is done (0 to 1), and what is known of the time that is left."""

    def ended(self, row: str) -> None:
        """Say that a part of the work has ended, with its result in one line."""


@contextlib.contextmanager
def shown(console: Console | None) -> Iterator[Progress]:
    """Yield what shows the progress on a console; on None it shows nothing."""
    if console is None:
        yield _Nothing()
        return
    # The stream itself: a console that was told to use colors says that it is a terminal.
    if not console.file.isatty() or os.environ.get("CI", "") not in ("", "0", "false"):
        yield _Lines(console)
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield _Bar(live)


class _Nothing:
    """Progress that is not shown."""

    def __call__(self, label: str, fraction: float, *, left: str = "") -> None:
        pass

    def ended(self, row: str) -> None:
        pass


class _Bar:
    """A bar that is drawn when it is called, so that no thread is needed."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._began = time.monotonic()
        self._drawn = 0.0
        self._rows: list[str] = []

    def __call__(self, label: str, fraction: float, *, left: str = "") -> None:
        now = time.monotonic()
        if now - self._drawn < _REDRAW_S:
            return
        self._drawn = now
        bar = Table.grid(padding=(0, 1), expand=False)
        bar.add_row(
            ProgressBar(total=1.0, completed=fraction, width=_BAR_WIDTH),
            Text(f"{minutes(now - self._began)}{f', {left}' if left else ''}", style="dim", no_wrap=True),
            Text(label, no_wrap=True, overflow="ellipsis"),
        )
        most = max(0, self._live.console.height - _FREE_LINES)
        rows: list[RenderableType] = [Text(row, no_wrap=True, overflow="ellipsis") for row in self._rows[-most:]]
        self._live.update(Group(*(rows if most else ()), bar), refresh=True)

    def ended(self, row: str) -> None:
        self._rows.append(row)


class _Lines:
    """A line every ten seconds, after the rows that have ended since the last one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = self._printed = time.monotonic()
        self._rows: list[str] = []

    def __call__(self, label: str, fraction: float, *, left: str = "") -> None:  # noqa: ARG002 - of a bar
        now = time.monotonic()
        if now - self._printed < _LINE_S:
            return
        self._printed = now
        for line in (*self._rows, f"{label}; {left}" if left else label):
            self._console.print(Text(f"[{minutes(now - self._began)}] {line}"), soft_wrap=True)
        self._rows.clear()

    def ended(self, row: str) -> None:
        self._rows.append(row)


def left(passed_s: float, fraction: float) -> str:
    """The time that is left if the rest takes as long as what is done; empty where it is too early to say."""
    if passed_s < _EARLY_S or fraction < _EARLY:
        return ""
    return f"about {minutes(passed_s * (1 - fraction) / fraction)} left"


def minutes(seconds: float) -> str:
    """A time as minutes and seconds."""
    whole, rest = divmod(max(0, round(seconds)), 60)
    return f"{whole}:{rest:02}"
