"""The progress bar on stderr; none where stderr is not a terminal, or in CI (the variable CI is set)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


@contextlib.contextmanager
def bar(console: Console) -> Iterator[Callable[[str, float], None]]:
    """Yield a callback (label, fraction of everything). It draws when called, so no thread is needed."""
    # The stream itself: a console that was told to use colors says that it is a terminal.
    if not console.file.isatty() or os.environ.get("CI", "") not in ("", "0", "false"):
        yield lambda _label, _fraction: None
        return
    columns = (TextColumn("{task.description:<32}"), BarColumn(bar_width=32), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as display:
        task = display.add_task("", total=1.0)

        def update(label: str, fraction: float) -> None:
            display.update(task, description=label, completed=fraction)
            display.refresh()

        yield update
