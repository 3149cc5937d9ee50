"""The catalog's verdicts on several versions of PostgreSQL.

Every strategy of every scenario is explored with two sessions, and with the scenario's default consumer. Those whose
race is inside one statement, which no order of statements shows, are run under load. Servers are embedded ones (16, 18)
and those of benchmarks/postgresql (14, 15, 17: `npm install` there) by their major version, or DSNs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.levels import running, short, united
from benchmarks.measurement import (
    Document,
    Table,
    cells_option,
    document,
    finish,
    output_option,
    progress,
    wanted,
    with_kept,
)
from benchmarks.serial_orders import requests
from benchmarks.servers import INSTALLABLE, installed, started
from racebench.core.model import Load, Scenario, Strategy
from racebench.core.target import Target
from racebench.executors.processes import Processes
from racebench.exploration import explorer
from racebench.exploration.request import ExplorationRequest
from racebench.load.driver import LoadDriver
from racebench.workloads import catalog

_CONNECTIONS = 40
#: Of a broken strategy so many schedules: the first that goes wrong is among them.
_ENOUGH = 200
#: A run under load is repeated with other seeds until it shows what the catalog expects.
_RUNS = 10
#: The longest exploration, in seconds.
_BUDGET_S = 60.0
#: Not judged here: without a pooler all of its strategies are right.
LEFT_OUT = ("session-state",)
_UNKNOWN = "UNKNOWN"
_EXPLORED, _LOAD = "explored", "load"


def asked(scenario: Scenario, enough: int = _ENOUGH) -> Iterator[ExplorationRequest]:
    """The explorations of a scenario: right strategies to the end, of others so many schedules.

    So are scripts that are sent as text: nothing is known of what their statements touch, and all schedules are many.
    """
    for request in requests(scenario):
        whole = request.strategy.right and not request.strategy.text
        yield replace(request, oracle=None, budget_s=_BUDGET_S, enough=None if whole else enough)


def explored(target: Target, request: ExplorationRequest) -> dict[str, Any]:
    """Explore one strategy: its verdict, and the kinds of anomaly that the scenario forbids."""
    found = explorer.explore(target, request)
    return {
        "scenario": request.scenario.name,
        "strategy": request.strategy.name,
        "consumer": None if request.consumer is None else request.consumer.name,
        "how": _EXPLORED,
        "verdict": str(found.verdict),
        "kinds": sorted(kind for kind in request.scenario.forbid if found.counts[kind]),
        "runs": found.run,
    }


def under_load(driver: LoadDriver, scenario: Scenario, strategy: Strategy) -> dict[str, Any]:
    """Run one strategy until what the catalog expects of it was seen: the kinds of anomaly of all runs."""
    kinds: set[str] = set()
    verdicts: set[str] = set()
    runs = 0
    consumers = catalog.find_consumers(scenario, catalog.default_consumers(scenario)) if scenario.consumers else []
    for runs in range(1, _RUNS + 1):
        load = Load(workers=8, duration_s=None, operations=800, seed=runs)
        result = driver.run(scenario, strategy, consumers, load, lambda _fraction: None)
        kinds |= set(result.found)
        verdicts.add(str(result.verdict))
        if kinds >= set(result.expected):
            break
    return {
        "scenario": scenario.name,
        "strategy": strategy.name,
        "consumer": ", ".join(consumer.name for consumer in consumers) or None,
        "how": _LOAD,
        "verdict": "INVALID" if "INVALID" in verdicts else min(verdicts),
        "kinds": sorted(kinds),
        "runs": runs,
    }


@contextlib.contextmanager
def server(name: str) -> Iterator[tuple[Target, Mapping[str, Any]]]:
    """The server that `--server` names, with its description."""
    with contextlib.ExitStack() as stack:
        if name.isdecimal() and int(name) in INSTALLABLE:
            programs = installed(int(name))
            if programs is None:
                raise click.ClickException(
                    f"PostgreSQL {name} is not installed; run npm install in benchmarks/postgresql"
                )
            name = stack.enter_context(started(programs, {}, connections=_CONNECTIONS))
        yield stack.enter_context(running(name, {}))


def tables(measured: Document) -> list[Table]:
    """The strategies whose verdict is not the same on all servers."""
    cells: list[Mapping[str, Any]] = measured["cells"]
    versions = [described["server_version"] for described in measured["servers"]]
    by_strategy: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        by_strategy.setdefault((cell["scenario"], cell["strategy"]), []).append(cell)
    rows, alike, missing = [], 0, 0
    for (scenario, strategy), found in by_strategy.items():
        if len({_shown(cell) for cell in found if cell["verdict"] != _UNKNOWN}) <= 1:
            alike += 1
            missing += len(found) < len(versions)
            continue
        rows.append((scenario, f"`{strategy}`", found[0]["how"], united(versions, found, _shown)))
    names = ", ".join(short(version) for version in versions)
    unknown = [cell for cell in cells if cell["verdict"] == _UNKNOWN]
    of = sorted({f"`{cell['scenario']} -s {cell['strategy']}`" for cell in unknown})
    return [
        Table(
            title="Strategies whose verdict is not the same on every version",
            columns=("scenario", "strategy", "how", "verdict"),
            rows=tuple(rows) or (("none", "", "", ""),),
            names=4,
            notes=(
                f"{alike} of {len(by_strategy)} strategies have the same verdict, by the same kinds of anomaly, "
                f"on {names}; {missing} of these need a newer server than the oldest of them.",
                f"{len(unknown)} of {len(cells)} verdicts are UNKNOWN and left out of the comparison: the search "
                f"did not end within its limit: {', '.join(of)}.",
            ),
        )
    ]


def _shown(cell: Mapping[str, Any]) -> str:
    return cell["verdict"] + (f" ({', '.join(cell['kinds'])})" if cell["kinds"] else "")


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@output_option("versions")
@click.option(
    "--server",
    "servers",
    multiple=True,
    default=("14", "15", "16", "17", "18"),
    show_default=True,
    help="A server by its major version, or a DSN; may be repeated.",
)
@cells_option
def main(*, servers: tuple[str, ...], cells: tuple[str, ...], output: Path) -> None:
    """Judge, print, write."""
    chosen = [
        (scenario, request)
        for scenario in catalog.shipped()
        for request in asked(scenario)
        if scenario.name not in LEFT_OUT and wanted(cells, scenario.name, request.strategy.name)
    ]
    found: list[Mapping[str, Any]] = []
    descriptions = []
    with progress(len(servers) * len(chosen)) as tell, Processes() as pool:
        for name in servers:
            with server(name) as (target, described):
                descriptions.append(described)
                driver = LoadDriver(target=target, executor=pool)
                for scenario, request in chosen:
                    tell(f"{described['server_version']} {scenario.name} {request.strategy.name}")
                    found += judged(driver, described["server_version"], scenario, request)
    found = with_kept(cells, output, found, _key)
    measured = document("versions", rounds=1, parameters={"enough": _ENOUGH}, servers=descriptions, cells=found)
    finish(measured, tables(measured), output)


def judged(
    driver: LoadDriver, version: str, scenario: Scenario, request: ExplorationRequest
) -> Iterator[Mapping[str, Any]]:
    """The cell of a strategy on a server of that version; none if the strategy needs a newer one."""
    if request.strategy.server > int(version.split(".", maxsplit=1)[0]):
        return
    inside = request.strategy.inside
    cell = under_load(driver, scenario, request.strategy) if inside else explored(driver.target, request)
    yield {"server": version, **cell}


def _key(cell: Mapping[str, Any]) -> tuple[str, str, int]:
    return cell["scenario"], cell["strategy"], int(cell["server"].split(".")[0])


if __name__ == "__main__":
    main()
