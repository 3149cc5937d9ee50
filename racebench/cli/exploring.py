"""`explore` and `replay`: from options to what was found, saved as it goes."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from racebench import api
from racebench.cli.planning import anomalies, check_file, target_of
from racebench.core.errors import ExitCode, UsageProblem
from racebench.core.model import Consumer, Scenario, Verdict
from racebench.core.signals import shielded
from racebench.core.target import Target
from racebench.exploration import explorer, schedules
from racebench.exploration.explorer import Explored, Replayed
from racebench.exploration.isolationtester import runner, specs
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.schedules import Schedule
from racebench.postgres import environment
from racebench.postgres.embedded import EmbeddedServer
from racebench.postgres.external import check_usable
from racebench.postgres.requirements import for_consumer, for_strategy, refused
from racebench.postgres.schemas import new_name
from racebench.reports.results.document import check_writable, now, write_atomically
from racebench.reports.results.explorations import Explorations, to_json
from racebench.reports.terminal import exploration_table as report
from racebench.workloads import ad_hoc, catalog

#: Connections beside the sessions: to ask who waits for whom, to prepare each schedule, to make and drop the schema.
_EXTRA_CONNECTIONS = 3

#: Anomalies that a handful of operations does not show.
_NOT_COUNTED = frozenset({"gaps", "inversions"})

Progress = Callable[[str, float], None]


@dataclass(slots=True, kw_only=True)
class Exploring:
    """What a command is going to explore, and, as it goes, what it has found."""

    asked: tuple[ExplorationRequest, ...]
    target: Target | None
    server_version: int
    json_path: str | None
    folder: Path | None
    fail_on: tuple[str, ...]
    expect_race: bool
    named: frozenset[str]
    created: str = field(default_factory=now)
    environment: Mapping[str, Any] = field(default_factory=dict)
    results: list[report.Reported] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    finished: bool = False
    saved: Path | None = None
    #: An application that has connected once goes on where it was.
    schema: str = field(default_factory=new_name)

    def document(self) -> Explorations:
        """What has been found so far, as a document."""
        return report.document(self.results, self.environment, self.created, complete=self.finished)

    def json(self) -> str:
        """The document as JSON."""
        return to_json(self.document())


def plan(
    *,
    scenario: str | None,
    call: Sequence[str] = (),
    setup: Sequence[str] = (),
    invariant: Sequence[str] = (),
    strategies: Sequence[str],
    sessions: int,
    consumer: str | None,
    polls: int,
    no_reduction: bool,
    budget: float | None,
    max_schedules: int | None,
    depth: int,
    seed: int | None,
    stop_at_first: bool,
    step_timeout: float,
    server: str,
    dsn: str | None,
    json_path: str | None,
    results: str,
    no_save: bool,
    fail_on: str | None,
    expect: str | None,
) -> Exploring:
    """Check the options of `explore`; raises UsageProblem for the first that cannot be carried out."""
    found = ad_hoc.find(scenario, called=call, setup=setup, invariants=invariant)
    readers: tuple[Consumer | None, ...] = (None,)
    if consumer not in (None, "none"):
        readers = catalog.find_consumers(found, [str(consumer)]) or (None,)
    made = Exploring(
        asked=tuple(
            ExplorationRequest(
                scenario=found,
                strategy=strategy,
                consumer=reader,
                sessions=sessions,
                polls=polls,
                reduce=not no_reduction,
                budget_s=budget,
                max_schedules=max_schedules,
                stop_at_first=stop_at_first,
                depth=depth,
                step_s=step_timeout,
                seed=secrets.randbelow(2**32) if seed is None else seed,
            )
            for strategy in catalog.find_strategies(found, strategies or ["all"])
            for reader in readers
            if reader is None or reader.fits(strategy)
        ),
        target=target_of(dsn),
        server_version=int(server),
        json_path=json_path,
        folder=None if no_save else Path(results),
        fail_on=anomalies(fail_on),
        expect_race=expect == "race",
        named=frozenset((*strategies, *([consumer] if consumer else ()))),
    )
    _counted(made.fail_on)
    if not made.asked:
        raise UsageProblem(f"consumer '{consumer}' cannot read what these strategies write; choose another")
    if json_path is not None and json_path != "-":
        check_file("--json", Path(json_path))
    if made.folder is not None:
        check_writable(made.folder)
    return made


def run(made: Exploring, progress: Progress) -> None:
    """Explore one after the other, adding to `made.results`; what an interruption leaves is there too."""
    with contextlib.ExitStack() as stack:
        progress("starting PostgreSQL", 0.0)
        target = _target(made, stack, max(each.sessions for each in made.asked))
        consumers = [each.consumer for each in made.asked if each.consumer is not None]
        made.environment = environment.describe(target, {name for each in consumers for name in each.requires})
        scenario = stack.enter_context(ad_hoc.ready(made.asked[0].scenario, target, made.schema))
        if scenario is not made.asked[0].scenario:
            made.asked = tuple(_with(each, scenario, made.schema) for each in made.asked)
        asked = _possible(made, target)
        for number, each in enumerate(asked):
            found = Explored(asked=each)

            def tell(now_found: Explored, share: float = number / len(asked)) -> None:
                rate = now_found.run / now_found.seconds if now_found.seconds else 0.0
                name, wrong = now_found.asked.strategy.name, now_found.anomalous
                progress(f"{name}: {now_found.run:,} ({rate:,.0f}/s), {wrong:,} wrong", share)

            failed = True
            try:
                explorer.explore(target, each, tell, found)
                failed, made.finished = False, number + 1 == len(asked)
            finally:
                if found.run:
                    result = api.reported(target, found, failed=failed)
                    with shielded():  # so that --json's file and the results folder tell the same
                        made.results.append(result)
                        save(made)


def _with(asked: ExplorationRequest, scenario: Scenario, schema: str) -> ExplorationRequest:
    """What to explore, of a scenario whose callables have been imported."""
    return replace(asked, scenario=scenario, strategy=scenario.strategies[asked.strategy.name], schema=schema)


def _possible(made: Exploring, target: Target) -> Sequence[ExplorationRequest]:
    """Less what this server is too old for, or not set up for: an error if it was asked for by name."""

    def lacks(name: str, lack: str) -> bool:
        return refused(name, lack, made.named, made.left_out)

    return [
        each
        for each in made.asked
        if not lacks(each.strategy.name, for_strategy(each.strategy, made.environment, target.label))
        and not (each.consumer and lacks(each.consumer.name, for_consumer(each.consumer, made.environment)))
    ]


def _target(made: Exploring, stack: contextlib.ExitStack, sessions: int) -> Target:
    connections = sessions + 1 + _EXTRA_CONNECTIONS
    if made.target is None:
        return stack.enter_context(EmbeddedServer(version=made.server_version, connections=connections))
    check_usable(made.target, connections)
    return made.target


def save(made: Exploring) -> None:
    """Write what there is so far, whole or not at all."""
    text = made.json() + "\n"
    if made.json_path is not None and made.json_path != "-":
        write_atomically(Path(made.json_path), text)
    if made.folder is not None:
        stamp = made.created.replace(":", "").replace("-", "")
        scenario = made.asked[0].scenario.name
        path = made.saved or made.folder / f"{stamp}-{scenario}-explored-{secrets.token_hex(3)}.json"
        write_atomically(path, text)
        made.saved = path


def exit_code(made: Exploring) -> int:
    """As `run` has them: 0, or 3 and 5 as --fail-on and --expect ask."""
    raced = [_raced(result.found.asked, result.found.counts, made.fail_on) for result in made.results]
    if made.expect_race:
        return ExitCode.OK if all(raced) else ExitCode.ANOMALY
    if not made.fail_on:
        return ExitCode.OK
    if any(raced):
        return ExitCode.ANOMALY
    unknown = any(result.found.verdict is Verdict.UNKNOWN for result in made.results)
    return ExitCode.INCONCLUSIVE if unknown else ExitCode.OK


def _raced(asked: ExplorationRequest, counts: Mapping[str, int], fail_on: Sequence[str]) -> bool:
    kinds = asked.scenario.forbid if tuple(fail_on) in ((), ("any",)) else fail_on
    return any(counts[kind] for kind in kinds)


def _counted(fail_on: Sequence[str]) -> None:
    """Refuse to look for what a schedule does not show: that would pass, whatever happened."""
    if missing := [kind for kind in fail_on if kind in _NOT_COUNTED]:
        raise UsageProblem(f"--fail-on: {missing[0]} are not counted in schedules; `racebench run` counts them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """A schedule that was run again, or the shorter one that was asked for, and the exit code it earns."""

    asked: ExplorationRequest
    replayed: Replayed
    schedule: Schedule
    exit_code: int


def replay(
    text: str,
    *,
    scenario: str | None,
    server: str,
    dsn: str | None,
    minimize: bool,
    step_timeout: float,
    fail_on: str | None,
    expect: str | None,
    call: Sequence[str] = (),
    setup: Sequence[str] = (),
    invariant: Sequence[str] = (),
) -> Rerun:
    """Run a schedule once more; raises UsageProblem if the script is another now or the server does not follow.

    `minimize`: run instead the shortest that is found to show the same.
    """
    schedule, kinds = schedules.parse(text), anomalies(fail_on)
    _counted(kinds)
    own_code = bool(call) or (scenario is not None and ad_hoc.is_sql_file(scenario))
    found = ad_hoc.find(
        scenario or (None if own_code else schedule.scenario), called=call, setup=setup, invariants=invariant
    )
    made = replace(_nothing(server, dsn), fail_on=kinds, expect_race=expect == "race")
    with contextlib.ExitStack() as stack:
        target = _target(made, stack, max(schedule.steps))
        found = stack.enter_context(ad_hoc.ready(found, target, made.schema))
        asked = replace(_of_schedule(schedule, found), step_s=step_timeout, schema=made.schema)
        replayed = explorer.replay(target, asked, schedule.steps)
        if minimize:
            if not replayed.wrong:
                raise UsageProblem(
                    "nothing goes wrong in this schedule, so there is no shorter way to it; leave out --minimize"
                )
            shortest = explorer.shorten(target, asked, schedule.steps, tuple(replayed.wrong))
            schedule = replace(schedule, steps=shortest, digest=schedules.digest(asked.strategy, asked.consumer))
            replayed = explorer.replay(target, asked, shortest)
    raced = _raced(asked, replayed.ended.counts, kinds)
    bad = not raced if made.expect_race else raced and bool(kinds)
    return Rerun(asked=asked, replayed=replayed, schedule=schedule, exit_code=ExitCode.ANOMALY if bad else ExitCode.OK)


def read_schedule(text: str, *, scenario: str | None) -> tuple[ExplorationRequest, Schedule]:
    """What a schedule runs; raises UsageProblem if it is none, or if its script is another now."""
    schedule = schedules.parse(text)
    return _of_schedule(schedule, catalog.find_scenario(scenario or schedule.scenario)), schedule


def _of_schedule(schedule: Schedule, found: Scenario) -> ExplorationRequest:
    strategy = catalog.find_strategy(found, schedule.strategy)
    consumer = catalog.find_consumers(found, [schedule.consumer])[0] if schedule.consumer else None
    schedules.check_same(schedule, strategy, consumer)
    sessions = max(schedule.steps)
    polls = 0
    if consumer is not None:
        polls, sessions = schedule.steps.count(sessions), sessions - 1
    return ExplorationRequest(
        scenario=found, strategy=strategy, consumer=consumer, sessions=sessions, polls=polls, reduce=False
    )


def run_spec(
    path: str, *, server: str, dsn: str | None, say: Callable[[str], None], warn: Callable[[str], None]
) -> None:
    """Run the permutations of one of isolationtester's spec files; raises ScenarioProblem, DatabaseProblem."""
    spec = specs.parse(catalog.read_text(Path(path), "name an existing spec file"), path)
    for name in spec.unused:
        warn(f"unused step name: {name}")
    with contextlib.ExitStack() as stack:
        target = _target(_nothing(server, dsn), stack, len(spec.sessions))
        runner.Runner(target, say).run(spec, Path(path).stem)


def _nothing(server: str, dsn: str | None) -> Exploring:
    """What says where to explore, and nothing of what."""
    return Exploring(
        asked=(),
        target=target_of(dsn),
        server_version=int(server),
        json_path=None,
        folder=None,
        fail_on=(),
        expect_race=False,
        named=frozenset(),
    )
