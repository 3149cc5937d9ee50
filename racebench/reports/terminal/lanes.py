"""A schedule drawn as lanes, one for each session: what each step sent, the answer, and which sessions waited."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from racebench.exploration.choices import place_of
from racebench.exploration.schedules import Step
from racebench.reports import exploration_text, short_statements
from racebench.reports.terminal.tables import DRAWING_WIDTH, Column, Grid


def draw(steps: Sequence[Step], *, ascii_only: bool = False) -> Grid:
    """One row for each step, one column for each session that takes a step, by its number."""
    sessions = sorted({step.session for step in steps}, key=place_of)
    columns = (Column(right=True), *(Column(head=session, wraps=True) for session in sessions))
    table = Grid(columns, ascii_only=ascii_only, gap=2, widest=DRAWING_WIDTH)
    for number, step in enumerate(steps, 1):
        cells = {session: Text() for session in sessions}
        cells[step.session].append(short_statements.statement(step.sent))
        if step.values:
            cells[step.session].append(f" {short_statements.cut(exploration_text.values(step))}", style="bold")
        if step.backend is not None:
            cells[step.session].append(f" on {step.backend}", style="magenta")
        if step.where:
            cells[step.session].append(f"\n{step.where}", style="dim")
        if step.waits_for:
            cells[step.session].append(f"\nwaits for {' and '.join(step.waits_for)}", style="yellow")
        else:
            _append_answer(cells[step.session], step.answered, ascii_only=ascii_only)
        for session, answered in step.went_on:
            cells[session].append("goes on", style="yellow")
            _append_answer(cells[session], answered, ascii_only=ascii_only)
        table.add_row(Text(str(number), style="dim"), *(cells[session] for session in sessions))
    return table


def _append_answer(cell: Text, answers: Sequence[str], *, ascii_only: bool) -> None:
    arrow = "->" if ascii_only else "→"
    answer = "; ".join(map(short_statements.cut, answers))
    if answer and answer not in ("BEGIN", "COMMIT"):
        cell.append(f"\n{arrow} {answer}", style="red" if "ERROR" in answer else "cyan")
