"""Sessions behind a pooler that can never go on, and those that a client, a time limit or the server lets go on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from racebench.core.injection import parse_all
from racebench.core.model import Call, Load, Retry, Strategy
from racebench.core.target import Pooling, Target
from racebench.core.watching import Patience
from racebench.load.stalls import Stalls
from racebench.load.waits import quiet_before_endless
from racebench.postgres.connection import connect
from racebench.postgres.waits import wait_for_idle, without_end
from racebench.workloads import scripts
from waiting import wait_for

LOAD = Load(workers=2, duration_s=None, operations=10, think_us=1_000, hold_us=2_000)
LOCKS = "SELECT pg_advisory_lock(1);\n\\sleep :think us\nSELECT pg_advisory_unlock(1);\n"
NAME = "racebench endless worker"
#: A session: its pid, whether it is idle, whom it waits for, and whether it is as it was for long enough.
Row = tuple[int, bool, Sequence[int], bool]
HOLDER: Row = (1, True, [], True)


@pytest.mark.parametrize(
    ("rows", "endless"),
    [
        ([HOLDER, (2, False, [1], True)], True),
        ([HOLDER, (2, False, [1], True), (3, False, [2], True)], True),
        ([HOLDER], False),
        ([HOLDER, (2, False, [], True)], False),
        ([HOLDER, (2, False, [1], True), (3, False, [], True)], False),
        ([HOLDER, (2, False, [9], True)], False),
        ([HOLDER, (2, False, [3], True), (3, False, [2], True)], False),
        ([HOLDER, (2, False, [1], False)], False),
        ([(1, True, [], False), (2, False, [1], True)], False),
        ([], False),
    ],
    ids=[
        "it waits for an idle session",
        "another one waits for it",
        "none waits",
        "it works, or its client is in a transaction",
        "another one works",
        "a session of another program has the lock",
        "the server ends a deadlock",
        "it has waited for a moment only",
        "the idle session was used a moment ago",
        "no session is there",
    ],
)
def test_sessions_wait_without_an_end_if_idle_ones_alone_are_in_their_way(rows: list[Row], endless: bool) -> None:
    assert without_end(rows) is endless


def test_the_server_says_which_sessions_are_idle_and_in_the_way(embedded: Target) -> None:
    with ExitStack() as stack:
        holder, waiter = (stack.enter_context(closing(connect(embedded, application_name=NAME))) for _ in range(2))
        holder.execute("SELECT pg_advisory_lock(4712)")
        waiter.pgconn.send_query(b"SELECT pg_advisory_lock(4712)")
        wait_for(lambda: wait_for_idle(embedded, NAME, quiet_s=0.0), "a wait for an idle session")
        assert not wait_for_idle(embedded, NAME, quiet_s=3600.0)
        other = stack.enter_context(closing(connect(embedded)))
        other.execute("CREATE FUNCTION pg_temp.limited() RETURNS void LANGUAGE sql SET lock_timeout = '1h' AS ''")
        assert not wait_for_idle(embedded, NAME, quiet_s=0.0), "a time limit may end the wait"
        other.execute("DROP FUNCTION pg_temp.limited()")
        assert wait_for_idle(embedded, NAME, quiet_s=0.0)
        holder.execute("SET application_name = 'another program'")
        assert not wait_for_idle(embedded, NAME, quiet_s=0.0), "another program may release the lock"


def quiet(text: str, mode: Pooling | None = Pooling.TRANSACTION, load: Load = LOAD, **more: Any) -> float | None:
    script = scripts.parse(text, Path("it.sql"))
    target = Target(kind="embedded", parameters={}, label="", pooler=mode)
    return quiet_before_endless(target, Strategy(name="it", summary="", script=script, **more), load)


def test_a_script_behind_a_pooler_that_shares_sessions_may_wait_without_an_end() -> None:
    assert quiet(LOCKS) == quiet(LOCKS, Pooling.STATEMENT) == 2.003
    assert quiet(LOCKS.replace(":think us", "3 s")) == 5.003
    assert quiet(LOCKS, retry=Retry(sqlstates=frozenset({"40001"}), backoff_ms=125)) == pytest.approx(4.003)


@pytest.mark.parametrize("mode", [None, Pooling.SESSION])
def test_a_client_that_keeps_its_session_of_the_server_releases_what_it_has_locked(mode: Pooling | None) -> None:
    assert quiet(LOCKS, mode) is None


def test_what_may_end_a_wait_leaves_it_to_the_limit_of_the_run() -> None:
    assert quiet("SET lock_timeout = '10s';\n" + LOCKS) is None
    assert quiet("\\set pause random(1, 100)\n" + LOCKS.replace(":think", ":pause")) is None
    assert quiet(LOCKS, load=replace(LOAD, faults=parse_all(["cut-before-commit:1%"]))) is None
    assert quiet(LOCKS, calls=(Call(module="it", name="it"),)) is None


def test_it_is_asked_when_a_stall_is_said_and_again_after_some_seconds() -> None:
    run = Stalls(LOAD, Patience(), 100.0)
    run.look(1, 101.0)
    assert not run.may_ask(105.9)
    assert run.may_ask(106.1)
    assert not run.may_ask(111.0)
    assert run.may_ask(111.2)
    run.look(2, 112.0)
    assert not run.may_ask(117.0)
    assert run.may_ask(117.1)
