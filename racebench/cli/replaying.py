"""What replay does: one schedule run again, or the shortest one that shows the same anomalies; and spec files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from racebench.cli import simulated
from racebench.cli.exit_codes import Finding, exit_code, gates_of
from racebench.cli.exploring import EXTRA_CONNECTIONS
from racebench.cli.option_groups import GateOptions, OracleOptions, PoolerOptions, SubjectOptions, TargetOptions
from racebench.cli.servers import server_of
from racebench.cli.subjects import find_scenario
from racebench.core.errors import ExitCode, UsageProblem
from racebench.core.verdict import Verdict
from racebench.exploration import explorer, schedules
from racebench.exploration.choices import cuts
from racebench.exploration.isolationtester import place, runner, specs
from racebench.exploration.request import ExplorationRequest, judged
from racebench.exploration.result import Replay
from racebench.exploration.schedules import Schedule
from racebench.postgres.schemas import new_name
from racebench.workloads import ad_hoc, catalog
from racebench.workloads.text_file import read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """A schedule that was run again, or the shorter one that was asked for, and the exit code."""

    request: ExplorationRequest
    result: Replay
    exit_code: ExitCode


def replay(
    text: str,
    subject: SubjectOptions,
    target: TargetOptions,
    gates: GateOptions,
    *,
    pooler: PoolerOptions,
    oracle: OracleOptions,
    minimize: bool,
    step_timeout: float,
) -> Rerun:
    """Run a schedule again; raises UsageProblem if the script has changed or the server does not follow the schedule.

    `minimize`: run the shortest schedule that shows the same anomalies instead. `step_timeout` is in seconds.
    """
    schedule = schedules.parse(text)
    own_code = subject.own_code is not None or (subject.scenario is not None and ad_hoc.is_sql_file(subject.scenario))
    checked_gates = gates_of(gates, explored=True, own_code=own_code)
    if not subject.scenario and not own_code:
        subject = replace(subject, scenario=schedule.scenario)
    scenario = find_scenario(subject, target, explored=True)
    pooling = simulated.pooling_of(pooler, subject, scenario, crash=cuts(schedule.steps))
    server = server_of(target, scenario)
    schema = new_name()
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(server.opened(schedule.sessions + 1 + EXTRA_CONNECTIONS))
        scenario = stack.enter_context(ad_hoc.ready(scenario, opened, schema))
        request = replace(explorer.requested_by(schedule, scenario), step_s=step_timeout, schema=schema)
        simulating = simulated.options_of(pooling, pooler, sessions=request.sessions)
        request = replace(request, pooler=simulating)
        if why := simulated.refusal(request):
            raise UsageProblem(f"strategy '{request.strategy.name}' cannot run here: {why}")
        request = judged(request, oracle=oracle.oracle, allow=oracle.allowed)
        result = explorer.replay(opened, request, schedule.steps)
        if minimize:
            if not result.anomalies:
                raise UsageProblem(
                    "the schedule shows no anomaly, so there is nothing to minimize; leave out --minimize"
                )
            shortest = explorer.shorten(opened, request, schedule.steps, tuple(result.anomalies))
            result = explorer.replay(opened, request, shortest)
    finding = Finding(
        forbidden=result.forbidden,
        counts=result.counts,
        verdict=Verdict.INVALID if result.anomalies else Verdict.VALID,
    )
    return Rerun(request=request, result=result, exit_code=exit_code([finding], checked_gates))


def read_schedule(text: str, *, scenario: str | None) -> tuple[ExplorationRequest, Schedule]:
    """What a schedule runs; raises UsageProblem if the text is no schedule, or if its script has changed."""
    schedule = schedules.parse(text)
    return explorer.requested_by(schedule, catalog.find_scenario(scenario or schedule.scenario)), schedule


def run_spec(path: str, target: TargetOptions, *, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Run the permutations of a spec file of isolationtester; raises ScenarioProblem, DatabaseProblem."""
    spec = specs.parse(read_text(Path(path), "name an existing spec file"), path)
    for name in spec.unused:
        warn(f"unused step name: {name}")
    connections = len(spec.sessions) + 1 + EXTRA_CONNECTIONS
    with server_of(target).opened(connections) as opened, place.place_on(opened) as placed:
        runner.Runner(placed, say).run(spec, Path(path).stem)
