"""Hermitage's table, by the explorer: the anomalies that each isolation level allows, and how it prevents the others.

Every schedule of the transactions of transactions.py is run, at each isolation level, on each server. An anomaly can
occur at a level if a schedule shows it. No schedule is left out (`reduce=False`): the explorer's reduction assumes that
no transaction reads what another has not committed, and this table is to show that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import psycopg

from benchmarks.levels import LEVELS, running, servers_and_output, spent, united
from benchmarks.measurement import Document, Table, document, finish, progress
from benchmarks.transactions import PROGRAMS, Program, Rows, Told, Transaction
from racebench.core.model import Origin, Scenario, ScheduleIsolation, Script, SqlFile, Strategy
from racebench.core.target import Target
from racebench.exploration import explorer
from racebench.exploration.oracle.effects import Oracle
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration
from racebench.workloads import callables

_REFUSALS = ("40001", "40P01")


def scenario(program: Program, level: str) -> Scenario:
    """A program at an isolation level, as own code of racebench, with the anomaly as its invariant."""
    told = [Told() for _ in program.bodies]

    def shows_the_anomaly(connection: psycopg.Connection[Any]) -> list[str]:
        rows: Rows = dict(connection.execute("SELECT id, value FROM test").fetchall())
        return [program.anomaly] if program.shows(told, rows) else []

    functions = [_function(number, program, level, told) for number in range(len(program.bodies))]
    strategy = Strategy(
        name=program.name,
        summary=program.title,
        script=Script(path=Path(program.name), text="", steps=()),
        calls=tuple(map(callables.of, functions)),
    )
    return Scenario(
        name="hermitage",
        title=program.name,
        summary=program.title,
        folder=Path(),
        schema=(SqlFile(path=Path("setup.sql"), text=program.schema),),
        rows=None,
        invariants={},
        measures={},
        lines={},
        once=False,
        forbid=("violations",),
        advise=None,
        strategies={strategy.name: strategy},
        consumers={},
        checks={program.anomaly: callables.of(shows_the_anomaly)},
        schedule_isolation=ScheduleIsolation.RESTORED_TABLES,
        origin=Origin.OWN_CODE,
        options=None,
    )


def _function(number: int, program: Program, level: str, told: list[Told]) -> Callable[[psycopg.Connection[Any]], None]:
    def run(connection: psycopg.Connection[Any]) -> None:
        told[number] = Told()
        connection.isolation_level = psycopg.IsolationLevel[level.upper().replace(" ", "_")]
        program.bodies[number](Transaction(connection, told[number]))

    run.__name__ = run.__qualname__ = f"transaction_{number + 1}"
    return run


def explore(target: Target, program: Program, level: str) -> tuple[Exploration, list[ScheduleResult]]:
    """Explore a program at a level; returns the result, and that of each schedule."""
    subject = scenario(program, level)
    (strategy,) = subject.strategies.values()
    ended: list[ScheduleResult] = []
    request = ExplorationRequest(
        scenario=subject, strategy=strategy, sessions=len(program.bodies), reduce=False, oracle=Oracle.ANSWERS
    )
    return explorer.explore(target, request, ended=ended.append), ended


def _refused(result: ScheduleResult, sqlstate: str) -> bool:
    """Whether the server refused a session of a schedule with an SQLSTATE."""
    return any(session[1] == sqlstate for session in result.signature[0])


def measure(target: Target, program: Program, level: str) -> dict[str, Any]:
    """The cell of a program at a level."""
    begin = time.perf_counter()
    exploration, ended = explore(target, program, level)
    return {
        "anomaly": program.anomaly,
        "variant": program.variant,
        "title": program.title,
        "hole": program.hole,
        "level": level,
        "shown": exploration.anomalous,
        "non_serializable": sum(result.counts["non-serializable"] > 0 for result in ended),
        "shown_but_serializable": sum(
            result.counts["violations"] > 0 and not result.counts["non-serializable"] for result in ended
        ),
        "unjudged": sum(result.unjudged for result in ended),
        "schedules": exploration.run,
        "complete": exploration.complete,
        "waited": sum(result.waited for result in ended),
        **{sqlstate: sum(_refused(result, sqlstate) for result in ended) for sqlstate in _REFUSALS},
        "witness": None if exploration.witness is None else str(exploration.witness.schedule),
        "published": level in program.at,
        "seconds": time.perf_counter() - begin,
    }


def _cell(cell: Mapping[str, Any]) -> str:
    """The schedules that show the anomaly, and that are not serializable; if none shows it, what prevented it."""
    shown, not_serializable = (f"**{cell[key]}**" if cell[key] else "0" for key in ("shown", "non_serializable"))
    text = f"{shown} / {not_serializable} of {cell['schedules']}{'' if cell['complete'] else ' +'}"
    how = [text for text, what in (("waits", "waited"), ("40001", "40001"), ("40P01", "40P01")) if cell[what]]
    return text if cell["shown"] or not how else f"{text}: {', '.join(how)}"


def _agreement(cells: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Compare with Hermitage's table: an anomaly can occur at a level if any of its programs shows it."""
    ours: dict[tuple[str, str], bool] = {}
    published: dict[tuple[str, str], bool] = {}
    for cell in cells:
        if not cell["hole"]:
            key = cell["anomaly"], cell["level"]
            ours[key] = ours.get(key, False) or cell["shown"] > 0
            published[key] = published.get(key, False) or cell["published"]
    different = [
        f"{anomaly} under {level.upper()}"
        for anomaly, level in ours
        if ours[anomaly, level] != published[anomaly, level]
    ]
    return (
        f"Hermitage's table (PostgreSQL 9.3) says the same in {len(ours) - len(different)} of {len(ours)} cells.",
        *(f"Not as Hermitage's table says: {', '.join(different)}." for _ in different[:1]),
    )


def _judges(cells: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Where the two judges of a schedule differ."""
    only_shown = sum(cell["shown_but_serializable"] for cell in cells)
    more = [
        f"{cell['anomaly']} under {cell['level'].upper()}"
        for cell in cells
        if cell["non_serializable"] > cell["shown"] - cell["shown_but_serializable"]
    ]
    return (
        f"Schedules that show the anomaly and are serializable: {only_shown}.",
        f"More schedules are not serializable than show the anomaly: {', '.join(dict.fromkeys(more)) or 'nowhere'}.",
    )


def _rows(cells: Sequence[Mapping[str, Any]], versions: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """A row for each program."""
    by_program: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        name = f"{cell['anomaly']}, {cell['variant']}" if cell["variant"] else cell["anomaly"]
        by_program.setdefault((name, cell["title"]), []).append(cell)
    return tuple(
        (*program, *(united(versions, [cell for cell in own if cell["level"] == level], _cell) for level in LEVELS))
        for program, own in by_program.items()
    )


def tables(measured: Document) -> list[Table]:
    """The ten anomalies; then the two holes of SERIALIZABLE."""
    cells = measured["cells"]
    versions = [server["server_version"] for server in measured["servers"]]
    columns = ("anomaly", "transactions", *LEVELS)
    return [
        Table(
            title="Schedules that show the anomaly / that are not serializable, of all schedules",
            columns=columns,
            rows=_rows([cell for cell in cells if not cell["hole"]], versions),
            names=2,
            notes=(
                *_agreement(cells),
                *_judges(cells),
                spent(versions, cells),
            ),
        ),
        Table(
            title="The same for two holes in SERIALIZABLE",
            columns=columns,
            rows=_rows([cell for cell in cells if cell["hole"]], versions),
            names=2,
        ),
    ]


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@servers_and_output("hermitage")
def main(*, servers: tuple[str, ...], output: Path) -> None:
    """Explore, print, write."""
    cells, descriptions = [], []
    with progress(len(servers) * len(PROGRAMS) * len(LEVELS)) as tell:
        for server in servers:
            with running(server, {}) as (target, description):
                descriptions.append(description)
                for program in PROGRAMS:
                    for level in LEVELS:
                        tell(f"{program.name}, {level}")
                        cells.append({"server": description["server_version"], **measure(target, program, level)})
    measured = document("hermitage", rounds=1, parameters={}, servers=descriptions, cells=cells)
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
