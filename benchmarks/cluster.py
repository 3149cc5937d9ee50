"""Load on two Dask machines of this computer beside local processes, and machines that are killed in a run.

    python -m benchmarks.cluster [--rounds 6] [--seconds 3] [--trials 20]

The rounds alternate between local processes and machines, with the same strategy, workers and server. Of a killed
machine each trial checks the report: the machine is named, its operations are UNKNOWN, and nothing is accused.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
from collections.abc import Callable
from typing import Any

from racebench.cli.streams import say
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
from racebench.postgres.embedded import EmbeddedServer
from racebench.workloads import catalog

STRATEGY = "advisory"
WORKERS = 8


def load(
    target: Target, executor: Executor, seconds: float, progress: Callable[[float], None] = lambda _fraction: None
) -> RunResult:
    """One run of the strategy."""
    scenario = catalog.find_scenario("version-counter")
    return LoadDriver(target=target, executor=executor).run(
        scenario,
        scenario.strategies[STRATEGY],
        catalog.find_consumers(scenario, ["cursor"]),
        Load(workers=WORKERS, duration_s=seconds, operations=None),
        progress,
    )


def compare(target: Target, rounds: int, seconds: float) -> float:
    """The median ratio of a round: the throughput on machines to that of local processes."""
    ratios = []
    with (
        Processes() as processes,
        connecting.connected(Scheduler.parse("local"), machines=2) as client,
        Cluster(client, connecting.machines_of(client), ServerClock(target)) as machines,
    ):
        load(target, processes, 0.5)
        load(target, machines, 0.5)
        for number in range(rounds):
            order: list[Executor] = [processes, machines] if number % 2 else [machines, processes]
            rates = {id(executor): load(target, executor, seconds).throughput_per_s for executor in order}
            ratios.append(rates[id(machines)] / rates[id(processes)])
            say(f"round {number + 1}: {rates[id(processes)]:,.0f} and {rates[id(machines)]:,.0f} commits per s")
    return statistics.median(ratios)


def killed(target: Target) -> bool:
    """Whether the report is right of a run on two machines, one of which is killed with kill -9 in the middle."""
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

        result = load(target, machines, 2.0, kill)
    named = any(f"machine {victim} was lost" in note for note in result.notes)
    innocent = result.verdict is not Verdict.INVALID and not result.counts["lost"]
    return named and innocent and result.counts["unknown"] >= WORKERS // 2


def main() -> None:
    """Print the ratio and how many trials were right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--trials", type=int, default=20)
    options = parser.parse_args()
    with EmbeddedServer(connections=40) as target:
        say(f"machines to local processes: {compare(target, options.rounds, options.seconds):.3f} (median)")
        right = sum(killed(target) for _ in range(options.trials))
        say(f"a killed machine: {right} of {options.trials} reports are right")


if __name__ == "__main__":
    main()
