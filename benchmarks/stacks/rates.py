"""Schedules a second through the gate on the wire, and in the gate in psycopg: `python -m benchmarks.stacks.rates`.

All contestants send the same SQL, and have the same 70 schedules: BEGIN is a step in each, because a default of the
table asks when the transaction began. The rate is that of the search, without the start of server and service. The CPU
time is that of racebench's own process, of which the callable over psycopg is a part; the slope between a search of one
schedule and the whole search leaves out what is done once.
"""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import click
import psycopg

from benchmarks.levels import running
from benchmarks.measurement import (
    Document,
    Table,
    aim,
    alternating,
    document,
    finish,
    options,
    progress,
    ratios,
    sample,
    spread,
)
from benchmarks.stacks.cases import ORDERS, timed
from benchmarks.stacks.stack import STACKS
from racebench import Bench, Search, http

_IN_PROCESS = "callable over psycopg, in process"
_SERVICES = ("psycopg2", "pgx", "pg", "postgres.js", "asyncpg", "hikari")
_SCHEDULES = 70
#: BEGIN, SELECT, INSERT, COMMIT, of two sessions.
_ROUND_TRIPS = 8
_AIM = 0.5


def create_order(connection: psycopg.Connection[Any]) -> None:
    """What the applications do, over the connection that racebench gives it."""
    with connection.transaction():
        row = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()
        connection.execute("INSERT INTO orders (number) VALUES (%s)", row)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """`cpu_s`: of this process, in seconds."""

    schedules: int
    seconds: float
    cpu_s: float


def _explore(bench: Bench, name: str, folder: Path, most: int | None) -> _Measured:
    search: dict[str, Any] = {"sessions": 2, "setup": timed(ORDERS), "budget": inf, "max_schedules": most}
    begin = time.process_time()
    if name == _IN_PROCESS:
        explored = bench.explore(create_order, search=Search(reduce=False), **search)
    else:
        serve = shlex.join(STACKS[name].command(folder))
        explored = bench.explore(http("POST", "/orders"), serve=serve, search=Search(reduce=False), **search)
    cpu_s = time.process_time() - begin
    return _Measured(schedules=explored.run, seconds=explored.result.seconds, cpu_s=cpu_s)


def _cell(bench: Bench, name: str, folder: Path) -> Mapping[str, float]:
    few = _explore(bench, name, folder, 1)
    whole = _explore(bench, name, folder, None)
    if whole.schedules != _SCHEDULES:
        raise click.ClickException(f"{name}: {whole.schedules} schedules in place of {_SCHEDULES}")
    more = whole.schedules - few.schedules
    return {
        "per_s": whole.schedules / whole.seconds,
        "cpu_us": (whole.cpu_s - few.cpu_s) / more / _ROUND_TRIPS * 1e6,
    }


def tables(measured: Document) -> list[Table]:
    """The rates, and the processor time."""
    cells = {cell["name"]: cell for cell in measured["cells"]}
    own = cells[_IN_PROCESS]
    best = max((cell for cell in measured["cells"] if cell is not own), key=lambda cell: cell["per_s"]["median"])
    return [
        Table(
            title="70 schedules of two sessions",
            columns=("application", "schedules a second", "ratio", "µs of racebench's CPU a round trip"),
            rows=tuple(
                (
                    STACKS[name].title if name in STACKS else name,
                    spread(cell["per_s"]),
                    spread(ratios(cell["per_s"], own["per_s"])),
                    spread(cell["cpu_us"]),
                )
                for name, cell in cells.items()
            ),
            notes=(
                aim(
                    f"Rate of {STACKS[best['name']].title} to that in process",
                    ratios(best["per_s"], own["per_s"])["median"],
                    least=_AIM,
                ),
            ),
        )
    ]


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@options("rates", rounds=7)
def main(*, rounds: int, output: Path) -> None:
    """Measure, print, write."""
    contestants = [_IN_PROCESS, *(name for name in _SERVICES if not STACKS[name].missing)]
    results: dict[str, list[Mapping[str, float]]] = {name: [] for name in contestants}
    with progress(rounds * len(contestants)) as tell, Bench() as bench, tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for name in alternating(contestants, number):
                tell(name)
                results[name].append(_cell(bench, name, Path(folder)))
    with running("18", {}) as (_target, description):
        cells = [
            {"name": name, **{figure: sample([cell[figure] for cell in own]) for figure in ("per_s", "cpu_us")}}
            for name, own in results.items()
        ]
        measured = document("rates", rounds=rounds, parameters={}, server=description, cells=cells)
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
