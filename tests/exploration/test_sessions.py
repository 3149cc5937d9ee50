"""Kinds of sessions, and what an interception of psycopg leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from psycopg import generators

from racebench.core.anomalies import ANOMALIES
from racebench.core.errors import DatabaseProblem
from racebench.core.model import Call, Outcome, Script
from racebench.exploration import kernel_threads
from racebench.exploration.draws import Draws
from racebench.exploration.isolation import FreshTenants, Ground
from racebench.exploration.outcome import COUNTED
from racebench.exploration.sessions import KINDS, kind_of, python, rest
from racebench.exploration.sessions.callable_session import PythonSession
from racebench.exploration.sessions.interception import Interception
from racebench.exploration.sessions.python import PythonSessions
from racebench.exploration.sessions.round_trips import line_that_waits
from racebench.exploration.sessions.script import ScriptSession, ScriptSessions
from racebench.workloads import ad_hoc, catalog

if TYPE_CHECKING:
    from racebench.exploration.sessions.connections import Connections


def test_every_strategy_has_exactly_one_kind_of_session() -> None:
    calls = ad_hoc.from_calls(["shop:create_order", "shop:pay"], setup=(), invariants=())
    scenarios = [*catalog.shipped(), calls]
    for scenario in scenarios:
        for strategy in scenario.strategies.values():
            assert sum(kind.runs(strategy) for kind in KINDS) == 1, (scenario.name, strategy.name)
    (python,) = calls.strategies.values()
    script = catalog.find_scenario("version-counter").strategies["naive"]
    assert isinstance(kind_of(python), PythonSessions)
    assert isinstance(kind_of(script), ScriptSessions)


def _patched() -> tuple[Any, ...]:
    connections = (psycopg.Connection.wait, psycopg.Connection.close, psycopg.Cursor.executemany)
    asynchronous = (psycopg.AsyncConnection.wait, psycopg.AsyncConnection.close, psycopg.AsyncCursor.executemany)
    helpers = (ThreadPoolExecutor.submit, asyncio.BaseEventLoop.time)
    drawing = (random.random, random.Random.seed, random.SystemRandom.random, os.urandom, time.time, time.monotonic)
    return (*connections, *asynchronous, *helpers, generators.connect, time.sleep, os._exit, *drawing)


def test_an_interception_replaces_functions_and_restores_them_after_an_error() -> None:
    before = during = _patched()
    with contextlib.suppress(ZeroDivisionError), Interception().installed():
        during = _patched()
        raise ZeroDivisionError
    assert not set(before) & set(during)
    assert _patched() == before


def test_a_thread_belongs_to_the_interception_that_started_it() -> None:
    first, second = Interception(), Interception()
    with first.installed():
        thread = first.thread(1)
        started = time.monotonic()
        thread.call(lambda: time.sleep(60))  # a session's thread does not sleep
        finished = thread.next()
        assert time.monotonic() - started < 30
        thread.close()
    assert finished == type(finished)(None)
    assert first.unscheduled() == second.unscheduled() == ""


def test_threads_are_at_rest_when_none_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "_LIMIT_S", 60.0)
    counted: list[int] = []
    release = threading.Event()

    def busy() -> None:
        counted.append(sum(range(200_000)))
        release.wait()

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    rest.Rest().awaited(lambda: threads)
    assert len(counted) == 2
    release.set()
    for thread in threads:
        thread.join()


def test_a_running_thread_is_not_at_rest_where_the_kernel_does_not_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    monkeypatch.setattr(kernel_threads, "available", lambda: False)
    monkeypatch.setattr(rest, "_sleep", paused.append)
    rest.Rest().awaited(lambda: [threading.current_thread()])
    assert paused == [rest._LONG_PAUSE_S]


def _defined(module: str, name: str) -> Callable[[Callable[[], Any]], Any]:
    """A function as of a library, which calls what it is given."""
    namespace: dict[str, Any] = {"__name__": module}
    exec(f"def {name}(function):\n    return function()", namespace)
    called: Callable[[Callable[[], Any]], Any] = namespace[name]
    return called


def test_a_thread_that_waits_for_a_driver_is_told_from_a_pools_and_from_a_listener() -> None:
    execute, listen = _defined("psycopg.connection", "execute"), _defined("psycopg.connection", "notifies")
    worker, scheduler = _defined("psycopg_pool.pool", "worker"), _defined("psycopg_pool.sched", "run")

    def waits(function: Callable[[Callable[[], Any]], Any]) -> str | None:
        return cast("str | None", function(lambda: line_that_waits(sys._getframe(1))))

    assert "test_sessions.py:" in str(waits(execute))
    assert waits(listen) is None
    assert worker(lambda: waits(execute)) is None  # what the application has the pool do with a new connection
    assert waits(scheduler) is None


def test_nothing_watches_a_thread_that_goes_on_after_the_exploration() -> None:
    go_on, profiles = threading.Event(), list[object]()

    def goes_on() -> None:
        go_on.wait()
        profiles.append(sys.getprofile())

    helpers = [threading.Thread(target=goes_on)]
    interception = Interception()
    with interception.installed():
        session = interception.thread(1)
        session.free = True
        session.call(helpers[0].start)
        session.next()
        session.close()
    go_on.set()
    helpers[0].join()
    assert profiles == [None]


def test_a_scenario_that_runs_once_has_a_tenant_for_one_schedule() -> None:
    nothing = Ground(
        connection=cast("psycopg.Connection[Any]", None),
        schema="s",
        sessions=(),
        exclusive=False,
        remake=None,
        expected={},
    )
    isolation = FreshTenants(1, nothing)
    assert [isolation.renew(), isolation.renew()] == [True, False]


def test_the_kinds_that_a_schedule_may_show_are_those_that_are_counted() -> None:
    """A kind that is not counted would be 0 in every schedule, and a strategy that has it would be proved VALID."""
    assert {kind.name for kind in ANOMALIES.values() if kind.explored} == COUNTED


def test_a_kind_says_which_callable_each_session_runs() -> None:
    (calls,) = ad_hoc.from_calls(["shop:create_order", "shop:pay"], setup=(), invariants=()).strategies.values()
    naive = catalog.find_scenario("version-counter").strategies["naive"]
    expected = {"s1": "shop:create_order", "s2": "shop:pay", "s3": "shop:create_order"}
    assert kind_of(calls).callables(calls, 3) == expected
    assert kind_of(naive).callables(naive, 3) == {}


def _refuse_connection() -> psycopg.Connection[Any]:
    raise psycopg.OperationalError("too many clients already")


def _session(number: int, connect: Callable[[], psycopg.Connection[Any]] = _refuse_connection) -> PythonSession:
    call = Call(module="shop", name="create_order", takes_connection=connect is not _refuse_connection)
    unused = cast("Connections", None)
    return PythonSession(number, call, Interception(), unused, connect)


def test_a_session_that_cannot_connect_leaves_no_thread() -> None:
    call = Call(module="shop", name="create_order", takes_connection=True)
    with pytest.raises(psycopg.OperationalError, match="too many clients"):
        PythonSession(8, call, Interception(), cast("Connections", None), _refuse_connection)
    assert "racebench s8" not in [thread.name for thread in threading.enumerate()]


def test_all_sessions_are_closed_although_one_cannot_be() -> None:
    class Lost:
        closed = False

        def close(self) -> None:
            raise psycopg.OperationalError("the server is gone")

    sessions = [_session(7, lambda: cast("psycopg.Connection[Any]", Lost())), _session(9)]
    with pytest.raises(psycopg.OperationalError, match="the server is gone"):
        python._close_all(sessions)
    left = [thread.name for thread in threading.enumerate()]
    assert "racebench s7" not in left
    assert "racebench s9" not in left


class _LostInRollback:
    """A server session whose statement is refused, and whose connection is lost in the ROLLBACK after that."""

    script = Script(path=Path("it.sql"), text="", steps=())
    sqlstate, message, alive = "23505", "duplicate key", True

    def reseed(self, _seed: str) -> None:
        """Nothing is drawn."""

    def steps(self, _variables: object) -> Iterator[None]:
        yield from ()
        return Outcome.FAIL  # type: ignore[return-value]

    def rolling_back(self) -> Iterator[None]:
        yield from ()
        self.alive = False


def test_a_connection_that_is_lost_in_a_rollback_is_an_error_and_no_refusal() -> None:
    naive = catalog.find_scenario("version-counter").strategies["naive"]
    session = ScriptSession(1, naive, lambda _: cast("Any", _LostInRollback()), cast("Any", None), Draws(), {})
    with pytest.raises(DatabaseProblem, match=r"s1 lost its connection in the rollback after .*\(08006\)"):
        session.start(1, 1)
