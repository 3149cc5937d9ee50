"""The progress bar on stderr; none when that is not a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


@contextlib.contextmanager
def bar(console: Console, runs: int) -> Iterator[Callable[[str, float], None]]:
    """Yield a callback (label, fraction of this run). It draws when called, so no thread is needed."""
    if not console.is_terminal:
        yield lambda _label, _fraction: None
        return
    columns = (TextColumn("{task.description:<20}"), BarColumn(bar_width=40), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as display:
        task = display.add_task("", total=runs)
        runs_done, last_label, last_fraction = 0, "", 0.0

        def update(label: str, fraction: float) -> None:
            nonlocal runs_done, last_label, last_fraction
            if label != last_label:
                runs_done += last_fraction > 0
            last_label, last_fraction = label, fraction
            display.update(task, description=label, completed=runs_done + fraction)
            display.refresh()

        yield update
