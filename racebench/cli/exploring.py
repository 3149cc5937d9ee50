"""The request of explore, how it is carried out, and the documents of its results, saved after each."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racebench.cli import dividing, invocation, next_steps, simulated
from racebench.cli.console import application_prints_to_stderr, console, publish, shown_progress, shows_live
from racebench.cli.exit_codes import Finding, Gates, exit_code, gates_of
from racebench.cli.files import ResultFiles, result_files, stdout_is_taken
from racebench.cli.option_groups import (
    ExplorationOptions,
    GateOptions,
    MachineOptions,
    OracleOptions,
    OutputOptions,
    PoolerOptions,
    SubjectOptions,
    TargetOptions,
)
from racebench.cli.servers import Server, server_of
from racebench.cli.streams import reader_may_leave, say
from racebench.cli.subjects import find_scenario
from racebench.core.defaults import MOST_EXPLORED_SESSIONS
from racebench.core.errors import ExitCode, UsageProblem
from racebench.core.model import Consumer, Origin, Scenario, Strategy
from racebench.core.quantity import quantity
from racebench.core.signals import interruptible, shielded
from racebench.core.target import Target
from racebench.exploration import explorer
from racebench.exploration.jobs import division
from racebench.exploration.jobs.division import Division
from racebench.exploration.jobs.messages import Place
from racebench.exploration.jobs.pool import Jobs
from racebench.exploration.request import ExplorationRequest, judged, with_default_limits
from racebench.exploration.result import Exploration, ExplorationProgress
from racebench.postgres import environment
from racebench.postgres.embedded import EmbeddedServer
from racebench.postgres.requirements import lacking, refused
from racebench.postgres.schemas import new_name
from racebench.reports import exploration_text, formats
from racebench.reports.results.document import now
from racebench.reports.results.explorations import Explorations, to_json
from racebench.reports.terminal import exploration_table, progress
from racebench.reports.terminal.progress import Progress
from racebench.workloads import ad_hoc, catalog

if TYPE_CHECKING:
    from racebench.executors import Executor
    from racebench.reports.terminal.live_explorations import LiveExplorations

#: Connections beside the sessions: to ask which session waits, to prepare each schedule, to create and drop the schema.
EXTRA_CONNECTIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploring:
    """What explore is asked for, checked: one exploration for each strategy.

    `named`: the strategies and the consumer that were asked for by name; one that the server cannot run is an error.
    `division`: among which processes a search is divided that can be.
    """

    scenario: Scenario
    explorations: tuple[ExplorationRequest, ...]
    server: Server
    files: ResultFiles
    gates: Gates
    named: frozenset[str]
    division: Division = field(default_factory=Division)

    @property
    def connections(self) -> int:
        """The most connections that are open at the same time: sessions, a consumer, and what watches them."""
        return max(request.sessions for request in self.explorations) + 1 + EXTRA_CONNECTIONS

    def can_divide(self, exploration: ExplorationRequest) -> bool:
        """Whether jobs search parts of an exploration."""
        return self.division.possible and not division.why_not(exploration, embedded=self.server.target is None)

    @property
    def needs_jobs(self) -> bool:
        """Whether jobs search parts of any exploration."""
        return any(map(self.can_divide, self.explorations))


def request_of(
    subject: SubjectOptions,
    options: ExplorationOptions,
    oracle: OracleOptions,
    target: TargetOptions,
    output: OutputOptions,
    gates: GateOptions,
    pooler: PoolerOptions,
    machines: MachineOptions,
) -> Exploring:
    """The request of explore; makes the results folder. Raises UsageProblem for the first invalid option."""
    scenario = find_scenario(subject, target, explored=True)
    pooling = simulated.pooling_of(pooler, subject, scenario, crash=options.crash)
    scenario = scenario.behind(pooling)
    consumers: tuple[Consumer | None, ...] = (None,)
    if options.consumer not in (None, "none"):
        consumers = catalog.find_consumers(scenario, [str(options.consumer)]) or (None,)
    checked_gates = gates_of(gates, explored=True, own_code=scenario.origin is Origin.OWN_CODE)
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    explorations = tuple(
        with_default_limits(
            judged(
                ExplorationRequest(
                    scenario=scenario,
                    strategy=strategy,
                    consumer=consumer,
                    sessions=_sessions(options, strategy),
                    pooler=simulated.options_of(pooling, pooler, sessions=_sessions(options, strategy)),
                    polls=options.polls,
                    crash=options.crash,
                    reduce=not options.no_reduction,
                    budget_s=options.budget,
                    max_schedules=options.max_schedules,
                    stop_at_first=options.stop_at_first,
                    depth=options.depth,
                    step_s=options.step_timeout,
                    seed=seed,
                    draws=options.draws,
                ),
                oracle=oracle.oracle,
                allow=oracle.allowed,
            ),
            thorough=checked_gates.names_kinds,
        )
        for strategy in catalog.find_strategies(scenario, subject.strategies or ["all"])
        for consumer in consumers
        if consumer is None or consumer.fits(strategy)
    )
    request = Exploring(
        scenario=scenario,
        explorations=explorations,
        server=server_of(target, scenario),
        files=result_files(output, f"{scenario.name}-explored"),
        gates=checked_gates,
        named=frozenset((*subject.strategies, *([options.consumer] if options.consumer else ()))),
        division=dividing.division_of(options, machines, explorations, embedded=not target.dsn),
    )
    if not request.explorations:
        raise UsageProblem(f"consumer '{options.consumer}' cannot read what these strategies write; choose another")
    if (
        options.sessions == 1
        and not options.crash
        and any(exploration.consumer is None for exploration in explorations)
    ):
        or_consumer = ", or a --consumer" if scenario.consumers else ""
        raise UsageProblem(f"--sessions 1: a race needs two sessions; give 2 or more{or_consumer}")
    request.files.check()
    return request


def _sessions(options: ExplorationOptions, strategy: Strategy) -> int:
    """The number of sessions: each part of an application has one, unless the options say otherwise."""
    if options.sessions is not None:
        return options.sessions
    return min(max(2, len(strategy.subjects)), MOST_EXPLORED_SESSIONS)


@dataclass(slots=True, kw_only=True)
class _Record:
    """The results of a request so far."""

    request: Exploring
    created: str = field(default_factory=now)
    command: str = field(default_factory=invocation.command)
    environment: Mapping[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    results: list[Exploration] = field(default_factory=list)
    complete: bool = False
    saved: Path | None = None

    def add(self, result: Exploration, *, complete: bool = False) -> None:
        """Add a result and save the document, so that --json's file and the results folder agree."""
        with shielded():
            self.results.append(result)
            self.complete = complete
            self.saved = self.request.files.write(lambda _folder: to_json(self.document()) + "\n")

    def document(self) -> Explorations:
        """The results so far."""
        return Explorations(
            environment=self.environment,
            created=self.created,
            command=self.command,
            explorations=tuple(self.results),
            complete=self.complete,
        )


def explore(request: Exploring, output: OutputOptions, begun: EmbeddedServer | None = None) -> ExitCode:
    """Carry out a request, then write reports and show the results, also if it ends early; raises RacebenchError.

    `begun`: the embedded server, if it was begun before.
    """
    record = _Record(request=request)
    with dividing.local(request.division, needed=request.needs_jobs) as processes, interruptible():
        try:
            view = _view(output)
            with shown_progress(view) as report_progress, application_prints_to_stderr():
                _run(record, report_progress, view, begun, processes)
        finally:
            if record.results:
                with reader_may_leave():
                    try:
                        code = _exit_code(record) if record.complete else None
                        publish(record.document(), output.reports, request.gates, code)
                    finally:  # the results are shown even if a report cannot be written
                        _print(record, output)
    if output.markdown not in (None, "-"):
        formats.write("markdown", record.document(), Path(str(output.markdown)))
    return _exit_code(record)


def _exit_code(record: _Record) -> ExitCode:
    return exit_code(
        [
            Finding(
                forbidden=result.forbidden,
                # What went wrong may be the work of an earlier schedule.
                counts=dict.fromkeys(result.counts, 0) if result.leftovers else result.counts,
                verdict=result.verdict,
            )
            for result in record.results
        ],
        record.request.gates,
    )


def _view(output: OutputOptions) -> LiveExplorations | None:
    """What --live shows; None where there is no terminal for it."""
    if not (output.live and shows_live()):
        return None
    from racebench.reports.terminal.live_explorations import LiveExplorations  # few commands have it

    return LiveExplorations()


def _run(
    record: _Record,
    report_progress: Progress,
    view: LiveExplorations | None,
    begun: EmbeddedServer | None,
    processes: Executor | None,
) -> None:
    """Explore one strategy after another; an interrupted exploration is recorded too, as far as it came."""
    request = record.request
    with contextlib.ExitStack() as stack:
        if request.division.scheduler is not None:
            report_progress("connecting to the machines", 0.0)
        jobs: Jobs | None = None
        if request.needs_jobs:
            jobs = stack.enter_context(division.opened(request.division, _place(request), processes))
        report_progress("starting PostgreSQL", 0.0)
        target = stack.enter_context(request.server.opened(request.connections, begun=begun))
        consumers = [exploration.consumer for exploration in request.explorations if exploration.consumer is not None]
        record.environment = environment.describe(
            target,
            {name for consumer in consumers for name in consumer.requires},
            own_code=request.scenario.origin is Origin.OWN_CODE,
        )
        schema = new_name()  # one for all explorations: an application that has connected once goes on using it
        scenario = stack.enter_context(ad_hoc.ready(request.scenario, target, schema))
        explorations = request.explorations
        if scenario is not request.scenario:
            explorations = tuple(_with_callables(exploration, scenario, schema) for exploration in explorations)
        possible = _possible(record, explorations, target)
        for number, exploration in enumerate(possible):
            result = explorer.explore(
                target,
                exploration,
                progress=partial(_tell, report_progress, exploration, number, len(possible), view=view),
                interrupted=record.add,
                jobs=jobs if request.can_divide(exploration) else None,
            )
            record.add(result, complete=number + 1 == len(possible))
            report_progress.ended(exploration_text.row(result))
            if view is not None:
                view.ended(result)


def _place(request: Exploring) -> Place:
    """The server of a job, which is as the command's own."""
    return Place(
        version=request.server.version,
        connections=request.connections,
        superuser=request.server.superuser,
        give_up_s=request.server.patience.give_up_s,
    )


def _tell(
    report_progress: Progress,
    exploration: ExplorationRequest,
    before: int,
    of: int,
    so_far: ExplorationProgress,
    *,
    view: LiveExplorations | None = None,
) -> None:
    """Report the progress of one of several explorations; `before`: how many of them have ended."""
    place = f"{before + 1} of {of}: " if of > 1 else ""
    label = f"{place}{exploration.strategy.name}"
    if view is not None:
        view.running(exploration, so_far)
    else:
        figures = f"{quantity(so_far.run, 'schedule')} ({so_far.schedules_per_s:,.0f}/s), {so_far.anomalous:,} wrong"
        label = f"{label}, {figures}"
    share, left = 0.0, ""
    if exploration.budget_s is not None:
        share = min(1.0, so_far.seconds / exploration.budget_s)
        left = f"at most {progress.minutes((of - before - share) * exploration.budget_s)} left"
    report_progress(label, (before + share) / of, left=left)


def _with_callables(exploration: ExplorationRequest, scenario: Scenario, schema: str) -> ExplorationRequest:
    """An exploration of the scenario whose callables have been imported, judged as before."""
    return replace(
        exploration,
        scenario=replace(scenario, forbid=exploration.scenario.forbid),
        strategy=scenario.strategies[exploration.strategy.name],
        schema=schema,
    )


def _possible(
    record: _Record, explorations: Sequence[ExplorationRequest], target: Target
) -> Sequence[ExplorationRequest]:
    """The explorations that this server can run: one that it cannot run is an error if it was asked for by name."""

    lack_of = lacking(
        [exploration.strategy for exploration in explorations],
        [exploration.consumer for exploration in explorations if exploration.consumer is not None],
        record.environment,
        replace(target, standby=None, pooler=None),  # a pooler is simulated
    )

    def lacks(name: str, lack: str) -> bool:
        return refused(name, lack, record.request.named, record.left_out)

    possible = [
        exploration
        for exploration in explorations
        if not lacks(exploration.strategy.name, lack_of.get(exploration.strategy.name, ""))
        and not lacks(exploration.strategy.name, simulated.refusal(exploration))
        and not (exploration.consumer and lacks(exploration.consumer.name, lack_of.get(exploration.consumer.name, "")))
    ]
    if not possible:
        raise UsageProblem(f"nothing can be explored here: {record.left_out[0]}")
    return possible


def _print(record: _Record, output: OutputOptions) -> None:
    """Print the results and where they were saved; only the JSON, or only the Markdown, if stdout is for that."""
    if record.request.files.json_alone:
        say(to_json(record.document()))
    if output.markdown == "-":
        say(formats.text("markdown", record.document()), end="")
    if stdout_is_taken(output):
        return
    exploration_table.show(console(), record.document())
    for line in record.left_out:
        say(f"left out: {line}")
    if record.saved is not None:
        say(f"saved: {record.saved}")
    request = record.request
    for step in next_steps.after_explorations(request.scenario, record.results, request.files, record.saved):
        say(step)
