"""The pytest fixtures: `racebench` explores and hammers, `racebench_dsn` is where an application finds its tables.

    def test_create_order_is_race_free(racebench: racebench.Fixture) -> None:
        racebench.explore(create_order, sessions=2, setup=SCHEMA, invariant="SELECT … HAVING count(*) > 1")
        racebench.hammer(create_order, workers=4, seconds=1)

A result that is not VALID fails the test. A setup and an invariant hold for the rest of the test. Nothing but this
module is loaded until a test asks for one of the fixtures.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from racebench.api import Bench, Comparison, Exploration, Hammering, LoadOptions, Replay, Search, Service
    from racebench.api.options import OracleName, SqlOrCallable, Subject

Result = TypeVar("Result")
#: How long pytest may take to end after a signal before another one counts, in seconds.
_PATIENCE_S = 10.0
#: The columns that pytest needs before each line of a failure.
_MARGIN = 8
#: The attribute of a failed test's report that has the commands of its annotations.
_ANNOTATIONS = "racebench_annotations"
#: The columns of a failure: at least, at most, and where there is no terminal.
_NARROWEST, _WIDEST, _WIDTH = 60, 160, 110


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --racebench-dsn and --racebench-superuser."""
    group = parser.getgroup("racebench")
    group.addoption(
        "--racebench-superuser",
        action="store_true",
        help="Connect to the embedded server as a superuser.",
    )
    group.addoption(
        "--racebench-dsn",
        metavar="DSN",
        default=os.environ.get("RACEBENCH_DSN"),
        help="A PostgreSQL server for the racebench fixture, instead of the embedded one (or RACEBENCH_DSN).",
    )


class Fixture:
    """What a test is given as `racebench`: as racebench.Bench, but a result that is not VALID fails the test.

    With `check=False` the result is returned whatever it is; its assert_clean() fails the test later. A setup, an
    invariant and a service hold for the rest of the test; where there is no invariant, a warning says so. Another
    warning says that calls returned although the server had refused what they sent last.
    """

    def __init__(self, bench: Bench, *, width: int = _WIDTH) -> None:
        self._bench, self._width = bench, width
        self._setup: SqlOrCallable = ()
        self._invariant: SqlOrCallable | None = None
        self._serve: str | Service | None = None

    @property
    def dsn(self) -> str:
        """See Bench.dsn."""
        return self._bench.dsn

    def explore(
        self,
        *subjects: Subject,
        strategy: str | None = None,
        consumer: str | None = None,
        sessions: int | None = None,
        setup: SqlOrCallable | None = None,
        invariant: SqlOrCallable | None = None,
        serve: str | Service | None = None,
        budget: float | None = None,
        max_schedules: int | None = None,
        stop_at_first: bool = False,
        crash: int = 0,
        seed: int | None = None,
        oracle: OracleName | None = None,
        allow: Sequence[str] = (),
        search: Search | None = None,
        jobs: int | None = None,
        scheduler: str | None = None,
        check: bool = True,
    ) -> Exploration:
        """Fail with the shortest witness unless every schedule was run and none goes wrong; see Bench.explore."""
        __tracebackhide__ = True
        from racebench.api.options import Search

        setup_used, invariant_used = self._definitions(setup, invariant, own=strategy is None)
        exploration = _or_fail(
            lambda: self._bench.explore(
                *subjects,
                setup=setup_used,
                invariant=invariant_used,
                serve=self._service(serve, subjects),
                strategy=strategy,
                consumer=consumer,
                sessions=sessions,
                budget=budget,
                max_schedules=max_schedules,
                stop_at_first=stop_at_first,
                crash=crash,
                seed=seed,
                oracle=oracle,
                allow=allow,
                search=search or Search(),
                jobs=jobs,
                scheduler=scheduler,
            )
        )
        if check:
            exploration.assert_clean(width=self._width)
        from racebench.reports import exploration_text

        for remark in exploration_text.remarks(exploration.result):
            warnings.warn(f"racebench: {exploration.result.strategy}: {remark}", stacklevel=2)
        return exploration

    def replay(
        self,
        *subjects: Subject,
        schedule: str,
        setup: SqlOrCallable | None = None,
        invariant: SqlOrCallable | None = None,
        serve: str | Service | None = None,
        oracle: OracleName | None = None,
        allow: Sequence[str] = (),
        step_timeout: float | None = None,
        check: bool = True,
    ) -> Replay:
        """Fail with what happened if the schedule goes wrong; see Bench.replay."""
        __tracebackhide__ = True
        from racebench.api.options import Search

        setup_used, invariant_used = self._definitions(setup, invariant, own=bool(subjects))
        replay = _or_fail(
            lambda: self._bench.replay(
                *subjects,
                schedule=schedule,
                setup=setup_used,
                invariant=invariant_used,
                serve=self._service(serve, subjects),
                oracle=oracle,
                allow=allow,
                step_timeout=Search().step_timeout if step_timeout is None else step_timeout,
            )
        )
        return replay.assert_clean(width=self._width) if check else replay

    def hammer(
        self,
        *subjects: Subject,
        strategy: str | None = None,
        consumer: str | Sequence[str] | None = None,
        workers: int = 4,
        seconds: float | None = None,
        operations: int | None = None,
        setup: SqlOrCallable | None = None,
        invariant: SqlOrCallable | None = None,
        serve: str | Service | None = None,
        seed: int | None = None,
        load: LoadOptions | None = None,
        scheduler: str | None = None,
        workers_per_machine: int | None = None,
        check: bool = True,
    ) -> Hammering:
        """Run under load; fail with the report unless the verdict is VALID. See Bench.hammer."""
        __tracebackhide__ = True
        from racebench.api.options import LoadOptions

        setup_used, invariant_used = self._definitions(setup, invariant, own=strategy is None, loaded=True)
        hammering = _or_fail(
            lambda: self._bench.hammer(
                *subjects,
                setup=setup_used,
                invariant=invariant_used,
                serve=self._service(serve, subjects),
                strategy=strategy,
                consumer=consumer,
                workers=workers,
                seconds=seconds,
                operations=operations,
                seed=seed,
                load=load or LoadOptions(),
                scheduler=scheduler,
                workers_per_machine=workers_per_machine,
            )
        )
        return hammering.assert_clean(width=self._width) if check else hammering

    def compare(
        self,
        *subjects: Subject,
        strategies: Sequence[str] | None = None,
        consumer: str | Sequence[str] | None = None,
        reference: str | None = None,
        rounds: int = 7,
        workers: int = 4,
        seconds: float | None = None,
        operations: int | None = None,
        setup: SqlOrCallable | None = None,
        invariant: SqlOrCallable | None = None,
        serve: str | Service | None = None,
        seed: int | None = None,
        load: LoadOptions | None = None,
        scheduler: str | None = None,
        workers_per_machine: int | None = None,
        check: bool = True,
    ) -> Comparison:
        """Compare strategies; fail with the report unless the verdict of each is VALID. See Bench.compare."""
        __tracebackhide__ = True
        from racebench.api.options import LoadOptions

        setup_used, invariant_used = self._definitions(setup, invariant, own=strategies is None, loaded=True)
        comparison = _or_fail(
            lambda: self._bench.compare(
                *subjects,
                setup=setup_used,
                invariant=invariant_used,
                serve=self._service(serve, subjects),
                strategies=strategies,
                consumer=consumer,
                reference=reference,
                rounds=rounds,
                workers=workers,
                seconds=seconds,
                operations=operations,
                seed=seed,
                load=load or LoadOptions(),
                scheduler=scheduler,
                workers_per_machine=workers_per_machine,
            )
        )
        return comparison.assert_clean(width=self._width) if check else comparison

    def _service(self, serve: str | Service | None, subjects: Sequence[Subject]) -> str | Service | None:
        """The service of this call: the one given, which is kept, or for requests the one of a call before."""
        from racebench.core.model import HttpRequest

        if serve is not None:
            self._serve = serve
        return self._serve if serve is not None or any(isinstance(one, HttpRequest) for one in subjects) else None

    def _definitions(
        self, setup: SqlOrCallable | None, invariant: SqlOrCallable | None, *, own: bool, loaded: bool = False
    ) -> tuple[SqlOrCallable, SqlOrCallable]:
        """The setup and the invariant of this call: those given, which are kept, or those of a call before.

        `own`: the call is of the user's own code; a scenario has its own. `loaded`: it is not explored, so that without
        an invariant only errors count.
        """
        if not own:
            return setup or (), invariant or ()
        if setup is not None:
            self._setup = setup
        if invariant is not None:
            self._invariant = invariant
        if self._invariant is None and loaded:
            warnings.warn("racebench: no invariant is given, so only errors are looked for", stacklevel=3)
        return self._setup, self._invariant or ()


def _or_fail(ask: Callable[[], Result]) -> Result:
    """Fail with one line where racebench has one: nothing of its inside helps."""
    __tracebackhide__ = True
    from racebench.core.errors import RacebenchError

    try:
        return ask()
    except RacebenchError as problem:
        from racebench.reports.library_words import in_library_words

        message = in_library_words("\n".join([str(problem), *getattr(problem, "__notes__", ())]))
    pytest.fail(f"racebench: {message}", pytrace=False)


@pytest.fixture(scope="session")
def racebench_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """One server and one schema for the session, which each worker of pytest-xdist has of its own."""
    from racebench.api import Bench

    dsn, superuser = map(request.config.getoption, ("--racebench-dsn", "--racebench-superuser"))
    bench = _or_fail(lambda: Bench(dsn, superuser=superuser))
    with _interruptible():
        try:
            yield bench
        finally:
            from racebench.core.signals import shielded

            with shielded():
                bench.close()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end pytest as Ctrl-C does, and a second signal not interrupt what they make it do.

    The schema is on the user's server. Signals that are handled already, or ignored, are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    from racebench.core.signals import SIGNALS, handled

    unhandled = (signal.SIG_DFL, signal.default_int_handler)
    mine = [number for number in SIGNALS if signal.getsignal(number) in unhandled]
    with handled(KeyboardInterrupt, signals=mine, patience_s=_PATIENCE_S):
        yield


@pytest.fixture(scope="session")
def racebench_dsn(racebench_bench: Bench) -> str:
    """A URI of racebench's schema, in which the application makes its own tables."""
    return _or_fail(lambda: racebench_bench.dsn)


@pytest.fixture
def racebench(request: pytest.FixtureRequest, racebench_bench: Bench) -> Fixture:
    """Explore, replay and hammer; see docs/own-code.md."""
    return Fixture(racebench_bench, width=_width(request.config))


def _width(config: pytest.Config) -> int:
    """The width of a failure's message: that of the terminal, where there is one."""
    if (given := getattr(config, "workerinput", {}).get("racebench_width")) is not None:
        return int(given)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not (reporter.isatty or "COLUMNS" in os.environ):
        return _WIDTH
    return min(max(config.get_terminal_writer().fullwidth - _MARGIN, _NARROWEST), _WIDEST)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist the width of the terminal, which it cannot see."""
    node.workerinput["racebench_width"] = _width(node.config)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Iterator[None]:
    """Have the summary of a failure begin with what was found, in place of the name of the exception."""
    outcome = yield
    results = sys.modules.get("racebench.api.results")
    problem = call.excinfo.value if call.excinfo is not None else None
    if results is not None and isinstance(problem, results.NotClean):
        crash = getattr(outcome.get_result().longrepr, "reprcrash", None)  # type: ignore[attr-defined]
        if crash is not None:
            crash.message = str(problem)
        if problem.document is not None and os.environ.get("GITHUB_ACTIONS") == "true":
            from racebench.reports import annotations

            # A worker of pytest-xdist sends it to the process that has the terminal.
            setattr(outcome.get_result(), _ANNOTATIONS, annotations.lines([problem.document], annotations.OF_TESTS))  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show races in the files that they are in, where GitHub Actions reads what is printed."""
    failed = terminalreporter.stats.get("failed", ())
    commands = [command for report in failed for command in getattr(report, _ANNOTATIONS, ())]
    if not commands:
        return
    from racebench.reports import annotations

    for command in annotations.most(commands):
        terminalreporter.write_line(command)
