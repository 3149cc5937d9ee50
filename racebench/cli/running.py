"""Carrying a Plan out: the target and the processes up, one run after the other, each saved as it finishes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from racebench.cli.planning import Cell, Plan
from racebench.core.model import Consumer, Origin, Strategy
from racebench.core.results import RunResult
from racebench.core.signals import shielded
from racebench.core.target import Target
from racebench.history.archive import SUFFIX
from racebench.load.driver import EXTRA_CONNECTIONS, LoadDriver
from racebench.load.executors.processes import Processes
from racebench.postgres import environment
from racebench.postgres.requirements import for_consumer, for_strategy, refused
from racebench.postgres.schemas import new_name
from racebench.postgres.targets import open_target
from racebench.reports.results.document import write_atomically
from racebench.workloads import ad_hoc

#: Called with what is going on, and how much of everything is done (0 to 1).
Progress = Callable[[str, float], None]


def run(plan: Plan, progress: Progress) -> None:
    """Carry out every run of a plan, adding to `plan.results`; raises RacebenchError, and leaves nothing running."""
    together = 1 if plan.each_alone else len(plan.consumers)
    connections = plan.load.sessions + together + EXTRA_CONNECTIONS
    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(Processes())
        progress("starting PostgreSQL", 0.0)
        target = stack.enter_context(open_target(plan.target, version=plan.server_version, connections=connections))
        plan.environment = environment.describe(
            target, {name for consumer in plan.consumers for name in consumer.requires}
        )
        schema = new_name() if plan.scenario.origin is Origin.OWN_CODE else None
        if schema is not None:
            plan.scenario = stack.enter_context(ad_hoc.ready(plan.scenario, target, schema))
            plan.strategies = tuple(plan.scenario.strategies[each.name] for each in plan.strategies)
        cells: Sequence[Cell] = [(strategy, consumers, plan.load) for strategy, consumers in _runs(plan, target)]
        if plan.arrange is not None:
            cells = plan.arrange(cells)
        progress("starting workers", 0.0)
        processes.warm(plan.load.workers + together)
        driver = LoadDriver(
            target=target, executor=processes, keep=plan.keep, environment=plan.environment, schema=schema
        )
        for number, (strategy, consumers, load) in enumerate(cells):
            label = strategy.name if not plan.each_alone else f"{strategy.name} {_names(consumers)}"
            report = _scaled(progress, label, number, len(cells))
            keep = partial(_history_file, plan, label)
            result = driver.run(plan.scenario, strategy, consumers, load, report, keep_history=keep)
            with shielded():  # so that --json's file and the results folder tell the same
                plan.results.append(result)
                plan.finished = number + 1 == len(cells)
                save(plan)


def _runs(plan: Plan, target: Target) -> Iterator[tuple[Strategy, tuple[Consumer, ...]]]:
    """Each strategy with its consumers, less what this server or this pairing does not allow."""

    def lacks(name: str, lack: str) -> bool:
        return refused(name, lack, plan.named, plan.left_out)

    consumers = [
        consumer for consumer in plan.consumers if not lacks(consumer.name, for_consumer(consumer, plan.environment))
    ]
    for strategy in plan.strategies:
        if lacks(strategy.name, for_strategy(strategy, plan.environment, target.label)):
            continue
        fitting = tuple(consumer for consumer in consumers if consumer.fits(strategy))
        for consumer in consumers:
            if consumer not in fitting and not plan.each_alone:
                plan.left_out.append(f"{consumer.name} with {strategy.name}: needs {consumer.needs} numbers")
        if plan.each_alone:
            yield strategy, ()
            yield from ((strategy, (consumer,)) for consumer in fitting)
        else:
            yield strategy, fitting


def _names(consumers: tuple[Consumer, ...]) -> str:
    return "+".join(consumer.name for consumer in consumers) or "alone"


def _scaled(progress: Progress, label: str, number: int, runs: int) -> Callable[[float], None]:
    return lambda fraction: progress(label, (number + fraction) / runs)


def _history_file(plan: Plan, label: str, result: RunResult) -> Path | None:
    """Where to keep the history of a run: beside its results, if it is to be kept. A name that is free."""
    if plan.stem is None or not (plan.history or (plan.history is None and plan.folder and result.found)):
        return None
    name = f"{plan.stem.name}-{re.sub(r'[^A-Za-z0-9_.+-]+', '-', label)}"
    path, number = plan.stem.with_name(f"{name}{SUFFIX}"), 1
    while path.exists():
        number += 1
        path = plan.stem.with_name(f"{name}-{number}{SUFFIX}")
    return path


def save(plan: Plan) -> None:
    """Write what there is so far, whole or not at all, to the results folder and to --json's file."""
    text = plan.json() + "\n"
    if plan.json_path is not None and plan.json_path != "-":
        write_atomically(Path(plan.json_path), text)
    if plan.folder is not None:
        assert plan.stem is not None  # there is one where there is a folder
        path = plan.stem.with_name(f"{plan.stem.name}.json")
        write_atomically(path, text)
        plan.saved = path
