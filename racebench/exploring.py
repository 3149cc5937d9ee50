"""`explore` and `replay`: from options to what was found, saved as it goes."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from racebench import catalog, environment, own
from racebench.errors import DatabaseProblem, ExitCode, UsageProblem
from racebench.exploration import explorer, isolation, schedules, specs
from racebench.exploration.explorer import Asked, Explored, Replayed
from racebench.judging import expected_kinds
from racebench.model import Consumer, Scenario, Verdict
from racebench.planning import anomalies, check_file, target_of
from racebench.reports import explored as report
from racebench.reports.document import check_writable, now, write_atomically
from racebench.reports.explorations import Explorations, to_json
from racebench.schemas import new_name
from racebench.targets import Target
from racebench.targets.embedded import EmbeddedServer
from racebench.targets.external import check_usable

#: Connections beside the sessions: to ask who waits for whom, to prepare each schedule, to make and drop the schema.
_EXTRA_CONNECTIONS = 3

Progress = Callable[[str, float], None]


@dataclass(slots=True, kw_only=True)
class Exploring:
    """What a command is going to explore, and, as it goes, what it has found."""

    asked: tuple[Asked, ...]
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
    server: str,
    dsn: str | None,
    json_path: str | None,
    results: str,
    no_save: bool,
    fail_on: str | None,
    expect: str | None,
) -> Exploring:
    """Check the options of `explore`; raises UsageProblem for the first that cannot be carried out."""
    found = own.find(scenario, called=call, setup=setup, invariants=invariant)
    readers: tuple[Consumer | None, ...] = (None,)
    if consumer not in (None, "none"):
        readers = catalog.find_consumers(found, [str(consumer)]) or (None,)
    made = Exploring(
        asked=tuple(
            Asked(
                scenario=found,
                strategy=strategy,
                consumer=reader,
                sessions=sessions,
                polls=polls,
                reduce=not no_reduction,
                budget_s=budget,
                most=max_schedules,
                stop_at_first=stop_at_first,
                depth=depth,
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
        named=frozenset(strategies),
    )
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
        made.environment = environment.describe(target)
        scenario = stack.enter_context(own.ready(made.asked[0].scenario, target, made.schema))
        if scenario is not made.asked[0].scenario:
            made.asked = tuple(_with(each, scenario, made.schema) for each in made.asked)
        asked = list(_possible(made))
        for number, each in enumerate(asked):
            found = Explored(asked=each)

            def tell(now_found: Explored, share: float = number / len(asked)) -> None:
                rate = now_found.run / now_found.seconds if now_found.seconds else 0.0
                name, wrong = now_found.asked.strategy.name, now_found.anomalous
                progress(f"{name}: {now_found.run:,} ({rate:,.0f}/s), {wrong:,} wrong", share)

            try:
                explorer.explore(target, each, tell, found)
                made.finished = number + 1 == len(asked)
            finally:
                if found.run:
                    made.results.append(reported(target, found))
                    save(made)


def _with(asked: Asked, scenario: Scenario, schema: str) -> Asked:
    """What to explore, of a scenario whose callables have been imported."""
    return replace(asked, scenario=scenario, strategy=scenario.strategies[asked.strategy.name], schema=schema)


def reported(target: Target, found: Explored) -> report.Reported:
    """What was found with its witness run once more, step by step."""
    shown: Replayed | None = None
    if found.witness is not None:
        shown = explorer.replay(target, found.asked, found.witness)
    certain, possible = expected_kinds(found.asked.strategy, [found.asked.consumer] if found.asked.consumer else [])
    seen = {kind for kind in found.asked.scenario.forbid if found.counts[kind]}
    return report.Reported(
        found=found,
        witness=shown,
        expected=tuple(sorted(certain)),
        as_expected=None
        if found.asked.scenario.restored
        else found.verdict is not Verdict.UNKNOWN and certain <= seen <= certain | possible,
    )


def _possible(made: Exploring) -> Sequence[Asked]:
    """Less what this server is too old for: an error if it was asked for by name."""
    version = int(re.match(r"\d*", str(made.environment["server_version"])).group() or 0)  # type: ignore[union-attr]
    kept = []
    for each in made.asked:
        needed = each.strategy.server
        if needed <= version:
            kept.append(each)
        elif each.strategy.name in made.named:
            raise DatabaseProblem(f"'{each.strategy.name}' needs PostgreSQL {needed}, this is {version}; leave it out")
        else:
            made.left_out.append(f"{each.strategy.name}: needs PostgreSQL {needed}, this is {version}")
    return kept


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
    raced = [_raced(made, result) for result in made.results]
    if made.expect_race:
        return ExitCode.OK if all(raced) else ExitCode.ANOMALY
    if not made.fail_on:
        return ExitCode.OK
    if any(raced):
        return ExitCode.ANOMALY
    unknown = any(result.found.verdict is Verdict.UNKNOWN for result in made.results)
    return ExitCode.INCONCLUSIVE if unknown else ExitCode.OK


def _raced(made: Exploring, result: report.Reported) -> bool:
    kinds = result.found.asked.scenario.forbid if made.fail_on in ((), ("any",)) else made.fail_on
    return any(result.found.counts[kind] for kind in kinds)


def replay(
    text: str,
    *,
    scenario: str | None,
    server: str,
    dsn: str | None,
    call: Sequence[str] = (),
    setup: Sequence[str] = (),
    invariant: Sequence[str] = (),
) -> tuple[Asked, Replayed]:
    """Run a schedule once more; raises UsageProblem if the script is another now or the server does not follow."""
    schedule = schedules.parse(text)
    own_code = bool(call) or (scenario is not None and own.is_sql_file(scenario))
    found = own.find(
        scenario or (None if own_code else schedule.scenario), called=call, setup=setup, invariants=invariant
    )
    made = _nothing(server, dsn)
    with contextlib.ExitStack() as stack:
        target = _target(made, stack, max(schedule.steps))
        found = stack.enter_context(own.ready(found, target, made.schema))
        strategy = catalog.find_strategy(found, schedule.strategy)
        consumer = catalog.find_consumers(found, [schedule.consumer])[0] if schedule.consumer else None
        schedules.check_same(schedule, strategy, consumer)
        sessions = max(schedule.steps)
        polls = 0
        if consumer is not None:
            polls, sessions = schedule.steps.count(sessions), sessions - 1
        asked = Asked(
            scenario=found,
            strategy=strategy,
            consumer=consumer,
            sessions=sessions,
            polls=polls,
            reduce=False,
            schema=made.schema,
        )
        return asked, explorer.replay(target, asked, schedule.steps)


def run_spec(
    path: str, *, server: str, dsn: str | None, say: Callable[[str], None], warn: Callable[[str], None]
) -> None:
    """Run the permutations of one of isolationtester's spec files; raises ScenarioProblem, DatabaseProblem."""
    spec = specs.parse(catalog.read_text(Path(path), "name an existing spec file"), path)
    for name in spec.unused:
        warn(f"unused step name: {name}")
    with contextlib.ExitStack() as stack:
        target = _target(_nothing(server, dsn), stack, len(spec.sessions))
        isolation.Runner(target, say).run(spec, Path(path).stem)


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
