"""The progress of long work, on stderr: what is going on, how much is done, what has ended.

On a terminal this is a bar, below the rows that have ended; it disappears at the end. Elsewhere, and in CI (the
variable CI is set), it is a line every ten seconds, with the time before it, so that short work prints nothing. What is
said is the caller's. A live view (live_runs.py, live_explorations.py) stands above the bar, in place of the rows.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

#: How often the bar is drawn again, and how often a line is printed, in seconds.
_REDRAW_S = 0.1
_LINE_S = 10.0
#: How often a live view is drawn again at most; what drawing costs is 1 in _REST of the time.
_LIVE_S = 0.25
_REST = 100
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


class View(Protocol):
    """What is shown of work while it goes on."""

    def parts(self, width: int, lines: int, *, ascii_only: bool) -> Sequence[RenderableType]:
        """What is drawn, top to bottom, on so many columns and at most so many lines."""


@contextlib.contextmanager
def shown(console: Console | None, view: View | None = None) -> Iterator[Progress]:
    """Yield what shows the progress on a console; on None it shows nothing. `view`: what a bar has above it."""
    if console is None:
        yield _Nothing()
        return
    if not can_draw(console):
        yield _Lines(console)
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        bar = _Bar(live, view)
        try:
            yield bar
        finally:
            bar.leave()


def can_draw(console: Console) -> bool:
    """Whether lines of a console can be drawn again: it is a terminal, and no log of a CI system."""
    # The stream itself: a console that was told to use colors says that it is a terminal.
    return console.file.isatty() and os.environ.get("CI", "") in ("", "0", "false")


class _Nothing:
    """Progress that is not shown."""

    def __call__(self, label: str, fraction: float, *, left: str = "") -> None:
        pass

    def ended(self, row: str) -> None:
        pass


class _Bar:
    """A bar that is drawn when it is called, so that no thread is needed."""

    def __init__(self, live: Live, view: View | None) -> None:
        self._live, self._view = live, view
        self._began = time.monotonic()
        self._next = 0.0
        self._rows: list[str] = []
        self._picture = _Picture()

    def __call__(self, label: str, fraction: float, *, left: str = "") -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _REDRAW_S
        cpu_s = 0.0 if self._view is None else time.process_time()
        bar = Table.grid(padding=(0, 1), expand=False)
        bar.add_row(
            ProgressBar(total=1.0, completed=fraction, width=_BAR_WIDTH),
            Text(f"{minutes(now - self._began)}{f', {left}' if left else ''}", style="dim", no_wrap=True),
            Text(label, no_wrap=True, overflow="ellipsis"),
        )
        self._draw(Group(*self._above(), bar))
        if self._view is not None:
            self._next = now + max(_LIVE_S, _REST * (time.process_time() - cpu_s))

    def ended(self, row: str) -> None:
        self._rows.append(row)

    def _above(self) -> Sequence[RenderableType]:
        console = self._live.console
        most = max(0, console.height - _FREE_LINES)
        if self._view is not None:
            return self._view.parts(console.width, most, ascii_only=console.options.ascii_only)
        return [Text(row, no_wrap=True, overflow="ellipsis") for row in self._rows[-most:]] if most else []

    def leave(self) -> None:
        """Erase what rich would not at the end."""
        if self._is_broken:
            self._draw(Group())

    @property
    def _is_broken(self) -> bool:
        """Whether the terminal has become narrower, and has broken lines of the last picture in several."""
        return self._picture.height(self._live.console.width) != self._picture.height()

    def _draw(self, content: RenderableType) -> None:
        console = self._live.console
        if self._is_broken:  # rich knows only how many lines there were
            self._live._live_render._shape = (console.width, self._picture.height(console.width))
        self._picture = _Picture(console.render_lines(content, pad=False))
        self._live.update(self._picture, refresh=True)


class _Picture:
    """What was drawn, line by line."""

    def __init__(self, lines: Sequence[list[Segment]] = ()) -> None:
        self._lines = lines

    def height(self, width: int | None = None) -> int:
        """How many lines it takes, on a terminal of some width, which breaks longer lines."""
        if width is None:
            return len(self._lines)
        return sum(max(1, -(-Segment.get_line_length(line) // max(1, width))) for line in self._lines)

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType | Segment]:
        for number, line in enumerate(self._lines):
            if number:
                yield Segment.line()
            yield from line


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
