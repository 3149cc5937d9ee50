"""A schedule drawn as lanes, one a session: what each step sent and what came back, who waited and for whom."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from racebench.exploration.schedules import Step

_LONGEST = 100


def draw(steps: Sequence[Step], *, ascii_only: bool = False) -> Table:
    """One row a step, one column a session, in the order in which they first went on."""
    names = sorted({step.session for step in steps}, key=lambda name: int(name[1:]))
    table = Table(box=box.ASCII2 if ascii_only else box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    table.add_column("", justify="right", style="dim")
    for name in names:
        table.add_column(name, ratio=1, overflow="fold")
    for number, step in enumerate(steps, 1):
        cells = {name: Text() for name in names}
        cells[step.session].append(_short(step.sent))
        if step.where:
            cells[step.session].append(f"\n{step.where}", style="dim")
        if step.waits_for:
            cells[step.session].append(f"\nwaits for {' and '.join(step.waits_for)}", style="yellow")
        else:
            _answer(cells[step.session], step.answered, ascii_only=ascii_only)
        for name, answered in step.went_on:
            cells[name].append("goes on", style="yellow")
            _answer(cells[name], answered, ascii_only=ascii_only)
        table.add_row(str(number), *(cells[name] for name in names))
    return table


def _answer(cell: Text, answered: Sequence[str], *, ascii_only: bool) -> None:
    arrow = "->" if ascii_only else "→"
    said = "; ".join(_short(each) for each in answered)
    if said and said not in ("BEGIN", "COMMIT"):
        cell.append(f"\n{arrow} {said}", style="red" if "ERROR" in said else "cyan")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
