"""Load on two Dask machines of this computer beside local processes, and machines that are killed in a run.

The rounds alternate between local processes and machines, with the same strategy, workers and server. Of a killed
machine each trial checks the report: the machine is named, its operations are UNKNOWN, and nothing is accused.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.levels import running
from benchmarks.measurement import (
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
from racebench.core.model import Load
from racebench.core.results import RunResult
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.executors import Executor, connecting
from racebench.executors.cluster import Cluster
from racebench.executors.connecting import Scheduler
from racebench.executors.processes import Processes
from racebench.load.driver import LoadDriver
from racebench.load.server_clock import ServerClock
from racebench.workloads import catalog

STRATEGIES = ("advisory", "sequence")
WORKERS = 8
_LOCAL, _MACHINES = "processes", "machines"
_AIM = 0.9


def load(
    target: Target,
    executor: Executor,
    strategy: str,
    seconds: float,
    progress: Callable[[float], None] = lambda _fraction: None,
) -> RunResult:
    """One run of a strategy."""
    scenario = catalog.find_scenario("version-counter")
    return LoadDriver(target=target, executor=executor).run(
        scenario,
        scenario.strategies[strategy],
        catalog.find_consumers(scenario, ["cursor"]),
        Load(workers=WORKERS, duration_s=seconds, operations=None),
        progress,
    )


def compare(target: Target, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """The throughput of each strategy by local processes and on machines."""
    cells = []
    with (
        Processes() as processes,
        connecting.connected(Scheduler.parse("local"), machines=2) as client,
        Cluster(client, connecting.machines_of(client), ServerClock(target)) as machines,
    ):
        executors: dict[str, Executor] = {_LOCAL: processes, _MACHINES: machines}
        for strategy in STRATEGIES:
            rates: dict[str, list[float | None]] = {name: [] for name in executors}
            for executor in executors.values():
                load(target, executor, strategy, 0.5)
            for number in range(rounds):
                for name in alternating([*executors], number):
                    rates[name].append(load(target, executors[name], strategy, seconds).throughput_per_s)
            cells.append({"strategy": strategy, **{name: sample(values) for name, values in rates.items()}})
    return cells


def killed(target: Target) -> dict[str, Any]:
    """What is said of a run on two machines, one of which is killed with kill -9 in the middle."""
    with (
        connecting.connected(Scheduler.parse("local"), machines=2) as client,
        Cluster(client, connecting.machines_of(client), ServerClock(target)) as machines,
    ):
        pids: dict[str, Any] = client.run(os.getpid)
        victim = max(pids)
        done: list[str] = []

        def kill(fraction: float) -> None:
            if not done and fraction > 0.3:
                done.append(victim)
                os.kill(pids[victim], signal.SIGKILL)

        result = load(target, machines, "advisory", 2.0, kill)
    return {
        "named": any(f"machine {victim} was lost" in note for note in result.notes),
        "innocent": result.verdict is not Verdict.INVALID and not result.counts["lost"],
        "unknown": result.counts["unknown"],
    }


def is_right(trial: dict[str, Any]) -> bool:
    """Whether the machine is named, each of its sessions has an UNKNOWN operation, and nothing is accused."""
    return bool(trial["named"] and trial["innocent"] and trial["unknown"] >= WORKERS // 2)


def tables(measured: Document) -> list[Table]:
    """The rates, and how many reports of a killed machine are right."""
    cells, trials = measured["cells"], measured["trials"]
    quotients = [ratios(cell[_MACHINES], cell[_LOCAL]) for cell in cells]
    right = sum(is_right(trial) for trial in trials)
    return [
        Table(
            title="Commits a second, two Dask machines on this computer and local processes",
            columns=("strategy", "local processes", "two machines", "ratio"),
            rows=tuple(
                (f"`{cell['strategy']}`", spread(cell[_LOCAL], figure), spread(cell[_MACHINES], figure), spread(ratio))
                for cell, ratio in zip(cells, quotients, strict=True)
            ),
            notes=(
                f"{WORKERS} workers and the consumer `cursor`, {measured['parameters']['seconds']:g} s each.",
                aim("The least median", min(ratio["median"] for ratio in quotients), least=_AIM),
                f"A machine was killed in {len(trials)} runs: {right} reports name it, have its operations UNKNOWN "
                "and accuse nothing.",
            ),
        )
    ]


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option("--seconds", type=float, default=3.0, show_default=True, help="How long a run lasts.")
@click.option("--trials", default=20, show_default=True, help="In how many runs a machine is killed.")
@options("cluster", rounds=6)
def main(*, seconds: float, trials: int, rounds: int, output: Path) -> None:
    """Measure, kill, print, write."""
    with running("18", {}) as (target, described), progress(1 + trials) as tell:
        cells = compare(target, rounds, seconds)
        tell("rates")
        killings = []
        for _ in range(trials):
            killings.append(killed(target))
            tell("killed: the report is " + ("right" if is_right(killings[-1]) else f"WRONG: {killings[-1]}"))
        parameters = {"seconds": seconds}
        measured = document("cluster", rounds=rounds, parameters=parameters, server=described, cells=cells)
        measured["trials"] = killings
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
