"""racebench as a library: explore or hammer functions, scripts and scenarios from Python, on one server.

    import racebench

    racebench.explore(create_order, sessions=2, setup=SCHEMA, invariant="SELECT …").assert_clean()
    racebench.hammer(create_order, workers=4, seconds=1, setup=SCHEMA, invariant="SELECT …").assert_clean()

A function takes a psycopg connection, or nothing if it makes its own from RACEBENCH_DSN or DATABASE_URL.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from racebench.core.anomalies import ANOMALIES
from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.model import Load, Scenario
from racebench.core.results import RunResult, Verdict
from racebench.postgres.schemas import empty_schema, new_name
from racebench.workloads import ad_hoc, callables

if TYPE_CHECKING:
    from racebench.analysis.offline import CheckResult
    from racebench.core.target import Target
    from racebench.exploration.explorer import Explored, Replayed
    from racebench.exploration.request import ExplorationRequest
    from racebench.reports.terminal.exploration_table import Reported

#: A function, `module:function`, or a file of SQL.
Subject = str | Path | Callable[..., Any]
#: SQL, a file of SQL, `module:function` or a function; or several.
Given = ad_hoc.Given | Sequence[ad_hoc.Given]

_WIDTH = 110
_CONNECTIONS = 60


class RaceFound(AssertionError):  # noqa: N818 - what was found is not a fault of the program
    """A race was found, or its absence could not be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """What exploring found. `counts`: anomalies over all orders; `schedule`: of the shortest witness, None if none.

    `run` orders were run, `anomalous` of them went wrong; `complete`: there are no more.
    """

    verdict: Verdict
    counts: Mapping[str, int]
    run: int
    anomalous: int
    complete: bool
    schedule: str | None
    seconds: float
    _reported: Reported
    _environment: Mapping[str, Any]

    def assert_clean(self) -> Exploration:
        """Return self if every order was run and none went wrong; else raise RaceFound with the shortest witness."""
        __tracebackhide__ = True
        if self.verdict is not Verdict.VALID:
            raise RaceFound(f"\n{self}")
        return self

    def __str__(self) -> str:
        from racebench.reports.terminal import exploration_table

        again = ""
        if self.schedule is not None and self._reported.found.asked.scenario.options is None:
            again = f"\n  again: racebench.explore(…, schedule={self.schedule!r})"
        return _plain(lambda console: exploration_table.show(console, [self._reported], self._environment)) + again


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One schedule, run once more. `counts`: what went wrong."""

    counts: Mapping[str, int]
    _asked: ExplorationRequest
    _replayed: Replayed
    _schedule: str

    def assert_clean(self) -> Replay:
        """Return self if nothing went wrong; else raise RaceFound with what happened."""
        __tracebackhide__ = True
        if self.counts:
            raise RaceFound(f"\n{self}")
        return self

    def __str__(self) -> str:
        from racebench.reports.terminal import exploration_table

        return _plain(
            lambda console: exploration_table.show_replay(console, self._asked, self._replayed, self._schedule)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hammering:
    """What hammering found: racebench.core.results.RunResult has it all. VALID is an upper bound, no proof."""

    result: RunResult
    _environment: Mapping[str, Any]

    @property
    def verdict(self) -> Verdict:
        return self.result.verdict

    @property
    def counts(self) -> Mapping[str, int]:
        return self.result.counts

    def assert_clean(self) -> Hammering:
        """Return self if operations were committed and nothing forbidden was found; else raise RaceFound."""
        __tracebackhide__ = True
        if self.verdict is not Verdict.VALID:
            raise RaceFound(f"\n{self}")
        return self

    def __str__(self) -> str:
        from racebench.reports.results.document import Document, now
        from racebench.reports.terminal import run_table

        document = Document(environment=self._environment, created=now(), runs=(self.result,), complete=True)
        return _plain(lambda console: run_table.show(console, document))


class Bench:
    """A server and a schema for as many explorations as you like; a context manager.

    `dsn` names the user's server, None the embedded one, which starts when it is first needed; processes that name the
    same `share` use one together. The schema keeps its name, so that an application that has connected once goes on; it
    is dropped at the end.
    """

    def __init__(self, dsn: str | None = None, *, server: int = 18, share: str | None = None) -> None:
        self._given, self._version, self._share = dsn, server, share
        self._stack = contextlib.ExitStack()
        self._target: Target | None = None
        self._described: Mapping[str, Any] = {}
        self._schema = new_name()
        self._adopted = False

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the schema and stop the server, if there are any."""
        self._target = None
        self._stack.close()

    @property
    def dsn(self) -> str:
        """A URI of the schema, for an application that makes its own tables there (by migrations, say).

        Once it has been asked for, it is in RACEBENCH_DSN and DATABASE_URL too, and the schema is the application's:
        explorations find its tables and put their rows back, but do not make it anew.
        """
        target = self._up()
        if not self._adopted:
            self._stack.enter_context(empty_schema(target, self._schema))
            self._stack.enter_context(callables.exported(callables.variables(target, self._schema, ad_hoc.APPLICATION)))
            self._adopted = True
        return callables.variables(target, self._schema, ad_hoc.APPLICATION)[callables.VARIABLES[0]]

    def explore(
        self,
        *subjects: Subject,
        sessions: int | None = None,
        setup: Given = (),
        invariant: Given = (),
        reduce: bool = True,
        budget: float | None = None,
        max_schedules: int | None = None,
        stop_at_first: bool = False,
        depth: int = 3,
        seed: int | None = None,
        schedule: str | None = None,
    ) -> Exploration | Replay:
        """Run every order of the sessions' steps, or, given one, a `schedule` once more.

        Sessions take turns with the subjects; there are two, or as many as subjects, unless `sessions` says otherwise.
        `setup` makes the tables that every order begins with; `invariant` is SQL that returns the rows that break it,
        or a function that returns what is wrong or fails an assert. `budget` is in seconds; beyond it, or beyond
        `max_schedules`, the verdict is UNKNOWN if nothing was found. Raises RacebenchError.
        """
        from racebench.exploration import explorer, schedules
        from racebench.exploration.request import ExplorationRequest

        target = self._up()
        with ad_hoc.ready(_scenario(subjects, setup, invariant), target, self._schema) as scenario:
            (strategy,) = scenario.strategies.values()
            asked = ExplorationRequest(
                scenario=replace(scenario, options=None) if self._adopted else scenario,
                strategy=strategy,
                sessions=_sessions(sessions, max(2, len(strategy.calls))),
                reduce=reduce,
                budget_s=budget,
                max_schedules=max_schedules,
                stop_at_first=stop_at_first,
                depth=depth,
                seed=secrets.randbelow(2**32) if seed is None else seed,
                schema=self._schema,
                in_place=self._adopted,
            )
            if schedule is not None:
                wanted = schedules.parse(schedule)
                schedules.check_same(wanted, strategy, None)
                replayed = explorer.replay(target, asked, wanted.steps)
                return Replay(counts=replayed.wrong, _asked=asked, _replayed=replayed, _schedule=schedule)
            result = reported(target, explorer.explore(target, asked))
        found = result.found
        return Exploration(
            verdict=found.verdict,
            counts={kind: found.counts[kind] for kind in ANOMALIES},
            run=found.run,
            anomalous=found.anomalous,
            complete=found.complete,
            schedule=None if found.schedule is None else str(found.schedule),
            seconds=found.seconds,
            _reported=result,
            _environment=self._described,
        )

    def hammer(
        self,
        *subjects: Subject,
        workers: int = 4,
        seconds: float | None = None,
        operations: int | None = None,
        setup: Given = (),
        invariant: Given = (),
        seed: int | None = None,
        **load: Any,
    ) -> Hammering:
        """Have worker processes do it as fast as they can, for so many `seconds` (1) or `operations`, and check.

        Workers take turns with the subjects. `load` is anything else that racebench.core.model.Load has. Raises
        RacebenchError.
        """
        from racebench.load.driver import Hammer
        from racebench.load.executors.processes import Processes

        target = self._up()
        pressing = Load(
            workers=workers,
            duration_s=1.0 if seconds is None and operations is None else seconds,
            operations=operations,
            seed=secrets.randbelow(2**32) if seed is None else seed,
            **load,
        )
        made = _scenario(subjects, setup, invariant)
        with ad_hoc.ready(made, target, self._schema) as scenario, Processes() as processes:
            (strategy,) = scenario.strategies.values()
            hammer = Hammer(
                target=target,
                processes=processes,
                environment=self._described,
                schema=self._schema,
                in_place=self._adopted,
            )
            result = hammer.run(scenario, strategy, (), pressing, lambda _: None)
        return Hammering(result=result, _environment=self._described)

    def _up(self) -> Target:
        from racebench.postgres import environment
        from racebench.postgres.external import external
        from racebench.postgres.targets import open_target

        if self._target is None:
            given = external(self._given) if self._given else None
            connections = 1 if given is not None else _CONNECTIONS
            target = self._stack.enter_context(
                open_target(given, version=self._version, connections=connections, share=self._share)
            )
            self._described = environment.describe(target)
            self._target = target
        return self._target


def explore(*subjects: Subject, dsn: str | None = None, server: int = 18, **options: Any) -> Exploration | Replay:
    """Explore on a server of its own; see Bench.explore."""
    with Bench(dsn, server=server) as bench:
        return bench.explore(*subjects, **options)


def hammer(*subjects: Subject, dsn: str | None = None, server: int = 18, **options: Any) -> Hammering:
    """Hammer on a server of its own; see Bench.hammer."""
    with Bench(dsn, server=server) as bench:
        return bench.hammer(*subjects, **options)


def check(path: str | Path) -> CheckResult:
    """Check a recorded history: `.npz`, `.jsonl` or `.edn`; raises UsageProblem. See racebench.analysis.offline."""
    from racebench.analysis import offline

    return offline.check_file(Path(path), None)


def reported(target: Target, found: Explored, *, failed: bool = False) -> Reported:
    """What was found with its witness step by step; if the search failed, running it once more may fail as well."""
    from racebench.analysis.verdicts import expected_kinds
    from racebench.exploration import explorer
    from racebench.reports.terminal import exploration_table

    shown = found.shown
    if found.witness is not None and shown is None:
        with contextlib.suppress(*([RacebenchError] if failed else [])):
            shown = explorer.replay(target, found.asked, found.witness)
    certain, possible = expected_kinds(found.asked.strategy, [found.asked.consumer] if found.asked.consumer else [])
    seen = {kind for kind in found.asked.scenario.forbid if found.counts[kind]}
    return exploration_table.Reported(
        found=found,
        witness=shown,
        expected=tuple(sorted(certain)),
        as_expected=None
        if not found.asked.scenario.has_expectations
        else found.verdict is not Verdict.UNKNOWN and certain <= seen <= certain | possible,
    )


def _scenario(subjects: Sequence[Subject], setup: Given, invariant: Given) -> Scenario:
    made = {"setup": _several(setup), "invariants": _several(invariant)}
    files = [
        str(each) for each in subjects if isinstance(each, Path) or (isinstance(each, str) and ad_hoc.is_sql_file(each))
    ]
    if not files:
        return ad_hoc.from_calls([each for each in subjects if not isinstance(each, Path)], **made)
    if len(subjects) > 1:
        raise UsageProblem(f"one file of SQL at a time, not {len(subjects)} subjects: {shlex.join(map(str, subjects))}")
    return ad_hoc.from_sql(files[0], **made)


def _several(given: Given) -> tuple[ad_hoc.Given, ...]:
    if isinstance(given, str | Path) or callable(given):
        return (given,)
    return tuple(given)


def _sessions(asked: int | None, default: int) -> int:
    if asked is None:
        return default
    if not 1 <= asked <= 9:
        raise UsageProblem(f"sessions is a number from 1 to 9, not {asked}")
    return asked


def _plain(show: Callable[[Any], None]) -> str:
    """What a report prints, as text."""
    from racebench.reports.terminal import tables

    return "\n".join(line.rstrip() for line in tables.plain(show, width=_WIDTH).rstrip().splitlines())


__all__ = ["Bench", "Exploration", "Hammering", "RaceFound", "RacebenchError", "Replay", "check", "explore", "hammer"]
