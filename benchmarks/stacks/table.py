"""The tables of the stacks, from their document."""

from __future__ import annotations

from benchmarks.measurement import Document, Table
from benchmarks.stacks.cases import SPECIAL, WAYS
from benchmarks.stacks.stack import STACKS

_WAYS = tuple(dict.fromkeys(case.name for case in WAYS))


def tables(measured: Document) -> list[Table]:
    """The four ways of each stack, and then the other cases."""
    cells = {(cell["stack"], cell["case"]): _cell(cell) for cell in measured["cells"]}
    seconds = sum(cell["seconds"] for cell in measured["cells"])
    return [
        Table(
            title="Two sessions, every schedule: the verdict, and the number of schedules",
            columns=("application", *_WAYS),
            rows=tuple(
                (stack.title, *(cells.get((stack.name, way), "–") for way in _WAYS))
                for stack in STACKS.values()
                if any((stack.name, way) in cells for way in _WAYS)
            ),
            notes=(f"{len(cells)} explorations in {seconds:.0f} s.",),
        ),
        Table(
            title="Other cases",
            columns=("application", "case", "verdict"),
            rows=tuple(
                (STACKS[case.stack].title, case.name, cells[case.stack, case.name])
                for case in SPECIAL
                if (case.stack, case.name) in cells
            ),
            names=2,
        ),
    ]


def _cell(cell: Document) -> str:
    if cell["missing"]:
        return "not installed"
    text = f"{cell['verdict']}, {cell['schedules']}"
    return f"{text} ({'; '.join(cell['wrong'])})" if cell["wrong"] else text
