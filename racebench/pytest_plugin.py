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
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from typing import Unpack

    from racebench.api import Bench, Comparison, Exploration, Hammering, Replay
    from racebench.api.options import (
        CompareOptions,
        ExploreOptions,
        HammerOptions,
        ReplayOptions,
        SqlOrCallable,
        Subject,
    )

Result = TypeVar("Result")
#: How long pytest may take to end after a signal before another one counts, in seconds.
_PATIENCE_S = 10.0


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

    With `check=False` the result is returned whatever it is; its assert_clean() fails the test later. A setup and an
    invariant hold for the rest of the test; where there is no invariant, a warning says so.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._setup: SqlOrCallable = ()
        self._invariant: SqlOrCallable | None = None

    @property
    def dsn(self) -> str:
        """See Bench.dsn."""
        return self._bench.dsn

    def explore(self, *subjects: Subject, check: bool = True, **options: Unpack[ExploreOptions]) -> Exploration:
        """Fail with the shortest witness unless every schedule was run and none goes wrong; see Bench.explore."""
        __tracebackhide__ = True
        if options.get("strategy") is None:  # a scenario has its own setup and invariants
            options["setup"], options["invariant"] = self._definitions(options.get("setup"), options.get("invariant"))
        exploration = _or_fail(lambda: self._bench.explore(*subjects, **options))
        return exploration.assert_clean() if check else exploration

    def replay(self, *subjects: Subject, schedule: str, check: bool = True, **options: Unpack[ReplayOptions]) -> Replay:
        """Fail with what happened if the schedule goes wrong; see Bench.replay."""
        __tracebackhide__ = True
        if subjects:
            options["setup"], options["invariant"] = self._definitions(options.get("setup"), options.get("invariant"))
        replay = _or_fail(lambda: self._bench.replay(*subjects, schedule=schedule, **options))
        return replay.assert_clean() if check else replay

    def hammer(self, *subjects: Subject, check: bool = True, **options: Unpack[HammerOptions]) -> Hammering:
        """Run under load; fail with the report unless the verdict is VALID. See Bench.hammer."""
        __tracebackhide__ = True
        if options.get("strategy") is None:
            options["setup"], options["invariant"] = self._definitions(options.get("setup"), options.get("invariant"))
        hammering = _or_fail(lambda: self._bench.hammer(*subjects, **options))
        return hammering.assert_clean() if check else hammering

    def compare(self, *subjects: Subject, check: bool = True, **options: Unpack[CompareOptions]) -> Comparison:
        """Compare strategies; fail with the report unless the verdict of each is VALID. See Bench.compare."""
        __tracebackhide__ = True
        if options.get("strategies") is None:
            options["setup"], options["invariant"] = self._definitions(options.get("setup"), options.get("invariant"))
        comparison = _or_fail(lambda: self._bench.compare(*subjects, **options))
        return comparison.assert_clean() if check else comparison

    def _definitions(
        self, setup: SqlOrCallable | None, invariant: SqlOrCallable | None
    ) -> tuple[SqlOrCallable, SqlOrCallable]:
        """The setup and the invariant of this call: those given, which are kept, or those of a call before."""
        if setup is not None:
            self._setup = setup
        if invariant is not None:
            self._invariant = invariant
        if self._invariant is None:
            warnings.warn("racebench: no invariant is given, so only errors are looked for", stacklevel=3)
            return self._setup, ()
        return self._setup, self._invariant


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
    """One server and one schema for the session; the server is shared by pytest-xdist's workers."""
    from racebench.api import Bench

    dsn, superuser = map(request.config.getoption, ("--racebench-dsn", "--racebench-superuser"))
    bench = _or_fail(lambda: Bench(dsn, share=os.environ.get("PYTEST_XDIST_TESTRUNUID"), superuser=superuser))
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
def racebench(racebench_bench: Bench) -> Fixture:
    """Explore, replay and hammer; see docs/own-code.md."""
    return Fixture(racebench_bench)
