"""Explore every stack that is installed, and compare with what must be said of it: `python -m benchmarks.stacks`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.levels import running
from benchmarks.measurement import document, finish, output_option, progress
from benchmarks.stacks.cases import CASES, Case
from benchmarks.stacks.judging import judge, missing
from benchmarks.stacks.stack import STACKS
from benchmarks.stacks.table import tables


def _cell(case: Case, folder: Path) -> Mapping[str, Any]:
    absent = missing(case)
    judged = {} if absent else asdict(judge(case, folder))
    if not judged.get("wrong"):
        judged.pop("report", None)
    return {"stack": case.stack, "case": case.name, "missing": absent, "seconds": 0, "wrong": [], **judged}


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option("--stack", "stacks", multiple=True, type=click.Choice([*STACKS]), help="Only this stack. Repeatable.")
@click.option("--case", "names", multiple=True, help="Only cases of this name. Repeatable.")
@click.option("--repeat", default=1, show_default=True, help="Explore each case so many times.")
@output_option("stacks")
def main(*, stacks: tuple[str, ...], names: tuple[str, ...], repeat: int, output: Path) -> None:
    """Explore, print, write; exit code 1 if anything differs from its case."""
    chosen = [
        case for case in CASES.values() if (not stacks or case.stack in stacks) and (not names or case.name in names)
    ]
    cells: list[Mapping[str, Any]] = []
    with progress(len(chosen) * repeat) as tell, tempfile.TemporaryDirectory() as folder:
        for case in chosen:
            for _ in range(repeat):
                tell(str(case))
                cells.append(_cell(case, Path(folder)))
                if cells[-1]["wrong"]:
                    break
    with running("18", {}) as (_target, description):
        measured = document("stacks", rounds=repeat, parameters={}, server=description, cells=cells)
    finish(measured, tables(measured), output)
    wrong = [f"{cell['stack']}, {cell['case']}: {'; '.join(cell['wrong'])}" for cell in cells if cell["wrong"]]
    if wrong:
        raise click.ClickException("\n".join(wrong))


if __name__ == "__main__":
    main()
