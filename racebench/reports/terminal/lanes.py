"""A schedule drawn as lanes, one for each session: what each step sent, the answer, and which sessions waited."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from racebench.exploration.schedules import Step
from racebench.reports import exploration_text

_LONGEST = 100


def draw(steps: Sequence[Step], *, ascii_only: bool = False) -> Table:
    """One row for each step, one column for each session that takes a step, by its number."""
    sessions = sorted({step.session for step in steps}, key=lambda name: int(name[1:]))
    table = Table(box=box.ASCII2 if ascii_only else box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    table.add_column("", justify="right", style="dim")
    for session in sessions:
        table.add_column(session, ratio=1, overflow="fold")
    for number, step in enumerate(steps, 1):
        cells = {session: Text() for session in sessions}
        cells[step.session].append(_short(step.sent))
        if step.values:
            cells[step.session].append(f" {_short(exploration_text.values(step))}", style="bold")
        if step.where:
            cells[step.session].append(f"\n{step.where}", style="dim")
        if step.waits_for:
            cells[step.session].append(f"\nwaits for {' and '.join(step.waits_for)}", style="yellow")
        else:
            _append_answer(cells[step.session], step.answered, ascii_only=ascii_only)
        for session, answered in step.went_on:
            cells[session].append("goes on", style="yellow")
            _append_answer(cells[session], answered, ascii_only=ascii_only)
        table.add_row(str(number), *(cells[session] for session in sessions))
    return table


def _append_answer(cell: Text, answers: Sequence[str], *, ascii_only: bool) -> None:
    arrow = "->" if ascii_only else "→"
    answer = "; ".join(map(_short, answers))
    if answer and answer not in ("BEGIN", "COMMIT"):
        cell.append(f"\n{arrow} {answer}", style="red" if "ERROR" in answer else "cyan")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
