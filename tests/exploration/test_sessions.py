"""Kinds of sessions, and what an interception of psycopg leaves behind."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import psycopg
from psycopg import generators

from racebench.exploration.isolation import FreshTenants
from racebench.exploration.sessions import KINDS, kind_of
from racebench.exploration.sessions.interception import Interception
from racebench.exploration.sessions.python import PythonSessions
from racebench.exploration.sessions.script import ScriptSessions
from racebench.workloads import ad_hoc, catalog


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
    connections = (psycopg.Connection.wait, psycopg.Connection.close, psycopg.AsyncConnection.wait)
    return (*connections, generators.connect, time.sleep, os._exit)


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
        thread = first.thread("s1")
        started = time.monotonic()
        thread.call(lambda: time.sleep(60))  # a session's thread does not sleep
        finished = thread.next()
        assert time.monotonic() - started < 30
        thread.close()
    assert finished == type(finished)(None)
    assert first.unscheduled() == second.unscheduled() == ""


def test_a_scenario_that_runs_once_has_a_tenant_for_one_schedule() -> None:
    isolation = FreshTenants(1)
    assert [isolation.renew(), isolation.renew()] == [True, False]
