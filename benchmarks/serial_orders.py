"""The catalog judged without its invariants, by the serial orders; and what the comparison costs.

Every strategy of every scenario is explored with two sessions, and with the scenario's default consumer if it has one.
The scenario's own verdict is by what it forbids, the other by the outcomes that no serial order has. Where they differ,
a schedule shows why. Then the rate of schedules with the comparison and without it, of the same search.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.levels import running
from benchmarks.measurement import (
    Document,
    Table,
    alternating,
    cells_option,
    document,
    finish,
    options,
    progress,
    ratios,
    sample,
    spread,
    wanted,
    with_kept,
)
from racebench.core.anomalies import NON_SERIALIZABLE
from racebench.core.model import Scenario, Strategy
from racebench.core.target import Target
from racebench.exploration import explorer
from racebench.exploration.oracle.effects import Oracle
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ENOUGH, ExplorationRequest
from racebench.workloads import catalog

_POLLS = 2
_BUDGET_S = 30.0
#: The strategies whose rate is measured, of version-counter.
RATED = ("naive", "unique", "advisory")
_WITH, _WITHOUT = "compared", "not compared"
_SAME, _REFUSED, _SERIAL, _ALLOWED = "same", "refused alone", "one after the other too", "not forbidden"
_WHY = {
    _SAME: "",
    _REFUSED: "only refusals, and a session that failed does not count",
    _SERIAL: "a serial order has it too, so it is no race",
    _ALLOWED: "a race that the scenario does not forbid",
}


def requests(scenario: Scenario) -> Iterator[ExplorationRequest]:
    """The exploration of each strategy, with the scenario's default consumer."""
    consumers = catalog.find_consumers(scenario, catalog.default_consumers(scenario)) if scenario.consumers else []
    for strategy in scenario.strategies.values():
        fitting = [consumer for consumer in consumers if consumer.fits(strategy)]
        yield ExplorationRequest(
            scenario=scenario,
            strategy=strategy,
            consumer=fitting[0] if fitting else None,
            polls=_POLLS,
            budget_s=_BUDGET_S,
            enough=ENOUGH,
            oracle=Oracle.RETURNS,
        )


def judge(target: Target, request: ExplorationRequest) -> dict[str, Any]:
    """Explore a strategy, and judge it in both ways."""
    ended: list[ScheduleResult] = []
    explored = explorer.explore(target, request, ended=ended.append)
    forbidden = request.scenario.forbid
    wrong = [result for result in ended if any(result.counts[kind] for kind in forbidden)]
    others = [result for result in ended if result.counts[NON_SERIALIZABLE]]
    serial = [result for result in wrong if not result.counts[NON_SERIALIZABLE] and not result.unjudged]
    kinds = sorted({kind for result in wrong for kind in forbidden if result.counts[kind]})
    return {
        "scenario": request.scenario.name,
        "strategy": request.strategy.name,
        "consumer": None if request.consumer is None else request.consumer.name,
        "schedules": explored.run,
        "complete": explored.complete,
        "wrong": len(wrong),
        "kinds": kinds,
        "non_serializable": len(others),
        "unjudged": sum(result.unjudged for result in ended),
        "why": _why(bool(wrong), bool(others), kinds, serial),
        "schedule": _steps(serial[0] if serial else others[0] if others else None),
    }


def _why(wrong: bool, others: bool, kinds: list[str], serial: list[ScheduleResult]) -> str:
    if wrong == others:
        return _SAME
    if kinds == ["refused"]:
        return _REFUSED
    if others:
        return _ALLOWED
    return _SERIAL if serial else "?"


def _steps(result: ScheduleResult | None) -> str:
    return "" if result is None else ".".join(f"s{number}" for number in result.schedule)


def rates(target: Target, strategy: Strategy, scenario: Scenario, rounds: int) -> dict[str, Any]:
    """The rates of schedules with and without the comparison, without reduction, alternating."""
    figures: dict[str, list[float]] = {_WITH: [], _WITHOUT: []}
    for number in range(rounds):
        for name in alternating([_WITH, _WITHOUT], number):
            oracle = Oracle.RETURNS if name == _WITH else None
            request = ExplorationRequest(scenario=scenario, strategy=strategy, reduce=False, oracle=oracle)
            figures[name].append(explorer.explore(target, request).schedules_per_s)
    return {name: sample(values) for name, values in figures.items()}


def tables(measured: Document) -> list[Table]:
    """What differs, and the rates."""
    cells: list[Mapping[str, Any]] = measured["cells"]
    same = [cell for cell in cells if cell["why"] == _SAME]
    differing = [cell for cell in cells if cell["why"] != _SAME]
    broken = sum(cell["wrong"] > 0 for cell in same)
    rows = [
        (
            cell["scenario"],
            f"`{cell['strategy']}`" + (f" with `{cell['consumer']}`" if cell["consumer"] else ""),
            f"{', '.join(cell['kinds']) or 'VALID'}: {cell['wrong']} of {cell['schedules']}",
            f"{cell['non_serializable']}",
            _WHY.get(cell["why"], cell["why"]),
        )
        for cell in differing
    ]
    rated = measured["rates"]
    return [
        Table(
            title="Strategies that the serial orders judge otherwise than the scenario",
            columns=("scenario", "strategy", "the scenario", "non-serializable", "why"),
            rows=tuple(rows),
            names=2,
            notes=(
                f"{len(same)} of {len(cells)} strategies are judged alike: {broken} of them go wrong, "
                f"{len(same) - broken} do not.",
                f"{sum(cell['unjudged'] for cell in cells)} schedules could not be compared.",
            ),
        ),
        Table(
            title="Schedules a second, two sessions, every schedule",
            columns=("strategy", _WITH, _WITHOUT, "ratio"),
            rows=tuple(
                (
                    f"`{name}`",
                    spread(rated[name][_WITH]),
                    spread(rated[name][_WITHOUT]),
                    spread(ratios(rated[name][_WITH], rated[name][_WITHOUT])),
                )
                for name in RATED
            ),
            names=1,
        ),
    ]


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@options("serial_orders", rounds=7)
@cells_option
def main(*, cells: tuple[str, ...], rounds: int, output: Path) -> None:
    """Judge, measure, print, write. With `--cells` all else in the file is kept: the rates, where and when."""
    chosen = [
        (scenario, request)
        for scenario in catalog.shipped()
        for request in requests(scenario)
        if wanted(cells, scenario.name, request.strategy.name)
    ]
    found: list[Mapping[str, Any]] = []
    with running("18", {}) as (target, described), progress(len(chosen) + (0 if cells else len(RATED))) as tell:
        for scenario, request in chosen:
            tell(f"{scenario.name} {request.strategy.name}")
            found.append(judge(target, request))
        judged = with_kept(cells, output, found, _key)
        if cells:
            measured = {**json.loads(output.read_text(encoding="utf-8")), "cells": judged}
        else:
            counter = catalog.find_scenario("version-counter")
            rated = {}
            for name in RATED:
                tell(f"rate of {name}")
                rated[name] = rates(target, counter.strategies[name], counter, rounds)
            measured = document("serial_orders", rounds=rounds, parameters={}, server=described, cells=judged)
            measured |= {"rates": rated}
    finish(measured, tables(measured), output)


def _key(cell: Mapping[str, Any]) -> tuple[str, str]:
    return cell["scenario"], cell["strategy"]


if __name__ == "__main__":
    main()
