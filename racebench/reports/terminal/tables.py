"""What every table of the terminal is made of: a blank table, a count, a verdict, and a table as plain text."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from racebench.core.results import Verdict
from racebench.reports.terminal.plain_console import PlainConsole

_STYLES = {Verdict.VALID: "bold green", Verdict.INVALID: "bold red", Verdict.UNKNOWN: "bold yellow"}


def plain(shows: Callable[[Console], None], *, width: int = 100) -> str:
    """What a report shows, as text without color."""
    console = PlainConsole(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        shows(console)
    return capture.get()


def blank_table(left: tuple[str, ...], right: tuple[str, ...], last: tuple[str, ...], *, ascii_only: bool) -> Table:
    table = Table(box=box.ASCII2 if ascii_only else box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    for name in last:
        table.add_column(name, no_wrap=True)
    return table


def verdict_text(verdict: Verdict) -> Text:
    return Text(verdict.value, style=_STYLES[verdict])


def amount(count: int, *, bad: bool = False) -> Text:
    """A count; from a million on in millions, so that the table keeps its width (the JSON is exact)."""
    text = f"{count}" if count < 1_000_000 else f"{count / 1e6:.1f}M"
    return Text(text, style="bold red" if bad and count else "")
