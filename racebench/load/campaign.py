"""A campaign: several runs under load on one server, one after another.

This module decides which strategies run beside which consumers, in which order, and what a server or a pairing rules
out. A single run belongs to the driver; saving and showing results belong to the caller.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racebench.core.model import Consumer, Instances, Load, Origin, Scenario, Strategy
from racebench.core.results import RunResult
from racebench.core.target import Target
from racebench.core.watching import Patience
from racebench.executors import Executor
from racebench.load.driver import EXTRA_CONNECTIONS, LoadDriver
from racebench.load.faults.injectors import processes
from racebench.postgres import environment
from racebench.postgres.control import Control
from racebench.postgres.requirements import lacking, refused
from racebench.postgres.schemas import new_name
from racebench.workloads import ad_hoc

if TYPE_CHECKING:
    from racebench.analysis.streaming.pace import Figures

#: Called with what is going on, and how much of the campaign is done (0 to 1).
Progress = Callable[[str, float], None]
#: Called with a run's label and what is known of it while it goes on.
Watch = Callable[[str, "Figures"], None]


class Pairing(Enum):
    """How consumers are combined with a strategy: all in one run, or each in a separate run and one run without any."""

    TOGETHER = "together"
    EACH_ALONE = "each alone"


#: The connections of an instance's pool, of which most drivers keep 10 by default, and some 20.
POOLED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The runs that are asked for.

    `rounds`: how often every cell is run, each round in a random order drawn from the load's seed; None: once, in the
    order given. `named`: the strategies and consumers that were asked for by name; one of them that the server cannot
    run is an error, any other is left out.
    """

    scenario: Scenario
    strategies: tuple[Strategy, ...]
    consumers: tuple[Consumer, ...]
    load: Load
    pairing: Pairing = Pairing.TOGETHER
    rounds: int | None = None
    named: frozenset[str] = frozenset()

    @property
    def consumers_at_once(self) -> int:
        """The most consumers that poll at the same time on one server."""
        return 1 if self.pairing is Pairing.EACH_ALONE else len(self.consumers)

    @property
    def pooled(self) -> int:
        """The connections that the instances of a service may keep beside those at work; how many is the service's."""
        services = [strategy.service for strategy in self.strategies if strategy.service is not None]
        each = any(service.instances is Instances.EACH for service in services)
        return 0 if not services else POOLED * (self.load.workers if each else 1)

    @property
    def connections(self) -> int:
        """The most connections that are open at the same time; a consumer that gets nothing asks over another."""
        beside = bool(self.load.faults) + bool(self.load.idle_in_transaction_s)
        return self.load.sessions + 2 * self.consumers_at_once + EXTRA_CONNECTIONS + beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run: a strategy, the consumers beside it, the load, and what the run is called in progress and file names."""

    strategy: Strategy
    consumers: tuple[Consumer, ...]
    load: Load
    label: str


def in_rounds(cells: Sequence[Cell], rounds: int, seed: int) -> tuple[Cell, ...]:
    """Every cell once a round, each round in a random order of its own; the same sequence for the same seed.

    A new order for each round prevents that a strategy always comes first, or always follows the same other one. The
    runs of a round share a seed, and so draw the same random choices; the next round has another seed.
    """
    generator = random.Random(seed)
    sequence: list[Cell] = []
    for _ in range(rounds):
        round_cells = list(cells)
        generator.shuffle(round_cells)
        round_seed = generator.randrange(2**32)
        sequence += [replace(cell, load=replace(cell.load, seed=round_seed)) for cell in round_cells]
    return tuple(sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A request on an open target.

    `cells` are the distinct runs, in the order asked for; `sequence` is every run, in the order it is run. `left_out`
    says, one line each, what this server or the pairing rules out.
    """

    request: Request
    cells: tuple[Cell, ...]
    sequence: tuple[Cell, ...]
    left_out: tuple[str, ...]
    environment: Mapping[str, Any]
    driver: LoadDriver

    def results(
        self,
        progress: Progress,
        *,
        history_file: Callable[[Cell, RunResult], Path | None] = lambda _cell, _result: None,
        watch: Watch | None = None,
    ) -> Iterator[RunResult]:
        """Run the sequence, and yield each result as soon as its run has ended; raises RacebenchError.

        `history_file` names the file in which a run's history is kept, or None for a history that is not kept. `watch`
        is called at most four times a second with a run's figures; None to look at none.
        """
        progress("starting workers", 0.0)
        load = self.request.load
        servers = 1 if self.driver.target.standby is None else 2
        self.driver.executor.warm(load.workers + servers * self.request.consumers_at_once + processes(load))
        for number, cell in enumerate(self.sequence):
            yield self.driver.run(
                self.request.scenario,
                cell.strategy,
                cell.consumers,
                cell.load,
                _scaled(progress, cell.label, number, len(self.sequence)),
                keep_history=partial(history_file, cell),
                followed=number + 1 < len(self.sequence),
                tell=None if watch is None else partial(watch, cell.label),
            )


def _scaled(progress: Progress, label: str, number: int, runs: int) -> Callable[[float], None]:
    """The progress of a run as that of the campaign, with which of how many runs it is."""
    which = f"{number + 1} of {runs}: {label}" if runs > 1 else label
    return lambda fraction: progress(which, (number + fraction) / runs)


@contextlib.contextmanager
def opened(
    request: Request,
    target: Target,
    executor: Executor,
    *,
    keep: bool = False,
    schema: str | None = None,
    in_place: bool = False,
    patience: Patience = Patience(),  # noqa: B008 - a frozen value
) -> Iterator[Campaign]:
    """Prepare a request on a target: ask the server what it can run, and import the callables of the user's code.

    `keep`: leave each run's schema in place. `schema`: the name of the schema for the user's code, None for a new name;
    `in_place`: it exists, with the application's own tables in it, and stays. `patience`: with a run that makes no
    progress. Raises DatabaseProblem for a strategy or
    consumer that was asked for by name and that this server cannot run.
    """
    described = environment.describe(
        target,
        {name for consumer in request.consumers for name in consumer.requires},
        own_code=request.scenario.origin is Origin.OWN_CODE,
    )
    with contextlib.ExitStack() as stack:
        if request.scenario.origin is Origin.OWN_CODE:
            schema = schema or new_name()
            scenario = stack.enter_context(ad_hoc.ready(request.scenario, target, schema))
            request = replace(
                request,
                scenario=scenario,
                strategies=tuple(scenario.strategies[strategy.name] for strategy in request.strategies),
            )
        elif not keep:
            schema = schema or new_name()  # one name for all: sessions that rest between runs have it
        if target.pooler is not None:
            from racebench.postgres import pgbouncer  # most targets have none

            described = {**described, "pooler": pgbouncer.described(target, request.load.sessions)}
        cells, left_out = _cells(request, described, target)
        yield Campaign(
            request=request,
            cells=cells,
            sequence=cells if request.rounds is None else in_rounds(cells, request.rounds, request.load.seed),
            left_out=left_out,
            environment=described,
            driver=LoadDriver(
                target=target,
                executor=executor,
                keep=keep,
                environment=described,
                schema=schema,
                in_place=in_place,
                patience=patience,
                control=stack.enter_context(Control(target)),
            ),
        )


def _cells(request: Request, described: Mapping[str, Any], target: Target) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """Each strategy with its consumers, and a line for everything that the server or the pairing rules out."""
    left_out: list[str] = []
    lack_of = lacking(request.strategies, request.consumers, described, target)

    def lacks(name: str) -> bool:
        return refused(name, lack_of.get(name, ""), request.named, left_out)

    def cell(strategy: Strategy, consumers: tuple[Consumer, ...]) -> Cell:
        label = strategy.name
        if request.pairing is Pairing.EACH_ALONE:
            label += f" {'+'.join(consumer.name for consumer in consumers) or 'alone'}"
        return Cell(strategy=strategy, consumers=consumers, load=request.load, label=label)

    cells: list[Cell] = []
    consumers = [consumer for consumer in request.consumers if not lacks(consumer.name)]
    for strategy in request.strategies:
        if lacks(strategy.name):
            continue
        fitting = tuple(consumer for consumer in consumers if consumer.fits(strategy))
        if request.pairing is Pairing.EACH_ALONE:
            cells += [cell(strategy, ()), *(cell(strategy, (consumer,)) for consumer in fitting)]
            continue
        left_out += [
            f"{consumer.name} with {strategy.name}: needs {consumer.needs} numbers"
            for consumer in consumers
            if consumer not in fitting
        ]
        cells.append(cell(strategy, fitting))
    return tuple(cells), tuple(left_out)
