"""The pytest fixtures: `racebench` explores and hammers, `racebench_dsn` is where an application finds its tables.

    def test_create_order_is_race_free(racebench):
        racebench.explore(create_order, sessions=2, setup=SCHEMA, invariant="SELECT … HAVING count(*) > 1")
        racebench.hammer(create_order, workers=4, seconds=1).assert_clean()

A setup and an invariant hold for the rest of the test. Nothing but this module is loaded until a test asks for one of
the fixtures.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from racebench.api import Bench, Exploration, Hammering, Replay


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --racebench-dsn."""
    parser.getgroup("racebench").addoption(
        "--racebench-dsn",
        metavar="DSN",
        default=os.environ.get("RACEBENCH_DSN"),
        help="A PostgreSQL server for the racebench fixture, instead of the embedded one (or RACEBENCH_DSN).",
    )


#: What holds for the rest of a test.
_KEPT = ("setup", "invariant")


class Racer:
    """What a test is given: as racebench.api.Bench, but what is found fails the test.

    A setup and an invariant hold for the rest of the test; where there is no invariant, a warning says so.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._given: dict[str, Any] = {}

    @property
    def dsn(self) -> str:
        """See Bench.dsn."""
        return self._bench.dsn

    def explore(self, *subjects: Any, **options: Any) -> Exploration | Replay:
        """Fail unless every order was run and none went wrong, with the shortest witness; see Bench.explore."""
        __tracebackhide__ = True
        options = self._with_those_before(options)
        found: Exploration | Replay = _or_fail(lambda: self._bench.explore(*subjects, **options))
        return found.assert_clean()

    def hammer(self, *subjects: Any, **options: Any) -> Hammering:
        """Press; the result's assert_clean() fails the test. See Bench.hammer."""
        __tracebackhide__ = True
        options = self._with_those_before(options)
        pressed: Hammering = _or_fail(lambda: self._bench.hammer(*subjects, **options))
        return pressed

    def _with_those_before(self, options: dict[str, Any]) -> dict[str, Any]:
        self._given |= {name: options[name] for name in _KEPT if name in options}
        if "invariant" not in self._given:
            warnings.warn("racebench: no invariant is given, so only errors are looked for", stacklevel=3)
        return self._given | options


def _or_fail(ask: Any) -> Any:
    """Fail with one line where racebench has one: nothing of its inside helps."""
    __tracebackhide__ = True
    from racebench.core.errors import RacebenchError

    try:
        return ask()
    except RacebenchError as problem:
        said = "\n".join([str(problem), *getattr(problem, "__notes__", ())])
    pytest.fail(f"racebench: {said}", pytrace=False)


@pytest.fixture(scope="session")
def racebench_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """One server and one schema for the session; the server is shared by pytest-xdist's workers."""
    from racebench.api import Bench

    dsn = request.config.getoption("--racebench-dsn")
    with _terminable(), Bench(dsn, share=os.environ.get("PYTEST_XDIST_TESTRUNUID")) as bench:
        yield bench


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Have SIGTERM end pytest as Ctrl-C does, unless somebody else handles it: the schema is on the user's server."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt("SIGTERM")

    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        if mine and signal.getsignal(signal.SIGTERM) is interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(scope="session")
def racebench_dsn(racebench_bench: Bench) -> str:
    """A URI of racebench's schema, in which the application makes its own tables."""
    return str(_or_fail(lambda: racebench_bench.dsn))


@pytest.fixture
def racebench(racebench_bench: Bench) -> Racer:
    """Explore and hammer; see docs/own-code.md."""
    return Racer(racebench_bench)
