"""Faults × commands × seeds, judged by an independent look at rows, processes, files and text.

Prints a table in which every column after the trials should be 0, and writes results/reference/faults.json. The exit
code is 1 if one is not. All cells get their first seeds before one gets more. Finished parts are kept in the file of
--resume, and are not run again. As root: some faults need it (a disk that is full, a pause of a server's process).
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click

from benchmarks.faults.families import FAULTS
from benchmarks.faults.fault import Fault
from benchmarks.faults.grounds import Kind, Templates, templates
from benchmarks.faults.table import matrix_document, tables
from benchmarks.faults.trial import Cell, run_cell
from benchmarks.faults.twins import TWINS
from benchmarks.measurement import REFERENCE, finish, progress
from racebench.postgres.embedded import wheel_programs

#: Seeds of a cell that are run one after the other on the same server.
_PART = 4


def installed(folders: Sequence[Path]) -> dict[int, Path]:
    """The bin folders of PostgreSQL by version: the wheel's, Debian's, and the given ones."""
    found = {version: wheel_programs(version) for version in (16, 18)}
    for folder in (*sorted(Path("/usr/lib/postgresql").glob("*/bin")), *folders):
        if not (folder / "postgres").exists():
            raise click.BadParameter(f"{folder} has no program 'postgres'")
        found[_version(folder)] = folder
    return found


def _version(folder: Path) -> int:
    done = subprocess.run([str(folder / "postgres"), "--version"], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[2].partition(".")[0].partition("b")[0])


def cells(
    names: Sequence[str], seeds: range, programs: Mapping[int, Path], pgbouncer: Path | None, *, twins: bool = False
) -> list[Cell]:
    """The cells whose fault or `fault / driver` fits one of the patterns, as far as this machine can run them."""
    chosen = []
    for fault in FAULTS.values():
        if not _possible(fault, programs, pgbouncer):
            continue
        left_out = () if twins else TWINS.get(fault.name, ())
        for driver in (driver for driver in fault.drivers if driver not in left_out):
            cell = Cell(fault=fault.name, driver=driver, seeds=seeds)
            fits = any(fnmatch(fault.name, name) or fnmatch(cell.name, name) for name in names)
            if fits or not names:
                chosen.append(cell)
    return chosen


def _possible(fault: Fault, programs: Mapping[int, Path], pgbouncer: Path | None) -> bool:
    layout = fault.layout
    if layout.version is not None and layout.version not in programs:
        return False
    return layout.kind is not Kind.POOLER or pgbouncer is not None


def versions_of(chosen: Sequence[Cell], own: int) -> list[int]:
    """The versions whose servers these cells need."""
    return sorted({FAULTS[cell.fault].layout.version or own for cell in chosen})


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option("--cells", "names", multiple=True, help="Only faults, or 'fault / command', that fit; can be repeated.")
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True, help="Trials of a cell.")
@click.option("--first-seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--jobs", type=click.IntRange(1), default=max(2, os.cpu_count() or 1), show_default="cores")
@click.option("--quick", is_flag=True, help="Two seeds.")
@click.option("--twins", is_flag=True, help="Also commands that take the same way as another one.")
@click.option(
    "--programs", "folders", multiple=True, type=click.Path(path_type=Path), help="Bin folder of a PostgreSQL."
)
@click.option("--minutes", type=click.FloatRange(0), help="Begin no part of a cell after this time.")
@click.option("--resume", type=click.Path(dir_okay=False, path_type=Path), help="File of finished cells.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Folder for the output of bad trials.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=REFERENCE / "faults.json",
    show_default="results/reference/faults.json",
)
def main(
    *,
    names: tuple[str, ...],
    seeds: int,
    first_seed: int,
    jobs: int,
    quick: bool,
    twins: bool,
    folders: tuple[Path, ...],
    minutes: float | None,
    resume: Path | None,
    keep: Path | None,
    output: Path,
) -> None:
    """Run, print, write; exit with 1 if a column is not 0."""
    programs, pooler = installed(folders), pgbouncer()
    own = 15 if 15 in programs else max(programs)
    number = range(first_seed, first_seed + (2 if quick else seeds))
    chosen = cells(names, number, programs, pooler, twins=twins)
    if not chosen:
        raise click.UsageError("no cell fits; the faults are: " + ", ".join(FAULTS))
    done = _finished(resume)
    left = [part for part in parts(chosen) if part.key not in done]
    limit = time.monotonic() + 60 * minutes if minutes is not None else math.inf
    signal.signal(signal.SIGTERM, _interrupt)
    with (
        templates(programs, own, versions_of(left, own), pooler) as made,
        ProcessPoolExecutor(max_workers=jobs, mp_context=multiprocessing.get_context("fork")) as pool,
        progress(len(left)) as tell,
        contextlib.ExitStack() as stack,
    ):
        stack.push(functools.partial(_end_jobs, pool))
        futures = {pool.submit(_counted, part, made, keep, limit): part for part in left}
        for future in as_completed(futures):
            if (document := future.result()) is None:
                continue
            done[futures[future].key] = document
            if resume is not None:
                resume.write_text(json.dumps(done, indent=1))
            for example in document["examples"][:3]:
                click.echo(f"{futures[future].name}: {example}", err=True)
            tell(futures[future].name)
    finished = [done[part.key] for part in parts(chosen) if part.key in done]
    measured = matrix_document(finished, seeds=len(number), own=own, programs=programs)
    finish(measured, tables(measured), output)
    raise SystemExit(1 if measured["problems"] else 0)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _end_jobs(pool: ProcessPoolExecutor, problem: type[BaseException] | None, *_: object) -> None:
    """End the jobs after an interruption: each removes its servers then."""
    if problem is not None:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()


def parts(chosen: Sequence[Cell]) -> list[Cell]:
    """The cells in parts of some seeds, those with the first seeds first."""
    seeds = chosen[0].seeds
    starts = range(0, len(seeds), _PART)
    return [replace(cell, seeds=cell.seeds[start : start + _PART]) for start in starts for cell in chosen]


def _counted(cell: Cell, made: Templates, keep: Path | None, limit: float) -> dict[str, Any] | None:
    """What the trials of a part have shown; None if it is too late for it."""
    if time.monotonic() > limit:
        return None
    try:
        return run_cell(cell, made, keep=keep).document()
    except KeyboardInterrupt:
        os._exit(130)  # the pool would go on with the next cell


def _finished(resume: Path | None) -> dict[str, dict[str, Any]]:
    return json.loads(resume.read_text()) if resume is not None and resume.exists() else {}


def pgbouncer() -> Path | None:
    found = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    return Path(found) if found else None


if __name__ == "__main__":
    main()
