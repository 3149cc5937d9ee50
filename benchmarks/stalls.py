"""Every consumer of version-counter beside a session that is idle in transaction: how long it stalls, and behind whom.

Each consumer reads alone, of a strategy that commits in the order of its numbers, and of a sequence some of whose
transactions roll back, so that numbers are never used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.levels import running
from benchmarks.measurement import Document, Table, document, figure, finish, output_option, progress
from racebench.core.model import Consumer, Load, Scenario, Strategy
from racebench.core.results import ConsumerResult
from racebench.executors.processes import Processes
from racebench.load.driver import LoadDriver
from racebench.load.idle_transaction import ROLE
from racebench.workloads import catalog

#: Strategies, and the share of their transactions that roll back.
_STRATEGIES = {"upsert": 0.0, "sequence": 5.0}
_WORKERS = 2


def judge(
    driver: LoadDriver, scenario: Scenario, strategy: Strategy, consumer: Consumer, *, idle_s: float, rollback: float
) -> dict[str, Any]:
    """Run a strategy with one consumer beside the idle transaction."""
    load = Load(
        workers=_WORKERS,
        duration_s=1.25 * idle_s,
        operations=None,
        seed=1,
        rollback_percent=rollback,
        idle_in_transaction_s=idle_s,
    )
    done = driver.run(scenario, strategy, (consumer,), load, lambda _: None)
    (read,) = done.consumers
    return {
        "strategy": strategy.name,
        "rollback": rollback,
        "consumer": consumer.name,
        "verdict": read.verdict.value,
        "rows": done.counts["rows"],
        "missed": read.counts["missed"],
        "out_of_order": read.counts["out-of-order"],
        "stalled_ms": read.stalled_ms,
        "stalled": read.stalled,
        "behind": _behind(read),
        "late_max_ms": None if read.late_us["max"] is None else read.late_us["max"] / 1e3,
    }


def _behind(read: ConsumerResult) -> str:
    """Behind whom a consumer held rows back the longest; "" if that was too short to ask."""
    if read.behind is None:
        return ""
    if read.waits_for_numbers:
        return "a missing number"
    if any(holder.name.endswith(ROLE) for holder in read.behind):
        return "the idle transaction"
    return "another transaction" if read.behind else "no transaction"


def tables(measured: Document) -> list[Table]:
    """A line for each consumer and strategy."""
    cells: list[Mapping[str, Any]] = measured["cells"]
    idle_s = measured["parameters"]["idle_s"]
    rows = tuple(
        (
            f"`{cell['consumer']}`",
            f"`{cell['strategy']}`" + (f", {cell['rollback']:g} % roll back" if cell["rollback"] else ""),
            figure(cell["stalled_ms"]),
            "yes" if cell["stalled"] else "no",
            cell["behind"] or "–",
            figure(cell["late_max_ms"]),
            f"{cell['missed']:,}",
            f"{cell['out_of_order']:,}",
            f"{cell['rows']:,}",
        )
        for cell in cells
    )
    return [
        Table(
            title=f"Consumers beside a transaction that is idle for {idle_s:g} s",
            columns=(
                *("consumer", "strategy", "held rows back for, ms", "called stalled", "behind", "late at most, ms"),
                *("missed", "out of order", "rows"),
            ),
            rows=rows,
            names=2,
        )
    ]


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option("--idle", "idle_s", type=click.FloatRange(0.5), default=2.0, show_default=True, help="Seconds.")
@output_option("stalls")
def main(*, idle_s: float, output: Path) -> None:
    """Run, print, write."""
    scenario = catalog.find_scenario("version-counter")
    chosen = [
        (scenario.strategies[name], rollback, consumer)
        for name, rollback in _STRATEGIES.items()
        for consumer in scenario.consumers.values()
        if consumer.fits(scenario.strategies[name])
    ]
    cells = []
    with running("18", {}) as (target, described), Processes() as processes, progress(len(chosen)) as tell:
        driver = LoadDriver(target=target, executor=processes)
        for strategy, rollback, consumer in chosen:
            tell(f"{strategy.name} {consumer.name}")
            cells.append(judge(driver, scenario, strategy, consumer, idle_s=idle_s, rollback=rollback))
    parameters = {"idle_s": idle_s, "workers": _WORKERS}
    measured = document("stalls", rounds=1, parameters=parameters, server=described, cells=cells)
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
