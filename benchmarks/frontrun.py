"""The explorer of Python functions compared with frontrun's DPOR: right verdicts, schedules, seconds.

Each exploration runs in a process of its own, with a time limit. frontrun runs under its own command, so that it sees
the sockets. The seconds are those of the exploration alone. Both stop at the first race. The functions are in
callables.py. frontrun's lock_timeout, its option for a worker that waits for a lock, does not work with psycopg 3's
cursors (0.7.0).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.callables import CASES, SIDES
from benchmarks.measurement import (
    ROOT,
    Document,
    Table,
    aim,
    alternating,
    document,
    figure,
    finish,
    options,
    progress,
    ratios,
    sample,
    spread,
)
from benchmarks.programs import Server, running_server

_OURS, _THEIRS = SIDES
_LIMIT_S = 60.0
_WORKERS = (2, 3)


def _once(server: Server, side: str, case: str, workers: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.callables", side, case, str(workers)]
    if side != _OURS:
        command = [str(shutil.which("frontrun", path=str(Path(sys.executable).parent))), *command]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "RACEBENCH_DSN"))}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**own, "DATABASE_URL": server.dsn},
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"verdict": "none", "schedules": None, "seconds": _LIMIT_S, "why": f"no answer in {_LIMIT_S:g} s"}
    finally:
        _clear(server)
    if done.returncode != 0:
        return {"verdict": "none", "schedules": None, "seconds": None, "why": done.stderr[-300:]}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _clear(server: Server) -> None:
    """End the sessions that an explorer left on the server when it gave up."""
    with server.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )


def _said(rounds: list[Mapping[str, Any]]) -> str:
    """The verdict, if every round had the same; else the count of each."""
    verdicts = [run["verdict"] for run in rounds]
    return ", ".join(
        name if verdicts.count(name) == len(verdicts) else f"{name} {verdicts.count(name)}/{len(verdicts)}"
        for name in ("right", "wrong", "none")
        if name in verdicts
    )


def tables(measured: Document) -> list[Table]:
    """The table: one line for each case and number of workers."""
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    wrong = 0
    for cell in measured["cells"]:
        runs_of: Mapping[str, list[Mapping[str, Any]]] = cell["contestants"]
        seconds = {side: sample([run["seconds"] for run in rounds]) for side, rounds in runs_of.items()}
        name = CASES[cell["case"]].title
        row = [name, str(cell["workers"])]
        for side, rounds in runs_of.items():
            schedules = sample([run["schedules"] for run in rounds])
            row += [_said(rounds), figure(schedules["median"]), spread(seconds[side])]
        rows.append(tuple(row))
        wrong += sum(run["verdict"] != "right" for run in runs_of[_OURS])
        text = f"{name}, {cell['workers']}: racebench's seconds to frontrun's (its verdict: {_said(runs_of[_THEIRS])})"
        notes.append(aim(text, ratios(seconds[_OURS], seconds[_THEIRS])["median"], most=0.1))
    columns = tuple(f"{side}: {what}" for side in SIDES for what in ("verdict", "schedules", "seconds"))
    return [
        Table(
            title="Functions explored until the first race, or to the end",
            columns=("case", "workers", *columns),
            rows=tuple(rows),
            names=1,
            notes=(aim("racebench's verdicts that are not right", float(wrong), most=0), *notes),
        )
    ]


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@options("frontrun", rounds=5)
def main(*, rounds: int, output: Path) -> None:
    """Measure, print, write."""
    try:
        version = importlib.metadata.version("frontrun")
    except importlib.metadata.PackageNotFoundError:
        raise click.ClickException("frontrun is not installed; pip install '.[bench]'") from None
    cells = []
    with running_server() as server, progress(rounds * len(SIDES) * len(CASES) * len(_WORKERS)) as tell:
        for case in CASES:
            for workers in _WORKERS:
                runs_of: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
                for number in range(rounds):
                    for side in alternating(list(SIDES), number):
                        tell(f"{case} {workers} {side}")
                        runs_of[side].append(_once(server, side, case, workers))
                cells.append({"case": case, "workers": workers, "contestants": runs_of})
        measured = document(
            "frontrun",
            rounds=rounds,
            parameters={"limit_s": _LIMIT_S},
            server=server.description,
            cells=cells,
            versions={"frontrun": version},
        )
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
