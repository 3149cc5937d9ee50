"""The load driver: one strategy under load, from a fresh schema to a RunResult.

It owns the schema and what is kept of a run. run.py runs it, the checkers judge it; nothing here formats.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racebench.analysis.restarts import RESTARTED, after_restart
from racebench.analysis.verdicts import judge
from racebench.core.errors import DatabaseProblem, RacebenchError
from racebench.core.model import Consumer, Load, Origin, Scenario, Strategy
from racebench.core.results import RunResult
from racebench.core.target import Target
from racebench.core.watching import Patience
from racebench.executors import Executor
from racebench.history import History, archive
from racebench.history.recorded import About, Recorded
from racebench.history.spill import Scratch
from racebench.load import run_files
from racebench.load.assignment import Assignment
from racebench.load.crew import GAVE_UP, Progress
from racebench.load.run import Run
from racebench.postgres.connection import connect
from racebench.postgres.control import Control
from racebench.postgres.schemas import application_name, fill, fresh_schema, new_name
from racebench.postgres.snapshot import Snapshot
from racebench.workloads.ad_hoc import NO_INVARIANT, lacks_invariant, resets

if TYPE_CHECKING:
    from racebench.load.meter import Tell
    from racebench.postgres.pgbouncer import Pooler

#: Connections a run opens beside its workers' and consumers': one to set up, watch and clean up, one for the schema.
EXTRA_CONNECTIONS = 2

#: Given a result, where to keep its history; None for nowhere.
Keep = Callable[[RunResult], Path | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadDriver:
    """What all runs of a command share: the target, the executor, and whether schemas are kept.

    `environment` goes into the histories that are kept. `schema`: the name of the schema to make, None for a new one
    each time; `in_place`: the schema exists, holds the application's own tables, and stays. `patience`: with a run that
    makes no progress. `control`: the session that makes and reads the schemas of all runs; None for one of each run.
    """

    target: Target
    executor: Executor
    keep: bool = False
    environment: Mapping[str, Any] = field(default_factory=dict)
    schema: str | None = None
    in_place: bool = False
    patience: Patience = field(default_factory=Patience)
    control: Control | None = None

    def run(
        self,
        scenario: Scenario,
        strategy: Strategy,
        consumers: Sequence[Consumer],
        load: Load,
        progress: Progress,
        *,
        keep_history: Keep = lambda _result: None,
        followed: bool = False,
        tell: Tell | None = None,
    ) -> RunResult:
        """Run one strategy under load and judge what is left.

        Where the target has a standby, each consumer reads on both servers: what it misses on the primary as well is
        not the standby's doing.

        `followed`: this driver will run another, for which sessions may rest. A run is as independent of the one before
        it as if it were alone: its tables, indexes and sequences are new, and a session that has rested has nothing of
        the last run (racebench.postgres.resting).

        `progress` is called several times a second with the fraction done, and `tell` at most four times a second with
        the run's figures; None to look at none. Raises RacebenchError; whatever
        happens, the schema is dropped (unless kept) and no process of the run is still busy.
        """
        schema = self.schema or new_name()
        result: RunResult | None = None
        made_outside: list[str] = []
        try:
            with contextlib.ExitStack() as stack:
                files = stack.enter_context(run_files.temporary())
                control = self.control or stack.enter_context(Control(self.target))
                control.resting = frozenset()
                if self.in_place:
                    monitor = stack.enter_context(connect(self.target, schema=schema))
                    stack.callback(Snapshot(monitor, schema).restore)
                    fill(self.target, schema, scenario, strategy, consumers)
                else:
                    stack.enter_context(
                        fresh_schema(
                            self.target,
                            schema,
                            scenario,
                            strategy,
                            consumers,
                            keep=self.keep,
                            tell=made_outside.append,
                            control=control,
                        )
                    )
                if self.target.standby is not None:
                    consumers = [twin for consumer in consumers for twin in (consumer, consumer.at_standby())]
                scratch = stack.enter_context(Scratch())
                assignment = Assignment(
                    target=self.target,
                    schema=schema,
                    strategy=strategy,
                    consumers=tuple(consumers),
                    load=load,
                    files=files,
                    own_code=scenario.origin is Origin.OWN_CODE,
                    patience=self.patience,
                    rests=followed and self._may_rest(scenario, load),
                )
                pooler = stack.enter_context(_pooler_of(self.target, schema, scenario, strategy, load))
                assignment = replace(assignment, pooler=pooler)
                if strategy.programs or strategy.service is not None:
                    assignment = self._with_application(assignment, stack)
                run = Run(scenario, assignment, self.executor, scratch, control, tell)
                crew = run.crew
                if lacks_invariant(scenario):
                    crew.notes.append(f"{NO_INVARIANT}; `racebench explore` needs none")
                stack.callback(crew.end)
                history = run.history(progress)
                control.resting = frozenset(crew.resting)
                result = judge(
                    scenario=scenario,
                    strategy=strategy,
                    consumers=consumers if len(history.logs) == len(consumers) else (),
                    load=load,
                    history=history,
                    retried=crew.retried,
                    messages=crew.messages,
                    notes=crew.notes,
                    schema=schema if self.keep else None,
                    usage=crew.usage,
                    unfinished=crew.gave_up or run.cannot_judge_errors,
                    known=run.known,
                    sightings={name: report.sightings for name, report in crew.reports.items()},
                )
                if crew.injected:
                    result = replace(result, injected=dict(crew.injected))
                if run.restarted:
                    result = after_restart(result, loses_commits=run.loses_commits)
                if (path := keep_history(result)) is not None:
                    complete = not (crew.gave_up or (run.restarted and run.loses_commits))
                    result = self._kept(result, path, history, complete=complete)
        except DatabaseProblem as problem:
            if result is None or not crew.gave_up:
                raise
            result = replace(result, notes=(*result.notes, str(problem)))  # the schema is still there
        return replace(result, notes=(*result.notes, *made_outside)) if made_outside else result

    def _may_rest(self, scenario: Scenario, load: Load) -> bool:
        """Whether a run's sessions may be used by the next run: they are the same, and nothing of a run is left.

        Those of SQL with RESET may not, because their isolation level is not the one that they began with.
        """
        known = self.target
        direct = not known.pooled and known.keeps_search_path and known.pooler is None
        same = self.schema is not None and not load.faults and direct
        return same and scenario.origin is not Origin.OWN_CODE and not resets(scenario)

    def _with_application(self, assignment: Assignment, stack: contextlib.ExitStack) -> Assignment:
        """An assignment with the way to the server that a program or a service takes, and with a running service."""
        from racebench.load.doorway import Doorway  # most strategies are scripts, which need neither
        from racebench.load.instances import RunningInstances

        strategy, schema = assignment.strategy, assignment.schema
        entrance = assignment.entrance
        if Doorway.is_needed(entrance):
            parameters = {"search_path": schema, "application_name": application_name(schema, assignment.role)}
            doorway = stack.enter_context(Doorway(self.executor, entrance, parameters))
            assignment = replace(assignment, door=doorway.port)
        if strategy.service is None:
            return assignment
        environment = assignment.environment(entrance)
        instances = RunningInstances(strategy.service, environment, schema, workers=assignment.load.workers)
        stack.callback(instances.stop)
        instances.start()
        return replace(assignment, instances=instances)

    def _kept(self, result: RunResult, path: Path, history: History, *, complete: bool) -> RunResult:
        """Keep a run's history; a full disk costs the history, not the result."""
        load = result.load
        about = About(
            scenario=result.scenario,
            strategy=result.strategy,
            forbidden=result.forbidden,
            load={**asdict(load), "faults": [fault.text for fault in load.faults]},
            environment=self.environment,
            warmup_ns=int(load.warmup_s * 1e9),
            complete=complete,
            note="; ".join(note for note in result.notes if note.startswith((RESTARTED, GAVE_UP))),
        )
        try:
            archive.write(path, Recorded(history=history, about=about))
        except RacebenchError as problem:
            return replace(result, notes=(*result.notes, str(problem)))
        return replace(result, history=path.name)


def _pooler_of(
    target: Target, schema: str, scenario: Scenario, strategy: Strategy, load: Load
) -> contextlib.AbstractContextManager[Pooler | None]:
    """The pooler of a run, if the target has one: a new one each time, as sessions of the server keep what was done."""
    if target.pooler is None:
        return contextlib.nullcontext()
    from racebench.postgres.pgbouncer import Pooler  # most runs have none

    settings = {"default_transaction_isolation": strategy.isolation} if strategy.isolation else {}
    own_code = scenario.origin is Origin.OWN_CODE
    return Pooler(target, schema, clients=load.sessions, settings=settings, own_code=own_code)
