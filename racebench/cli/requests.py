"""From the options of run, matrix and compare to a request: everything is checked before anything is started."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from racebench.cli.exit_codes import Gates, gates_of
from racebench.cli.files import ResultFiles, result_files
from racebench.cli.machines import machines_of
from racebench.cli.option_groups import (
    GateOptions,
    LoadOptions,
    MachineOptions,
    OutputOptions,
    SubjectOptions,
    TargetOptions,
)
from racebench.cli.servers import Server, server_of
from racebench.cli.subjects import find_scenario
from racebench.core import injection
from racebench.core.errors import UsageProblem
from racebench.core.model import Load, Origin, Protocol, Scenario
from racebench.core.target import Pooling
from racebench.load.campaign import Pairing, Request
from racebench.workloads import ad_hoc, catalog

if TYPE_CHECKING:
    from racebench.analysis.baselines import Measured
    from racebench.analysis.thresholds import Threshold
    from racebench.executors.cluster import Machines
    from racebench.executors.connecting import Scheduler

DEFAULT_SECONDS = 2.0
MOST_SESSIONS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRequest:
    """What compare adds: the reference, the baseline to compare with and the file to save one in.

    `margin` and `fail_slower` are shares.
    """

    reference: str
    margin: float
    fail_slower: float | None
    baseline: Measured | None
    baseline_name: str
    save_to: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What run, matrix or compare is asked for, checked.

    `thresholds`: each with the names of the strategies that it concerns. `history`: keep each run's, or none; None:
    keep those of runs with a forbidden anomaly. `witnesses`: the most
    that a run has in the JSON, None for all. `machines`: where workers and consumers run, None for this machine.
    `rows_on`: the scheduler whose machines measure the rows of a matrix, None for this machine.
    """

    campaign: Request
    server: Server
    keep: bool
    files: ResultFiles
    gates: Gates
    thresholds: tuple[tuple[Threshold, tuple[str, ...]], ...]
    history: bool | None
    witnesses: int | None = None
    comparison: ComparisonRequest | None = None
    machines: Machines | None = None
    rows_on: Scheduler | None = None


def measurement(
    subject: SubjectOptions,
    load: LoadOptions,
    target: TargetOptions,
    output: OutputOptions,
    gates: GateOptions,
    *,
    pairing: Pairing = Pairing.TOGETHER,
    machines: MachineOptions | None = None,
) -> Measurement:
    """The request of run and matrix; makes the results folder. Raises UsageProblem for the first invalid option."""
    limits = limits_of(gates)
    scenario = find_scenario(subject, target)
    request = drafted(scenario, subject, load, target, output, gates, pairing=pairing, machines=machines)
    own_code = scenario.origin is Origin.OWN_CODE and not ad_hoc.lacks_invariant(scenario)
    request = replace(
        request,
        gates=gates_of(gates, own_code=own_code),
        thresholds=concerning(limits, request.campaign, reference=None),
    )
    request.files.check()
    return request


def drafted(
    scenario: Scenario,
    subject: SubjectOptions,
    load: LoadOptions,
    target: TargetOptions,
    output: OutputOptions,
    gates: GateOptions,
    *,
    pairing: Pairing = Pairing.TOGETHER,
    default_seconds: float = DEFAULT_SECONDS,
    machines: MachineOptions | None = None,
) -> Measurement:
    """A request without thresholds; touches no file. Raises UsageProblem for the first invalid option."""
    _check_sessions(load)
    server = server_of(target, scenario)
    scenario = scenario.behind(server.pooler)
    if target.keep and not target.dsn:
        raise UsageProblem("--keep needs --dsn: the embedded server ends with the command, and its schemas with it")
    faults = injection.chosen(load.faults, scenario.faults)
    injection.check(faults, embedded=not target.dsn)
    if scenario.once:
        _check_once(scenario, load)
    if (named := subject.own_code) is not None:
        _check_own_code(load, named)
    if pairing is Pairing.EACH_ALONE and not scenario.consumers:
        raise UsageProblem(f"scenario '{scenario.name}' has no consumers; use `racebench run {scenario.name}`")
    consumers = catalog.find_consumers(scenario, subject.consumers or catalog.default_consumers(scenario))
    server = server_of(target, scenario)
    if server.standby is not None and not consumers:
        option = "--consumer-dsn" if target.consumer_dsn else "--standby"
        why = "--consumer none was given" if scenario.consumers else f"scenario '{scenario.name}' has none"
        raise UsageProblem(f"{option} is for consumers, and {why}; leave out {option}")
    files = result_files(output, scenario.name)
    if output.history and files.stem is None:
        raise UsageProblem("--history has no place to write to: leave out --no-save, or give --json PATH")
    return Measurement(
        campaign=Request(
            scenario=scenario,
            strategies=catalog.find_strategies(scenario, subject.strategies or ["all"]),
            consumers=consumers,
            load=replace(
                _load(load, once=scenario.once, default_seconds=default_seconds),
                faults=faults,
                protocol=_protocol(load, server.pooler),
            ),
            pairing=pairing,
            named=frozenset({*subject.strategies, *subject.consumers}),
        ),
        server=server,
        keep=target.keep,
        files=files,
        gates=gates_of(gates),
        thresholds=(),
        history=False if pairing is Pairing.EACH_ALONE and output.history is None else output.history,
        witnesses=1 if pairing is Pairing.EACH_ALONE else None,
        machines=machines_of(machines, scenario, target, load, subject.own_code),
    )


def _check_sessions(load: LoadOptions) -> None:
    sessions = load.workers * load.connections_per_worker
    if sessions > MOST_SESSIONS:
        raise UsageProblem(
            f"--workers {load.workers} × --connections-per-worker {load.connections_per_worker} is {sessions} "
            f"connections; the limit is {MOST_SESSIONS}"
        )
    if load.operations is not None and load.operations < sessions:
        unit = "workers" if load.connections_per_worker == 1 else "connections"
        raise UsageProblem(
            f"--operations {load.operations} is fewer than {sessions} {unit}; each needs at least one: "
            f"give --operations {sessions} or more, or fewer {unit}"
        )


def _check_own_code(load: LoadOptions, named: str) -> None:
    """Refuse what has no effect on the user's own code: only scripts are delayed and rolled back by racebench."""
    option = named.partition(" ")[0]
    if load.connections_per_worker > 1:
        kind = {"--call": "call", "--exec": "program", "--http": "request"}[option]
        raise UsageProblem(
            f"{option} runs one {kind} at a time in a worker process; use --workers, not --connections-per-worker"
        )
    of_scripts = {"--think": load.think, "--hold": load.hold, "--long": load.long[0], "--rollback": load.rollback}
    if delay := next((delay for delay, value in of_scripts.items() if value), None):
        raise UsageProblem(
            f"{delay} has no effect on {option}, whose transactions are the application's own; leave it out"
        )


def _check_once(scenario: Scenario, load: LoadOptions) -> None:
    """Refuse what has no meaning for a scenario that runs each worker's script once."""
    once = f"scenario '{scenario.name}' runs each worker's script once"
    if load.duration is not None or load.operations is not None:
        raise UsageProblem(f"{once}; give --workers, not --duration or --operations")
    if load.rate is not None or load.warmup:
        raise UsageProblem(f"{once}; --rate and --warmup need many operations")


def _load(options: LoadOptions, *, once: bool, default_seconds: float) -> Load:
    operations = options.workers * options.connections_per_worker if once else options.operations
    return Load(
        workers=options.workers,
        duration_s=default_seconds if options.duration is None and operations is None else options.duration,
        operations=operations,
        think_us=round(options.think * 1000),
        hold_us=round(options.hold * 1000),
        tenants=options.tenants,
        rollback_percent=options.rollback,
        long_percent=options.long[0],
        long_us=round(options.long[1] * 1000),
        jitter_us=round(options.jitter * 1000),
        seed=secrets.randbelow(2**32) if options.seed is None else options.seed,
        poll_interval_ms=options.poll_interval,
        batch=options.batch,
        connections_per_worker=options.connections_per_worker,
        rate_per_s=options.rate,
        warmup_s=options.warmup,
        idle_in_transaction_s=options.idle_in_transaction,
    )


def _protocol(options: LoadOptions, pooler: Pooling | None) -> Protocol:
    """The query protocol. Raises UsageProblem for one that needs a session of the server for each client."""
    if pooler in (None, Pooling.SESSION):
        return Protocol(options.protocol or "prepared")
    if options.protocol in (None, "simple"):
        return Protocol.SIMPLE
    raise UsageProblem(
        f"--protocol {options.protocol} prepares statements by name, and with --pooler {pooler} another session of the "
        "server may carry them out, which has not got them (PgBouncer before 1.21); use --protocol simple"
    )


def limits_of(gates: GateOptions) -> list[Threshold]:
    """The thresholds of --threshold; raises UsageProblem for one that cannot be read."""
    if not gates.threshold:
        return []
    from racebench.analysis import thresholds  # most commands have none

    return [thresholds.parse(text) for text in gates.threshold]


def concerning(
    limits: Sequence[Threshold], request: Request, *, reference: str | None
) -> tuple[tuple[Threshold, tuple[str, ...]], ...]:
    """Thresholds with the strategies that they concern; raises UsageProblem for one that can never be judged."""
    if not limits:
        return ()
    from racebench.analysis import thresholds

    for threshold in limits:
        thresholds.check(
            threshold,
            request.scenario,
            request.strategies,
            request.consumers,
            groups=catalog.GROUPS,
            reference=reference,
        )
    return tuple(
        (threshold, tuple(thresholds.concerned(threshold, request.strategies, catalog.GROUPS))) for threshold in limits
    )
