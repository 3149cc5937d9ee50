"""Backends that outlive the connections of calls: used again, with nothing of the call before in them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from psycopg import pq

import applications as app
from racebench.api import Bench, Exploration, Search
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration.sessions.backends import Backends
from racebench.postgres.connection import connect
from waiting import wait_for

NUMBERED = "SELECT number FROM orders"


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    with Bench() as made:
        yield made


def explored(bench: Bench, *subjects: Any, **options: Any) -> Exploration:
    found = bench.explore(*subjects, **{"setup": app.SCHEMA, "invariant": NUMBERED, **options})
    assert isinstance(found, Exploration)
    return found


def test_a_backend_is_used_again_and_nothing_of_the_call_before_is_left_in_it(bench: Bench) -> None:
    seen: list[tuple[int, tuple[Any, ...]]] = []
    found = explored(bench, partial(app.leaves_nothing, seen), max_schedules=10)
    assert found.anomalous == 0
    assert len(seen) >= 20
    assert {what for _, what in seen} == {(seen[0][1][0], True, 0, 0, 0)}
    assert seen[0][1][0] != "1MB"
    assert len({pid for pid, _ in seen}) == 2  # one for each session


def test_what_was_not_committed_before_closing_is_rolled_back(bench: Bench) -> None:
    assert explored(bench, app.closes_without_commit).verdict is Verdict.VALID


def test_a_closed_connection_is_closed(bench: Bench) -> None:
    assert explored(bench, app.goes_on_after_closing).verdict is Verdict.VALID


def test_after_exploring_connections_are_opened_and_closed_as_ever(bench: Bench) -> None:
    explored(bench, app.goes_on_after_closing)
    with connect(bench._up()) as connection:
        pgconn = connection.pgconn
    assert connection.pgconn is pgconn
    assert pgconn.status == pq.ConnStatus.BAD


def test_a_backend_that_was_ended_is_not_given_again(embedded: Target) -> None:
    backends, watcher = Backends(), connect(embedded)
    try:
        connections = [connect(embedded) for _ in range(2)]
        pids = [each.info.backend_pid for each in connections]
        for each in connections:
            backends.opened(each.pgconn, "alike")
            assert backends.keep(each)
            assert each.closed
        watcher.execute("SELECT pg_terminate_backend(%s)", (pids[1],))
        wait_for(lambda: watcher.execute(_ALIVE, (pids[1],)).fetchone() is None, "the backend did not end")
        assert backends.take("unlike") is None
        found = backends.take("alike")
        assert found is not None
        assert found.backend_pid == pids[0]
        assert backends.take("alike") is None
        found.finish()
    finally:
        backends.close()
        watcher.close()


_ALIVE = "SELECT FROM pg_stat_activity WHERE pid = %s"


@pytest.mark.parametrize("state", ["a transaction", "a pool's", "another's"])
def test_what_is_not_at_rest_or_not_ours_ends_as_it_would(embedded: Target, state: str) -> None:
    backends = Backends()
    with connect(embedded) as connection:
        if state != "another's":
            backends.opened(connection.pgconn, "alike")
        if state == "a transaction":
            connection.execute("BEGIN")
        if state == "a pool's":
            connection._pool = object()  # type: ignore[assignment]  # as psycopg_pool sets it
        assert not backends.keep(connection)
        assert not connection.closed
        assert backends.take("alike") is None
        if state == "a pool's":
            del connection._pool


def test_a_rollback_after_an_error_is_a_step_if_there_was_a_savepoint(bench: Bench) -> None:
    """Without one the error has let go of everything; with one, what is held from before it is only let go of now."""
    found = {
        reduce: explored(bench, app.fails_after_a_savepoint, app.looks_between, search=Search(reduce=reduce))
        for reduce in (True, False)
    }
    outcomes = {reduce: set(each.result.outcomes) for reduce, each in found.items()}
    assert outcomes[True] == outcomes[False]
    assert "Seen" in str(outcomes[True])


def test_orders_that_differ_in_when_an_aborted_transaction_ends_are_run_once(bench: Bench) -> None:
    found = explored(bench, app.create_order_again_and_again, sessions=3, setup=app.UNIQUE, invariant=app.TWINS)
    assert (found.verdict, found.complete) == (Verdict.VALID, True)
    assert found.run < 400  # 1,008 if the ROLLBACK after a refusal depended on anything
