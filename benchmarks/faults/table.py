"""The document of the matrix, its tables (by fault, with the sums of its commands), and the tables of promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults.families import FAULTS
from benchmarks.faults.fault import Fault
from benchmarks.faults.findings import COLUMNS
from benchmarks.measurement import Document, Table, document

_HEADS = {
    "wrong": "wrong verdicts",
    "unaccounted": "lost or unaccounted rows",
    "tracebacks": "tracebacks",
    "leftovers": "leftovers",
    "hangs": "hangs",
    "codes": "undocumented exit codes",
}


def matrix_document(
    parts: Sequence[Mapping[str, Any]], *, seeds: int, own: int, programs: Mapping[int, Path]
) -> dict[str, Any]:
    """The document of some finished parts of cells. `own`: the version of the server where the fault names none."""
    cells = _summed(parts)
    problems = sum(cell[column] for cell in cells for column in COLUMNS)
    measured = document(
        "faults",
        rounds=1,
        parameters={"seeds": seeds, "versions": sorted(programs)},
        server={"server_version": str(own)},
        cells=cells,
    )
    return {**measured, "problems": problems}


def _summed(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The cells whose parts these are: numbers are added, also those of exit codes and verdicts, examples joined."""
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for part in parts:
        cell = cells.setdefault((part["fault"], part["driver"]), {"fault": part["fault"], "driver": part["driver"]})
        for name, value in part.items():
            if isinstance(value, Mapping):
                cell[name] = dict(sorted((Counter(cell.get(name, {})) + Counter(value)).items()))
            elif not isinstance(value, str):
                cell[name] = cell[name] + value if name in cell else value
    return list(cells.values())


def tables(measured: Document) -> list[Table]:
    """The matrix by fault, and the cells in which something is wrong."""
    rows, wrong = [], []
    for name, fault in FAULTS.items():
        cells = [cell for cell in measured["cells"] if cell["fault"] == name]
        if not cells:
            continue
        sums: Counter[str] = Counter()
        for cell in cells:
            sums.update({column: cell[column] for column in ("runs", "hits", *COLUMNS)})
        rows.append((name, fault.text, *(str(sums[column]) for column in ("runs", "hits", *COLUMNS))))
        wrong += [
            (cell["fault"], cell["driver"], *(str(cell[column]) for column in ("runs", *COLUMNS)), cell["examples"][0])
            for cell in cells
            if any(cell[column] for column in COLUMNS)
        ]
    totals = [str(sum(cell[column] for cell in measured["cells"])) for column in ("runs", "hits", *COLUMNS)]
    rows.append(("all", "", *totals))
    heads = tuple(_HEADS[column] for column in COLUMNS)
    matrix = Table(
        title="Trials by fault",
        columns=("fault", "what happens", "trials", "hit", *heads),
        rows=tuple(rows),
        names=2,
        notes=(
            "A trial is not hit if the command ended before the drawn moment.",
            _often([cell["runs"] for cell in measured["cells"]], measured["parameters"]["seeds"]),
        ),
    )
    if not wrong:
        return [matrix]
    return [
        matrix,
        Table(
            title="Cells that are not 0",
            columns=("fault", "command", "trials", *heads, "example"),
            rows=tuple(wrong),
            names=2,
        ),
    ]


def _often(trials: Sequence[int], seeds: int) -> str:
    """How many cells have a trial for every seed, and how many the others have at least."""
    whole = sum(number >= seeds for number in trials)
    sentence = f"{whole} of {len(trials)} cells (a fault with a command) have {seeds} trials"
    return sentence + ("." if whole == len(trials) else f"; the others have at least {min(trials)}.")


def promises() -> list[Table]:
    """What racebench promises under each fault, a table for each family."""
    families: dict[str, list[Fault]] = {}
    for fault in FAULTS.values():
        if fault.family != "control":
            families.setdefault(fault.family, []).append(fault)
    return [
        Table(
            title=family.capitalize(),
            columns=("fault", "what happens", "what racebench does", "verdict", "what remains", "exit codes"),
            rows=tuple(_promise(fault) for fault in faults),
            names=6,
        )
        for family, faults in families.items()
    ]


def _promise(fault: Fault) -> tuple[str, ...]:
    promise = fault.promise
    codes = ", ".join("killed" if code < 0 else str(code) for code in sorted(promise.codes))
    return (fault.name, fault.text, promise.does, promise.verdict, promise.remains, codes)
