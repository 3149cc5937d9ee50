"""Where the calls of the library run: on this machine or on those of a Dask scheduler, and through which pooler.

An option is named as the library names it, also in a message that the command line shares.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from racebench.api.applications import naming_parameters
from racebench.api.options import PoolerName
from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.core.model import Consumer, Load, Protocol, Scenario, Strategy
from racebench.core.target import Pooling

if TYPE_CHECKING:
    from racebench.core.target import Target
    from racebench.executors import Executor
    from racebench.executors.cluster import Machines
    from racebench.exploration.jobs.messages import Place
    from racebench.exploration.jobs.pool import Jobs
    from racebench.exploration.pool import PoolOptions
    from racebench.exploration.request import ExplorationRequest


def machines_of(
    scheduler: str | None,
    workers_per_machine: int | None,
    scenario: Scenario,
    *,
    faults: tuple[str, ...],
    embedded: bool,
    pooled: bool,
) -> Machines | None:
    """The machines of a load, None for this one. Raises UsageProblem for what they cannot run."""
    from racebench.load import machines

    own = any(strategy.is_application for strategy in scenario.strategies.values())
    if workers_per_machine is not None and workers_per_machine < 1:
        raise UsageProblem(f"workers_per_machine is a number from 1, not {workers_per_machine}")
    with naming_parameters():
        return machines.parse(
            scheduler,
            workers_per_machine,
            scenario,
            faults=faults,
            own_code="code of your own" if own else None,
            embedded=embedded,
            pooled=pooled,
        )


@contextlib.contextmanager
def executor(machines: Machines | None, target: Target, *, workers: int) -> Iterator[tuple[Target, Executor]]:
    """Where workers run, and the target as it is reached from there. Raises RacebenchError."""
    if machines is None:
        from racebench.executors.processes import Processes

        with Processes() as processes:
            yield target, processes
        return
    from racebench.load import machines as load_machines

    with load_machines.opened(
        machines, target, workers=workers, warn=lambda line: warnings.warn(line, stacklevel=2)
    ) as found:
        yield found


@contextlib.contextmanager
def jobs(
    number: int | None, scheduler: str | None, request: ExplorationRequest, place: Place, *, embedded: bool
) -> Iterator[Jobs | None]:
    """The processes among which a search is divided; None for this one alone. Raises RacebenchError.

    `number`: of them, this one included; None for this one alone, or with a scheduler for one on each machine beside.
    """
    if scheduler is None and number in (None, 1):
        yield None
        return
    from racebench.exploration.jobs import division

    with naming_parameters():
        parsed = division.Division.parse(number, scheduler)
        if why := division.why_not(request, embedded=embedded):
            named = "scheduler" if scheduler is not None else f"jobs={number}"
            raise UsageProblem(f"{named}: {why}; leave it out")
    with division.opened(parsed, place) as opened:
        yield opened


def version_of(server: int) -> int:
    """The embedded server's version. Raises UsageProblem for one that is not included."""
    from racebench.postgres.embedded import VERSIONS

    if server not in VERSIONS:
        known = " or ".join(map(str, VERSIONS))
        raise UsageProblem(f"server is {known}, not {server!r}; for another version give the dsn of your own server")
    return server


def pooling_of(pooler: PoolerName | None, pool_size: int | None) -> Pooling | None:
    """The mode of a pooler. Raises UsageProblem for another word, or for a size that cannot be."""
    if pooler is not None and pooler not in list(Pooling):
        raise UsageProblem(f"pooler: {pooler!r} is unknown; it is one of {', '.join(Pooling)}, or None")
    if pool_size is not None and (pooler is None or pool_size < 1):
        raise UsageProblem(
            "pool_size needs a pooler" if pooler is None else f"pool_size is a number from 1, not {pool_size}"
        )
    return None if pooler is None else Pooling(pooler)


def simulated(
    pooling: Pooling | None, pool_size: int | None, strategy: Strategy, *, sessions: int, crash: int
) -> PoolOptions | None:
    """The pooler that an exploration simulates. Raises UsageProblem for what cannot be explored behind one."""
    if pooling is None:
        return None
    from racebench.exploration import pool

    if strategy.is_application:
        raise UsageProblem(
            "a Bench with a pooler explores scripts: functions, programs and services have connections of their own; "
            "use a Bench without pooler"
        )
    if crash:
        raise UsageProblem("crash cuts connections to the server, and a pooler is simulated; give one of them")
    if why := pool.refusal(pooling, strategy):
        raise UsageProblem(f"strategy '{strategy.name}' cannot run here: {why}")
    return pool.PoolOptions(pooling=pooling, size=min(pool_size or sessions, sessions))


def load_through(load: Load, pooling: Pooling | None) -> Load:
    """A load through PgBouncer: one that shares sessions needs the simple protocol. Raises UsageProblem."""
    if pooling in (None, Pooling.SESSION):
        return load
    if load.protocol is Protocol.PIPELINED:
        raise UsageProblem(
            f"Protocol.PIPELINED prepares statements by name, and with pooler={str(pooling)!r} another session of the "
            "server may carry them out, which has not got them; leave out protocol"
        )
    return replace(load, protocol=Protocol.SIMPLE)


def check(strategy: Strategy, consumers: Sequence[Consumer], target: Target, known: Mapping[str, Any]) -> None:
    """Raise DatabaseProblem unless the server, and the pooler, have what a strategy and consumers require.

    `known`: what was asked of the server for any scenario.
    """
    from racebench.postgres import environment
    from racebench.postgres.requirements import lacking
    from racebench.reports.library_words import in_library_words

    required = {name for consumer in consumers for name in consumer.requires}
    described = environment.describe(target, required) if required else known
    for name, lack in lacking([strategy], consumers, described, target).items():
        raise DatabaseProblem(f"'{name}' {in_library_words(lack)}")
