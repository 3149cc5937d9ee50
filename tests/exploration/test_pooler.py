"""Sessions behind a simulated pooler: what goes wrong there, what does not, and whether PgBouncer does the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest
from poolers import needs_pgbouncer, pgbouncer

from conftest import UsersServer
from made_scenario import made
from racebench.core.anomalies import SESSION_LOST
from racebench.core.target import Pooling, Target
from racebench.core.verdict import Verdict
from racebench.exploration import explorer
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.pool import Pool, PoolOptions, refusal
from racebench.exploration.request import ExplorationRequest, judged
from racebench.exploration.result import Exploration
from racebench.exploration.schedules import Step
from racebench.exploration.world import ServerWorld
from waiting import wait_for

NUMBERED = """CREATE TABLE numbers (tenant int, version int);
CREATE VIEW bad AS SELECT tenant, version FROM numbers GROUP BY 1, 2 HAVING count(*) > 1;"""
OWNED = """CREATE TABLE owned (tenant int, owner text, wanted text);
CREATE VIEW bad AS SELECT tenant FROM owned WHERE owner <> wanted;"""
NEXT = "INSERT INTO numbers SELECT :tenant, coalesce(max(version), 0) + 1 FROM numbers WHERE tenant = :tenant;"
SESSION_LOCK = f"SELECT pg_advisory_lock(1);\n{NEXT}\nSELECT pg_advisory_unlock(1);\n"
XACT_LOCK = f"BEGIN;\nSELECT pg_advisory_xact_lock(1);\n{NEXT}\nCOMMIT;\n"
OWN = "INSERT INTO owned VALUES (:tenant, current_setting('app.owner'), :operation::text);"
SET = f"SELECT set_config('app.owner', :operation::text, false);\n{OWN}\n"
SET_LOCAL = f"BEGIN;\nSELECT set_config('app.owner', :operation::text, true);\n{OWN}\nCOMMIT;\n"
TIME_ZONE = """SELECT set_config('TimeZone', CASE WHEN :client_id = 0 THEN 'UTC' ELSE 'Asia/Tokyo' END, false);
INSERT INTO owned
VALUES (:tenant, current_setting('TimeZone'), CASE WHEN :client_id = 0 THEN 'UTC' ELSE 'Asia/Tokyo' END);
"""
PREPARED = "PREPARE mine AS INSERT INTO owned VALUES (1, 'it', 'it');\nEXECUTE mine;\nDEALLOCATE mine;\n"
#: Nothing that outlives it: fails wherever it is.
ALWAYS_REFUSED = "SELECT pg_advisory_lock(1);\nSELECT pg_advisory_unlock(1);\nEXECUTE never_prepared;\n"
#: The second of two sessions is refused, with any server session.
SECOND_REFUSED = """SELECT pg_backend_pid();
SELECT 1 / (1 - count(*)) FROM owned WHERE tenant = :tenant;
INSERT INTO owned VALUES (:tenant, 'it', 'it');
"""
Look = Callable[..., Exploration]


@pytest.fixture
def look(embedded: Target, tmp_path: Path) -> Look:
    def run(script: str, schema: str, pooling: str | None, *, size: int = 2, **more: Any) -> Exploration:
        scenario = made(tmp_path, script=script, schema=schema)
        asked = ExplorationRequest(
            scenario=scenario,
            strategy=scenario.strategies["it"],
            pooler=None if pooling is None else PoolOptions(pooling=Pooling(pooling), size=size),
        )
        return explorer.explore(embedded, judged(replace(asked, **more)))

    return run


# The rule


def test_the_most_recently_used_server_session_is_given_first_and_the_longest_waiting_client_is_served_first() -> None:
    pool = Pool(2)
    assert [pool.take(1), pool.take(2), pool.take(3), pool.take(4)] == [1, 2, None, None]
    assert pool.give(2) == 3
    assert pool.of(3) == 2
    pool.leave(4)
    assert pool.give(1) is None
    assert pool.give(3) is None
    assert pool.idle == (1, 2)
    assert pool.take(1) == 2


def test_another_server_session_is_opened_only_if_none_is_idle() -> None:
    pool = Pool(3)
    for client in (1, 2, 3):
        assert pool.take(client) == 1
        pool.give(client)


# The guilty and the innocent


def test_a_lock_of_the_session_is_no_lock_behind_a_transaction_pooler(look: Look) -> None:
    found = look(SESSION_LOCK, NUMBERED, "transaction", stop_at_first=True)
    assert found.verdict is Verdict.INVALID
    assert found.witness is not None
    assert found.counts["violations"]
    assert {step.backend for step in found.witness.steps} == {1, 2}
    assert found.witness.command is not None
    assert found.witness.command.endswith("--pooler transaction")
    assert found.pooler == PoolOptions(pooling=Pooling.TRANSACTION, size=2)


@pytest.mark.parametrize(
    ("locks", "script"),
    [
        ("CREATE VIEW locked AS SELECT pg_advisory_lock(1)::text;", "SELECT * FROM locked;\n"),
        (
            "CREATE TABLE asked (i int); CREATE RULE r AS ON INSERT TO asked DO INSTEAD SELECT pg_advisory_lock(1);",
            "INSERT INTO asked VALUES (1);\n",
        ),
    ],
)
def test_a_lock_of_the_session_that_the_schema_takes_is_seen(look: Look, locks: str, script: str) -> None:
    found = look(
        f"{script}{NEXT}\nSELECT pg_advisory_unlock(1);\n", f"{NUMBERED}\n{locks}", "transaction", stop_at_first=True
    )
    assert found.verdict is Verdict.INVALID


@pytest.mark.parametrize("pooling", [None, "session"])
def test_a_lock_of_the_session_is_one_directly_and_in_session_mode(look: Look, pooling: str | None) -> None:
    found = look(SESSION_LOCK, NUMBERED, pooling)
    assert found.verdict is Verdict.VALID


def test_a_lock_of_the_transaction_is_one_behind_a_pooler_and_costs_no_more_schedules(look: Look) -> None:
    direct, pooled = (look(XACT_LOCK, NUMBERED, pooling) for pooling in (None, "transaction"))
    assert pooled.verdict is direct.verdict is Verdict.VALID
    assert pooled.run == direct.run


def test_transactions_wait_for_a_pool_that_is_too_small_and_none_is_stuck(look: Look) -> None:
    found = look(XACT_LOCK, NUMBERED, "transaction", size=1, reduce=False)
    assert found.verdict is Verdict.VALID


def test_a_setting_leaks_to_another_client_and_a_local_one_does_not(look: Look) -> None:
    leaked = look(SET, OWNED, "transaction", stop_at_first=True)
    assert leaked.verdict is Verdict.INVALID
    kept = look(SET_LOCAL, OWNED, "transaction")
    assert kept.verdict is Verdict.VALID


def test_pgbouncer_gives_the_time_zone_to_each_client_as_it_has_set_it(look: Look) -> None:
    assert look(TIME_ZONE, OWNED, "transaction", size=1).verdict is Verdict.VALID


def test_a_prepared_statement_that_is_another_sessions_is_an_anomaly_and_one_that_never_was_is_none(look: Look) -> None:
    lost = look(PREPARED, OWNED, "statement", stop_at_first=True)
    assert lost.verdict is Verdict.INVALID
    assert lost.counts[SESSION_LOST]
    codes = {session.sqlstate for outcome in lost.outcomes for session in outcome.sessions}
    assert codes & {"26000", "42P05"}
    own_fault = look(ALWAYS_REFUSED, OWNED, "transaction", max_schedules=20)
    assert not own_fault.counts[SESSION_LOST]
    assert not own_fault.anomalous


def test_a_row_that_is_refused_for_another_clients_setting_is_an_anomaly(look: Look) -> None:
    schema = OWNED.replace("wanted text", "wanted text, CHECK (wanted = current_setting('app.owner'))")
    lost = look(SET, schema, "transaction", stop_at_first=True)
    assert lost.counts[SESSION_LOST]
    assert "23514" in {session.sqlstate for outcome in lost.outcomes for session in outcome.sessions}
    assert not look(SET_LOCAL, schema, "transaction", max_schedules=10).anomalous


def test_an_error_that_the_sessions_have_one_after_the_other_is_not_the_poolers(look: Look) -> None:
    found = look(SECOND_REFUSED, OWNED, "transaction", size=1, max_schedules=10)
    assert "22012" in {session.sqlstate for outcome in found.outcomes for session in outcome.sessions}
    assert not found.counts[SESSION_LOST]


def test_an_operation_that_waits_for_ever_for_an_idle_server_session_is_an_anomaly(
    embedded: Target, tmp_path: Path
) -> None:
    # Both lock on server session 1 and unlock on 2: the lock stays, and s1, on 2, then waits for it.
    script = (
        "SELECT pg_advisory_lock(1);\nBEGIN;\nSELECT 1;\nCOMMIT;\nSELECT pg_advisory_unlock(1);\n"
        "BEGIN;\nSELECT pg_advisory_xact_lock(1);\nCOMMIT;\n"
    )
    scenario = made(tmp_path, script=script, schema=NUMBERED)
    pooler = PoolOptions(pooling=Pooling.TRANSACTION, size=2)
    asked = ExplorationRequest(scenario=scenario, strategy=scenario.strategies["it"], reduce=False, pooler=pooler)
    both = [1, 1, 1, 2, 2, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 2, 2, 2, 1, 1, 2, 2, 2]
    found = explorer.replay(embedded, judged(asked), both)
    assert found.anomalies == {SESSION_LOST: 1}
    assert found.steps[19].waits_for == ("idle server session 1",)
    assert found.steps[19].backend == 2
    assert found.outcome is not None
    assert sorted(one.outcome for one in found.outcome.sessions) == ["OK", "UNKNOWN"]
    # Unlocked where it was locked, nobody waits for ever.
    one_by_one = explorer.replay(embedded, judged(asked), [1] * 12 + [2] * 12)
    assert not one_by_one.anomalies


def test_a_transaction_block_is_refused_in_statement_mode_and_a_statement_is_not(tmp_path: Path) -> None:
    block = made(tmp_path, script=XACT_LOCK, schema=NUMBERED).strategies["it"]
    assert "transaction block" in refusal(Pooling.STATEMENT, block)
    assert not refusal(Pooling.TRANSACTION, block)
    alone = made(tmp_path, script=SESSION_LOCK, schema=NUMBERED).strategies["it"]
    assert not refusal(Pooling.STATEMENT, alone)


# PgBouncer itself


def _marked(number: int) -> str:
    return (
        "BEGIN;\nSELECT pg_backend_pid() AS pid, coalesce(current_setting('app.mark', true), '') AS mark,"
        f" set_config('app.mark', (:client_id)::text || '-{number}', false) AS now;\nCOMMIT;\n"
    )


def _indexes(answers: Sequence[tuple[str, str, str]]) -> list[tuple[str, int, str]]:
    """Of each answer the session, the place of its backend in the order in which they first occurred, and the mark."""
    first = list(dict.fromkeys(pid for _, pid, _ in answers))
    return [(session, first.index(pid) + 1, mark) for session, pid, mark in answers]


def _simulated(steps: Sequence[Step]) -> list[tuple[str, str, str]]:
    """The session, the backend and the mark of each answer with a row, in the order in which they came."""
    answers = [
        (session, text)
        for step in steps
        for session, texts in ((step.session, step.answered), *step.went_on)
        for text in texts
        if text.startswith("pid = ")
    ]
    found = [(session, re.match(r"pid = (\d+), mark = (\S*), now", text)) for session, text in answers]
    return [(session, match[1], match[2]) for session, match in found if match is not None]


def _answer(client: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """The backend and the mark, if what a client had sent returns a row."""
    wait_for(lambda: client.pgconn.consume_input() or not client.pgconn.is_busy(), "the pooler does not answer")
    rows = []
    while (result := client.pgconn.get_result()) is not None:
        if result.ntuples:
            rows.append(((result.get_value(0, 0) or b"").decode(), (result.get_value(0, 1) or b"").decode()))
    return rows


@needs_pgbouncer
@pytest.mark.parametrize("size", [2, 3])
def test_pgbouncer_gives_its_clients_the_same_server_sessions(
    embedded: Target, users_server: UsersServer, tmp_path: Path, size: int
) -> None:
    scenario = made(tmp_path, script="".join(map(_marked, range(4))), schema=NUMBERED)
    request = ExplorationRequest(
        scenario=scenario,
        strategy=scenario.strategies["it"],
        sessions=3,
        reduce=False,
        pooler=PoolOptions(pooling=Pooling.TRANSACTION, size=size),
    )
    results: list[ScheduleResult] = []
    with ServerWorld(embedded, request, results.append) as world:
        random = Random(size)
        world.follow_as_far_as_it_goes([random.randint(1, 3) for _ in range(60)])
        steps = world.follow(results[-1].schedule)
    assert any(step.waits_for for step in steps) == (size < 3)
    answers: list[tuple[str, str, str]] = []
    with pgbouncer(users_server, "transaction", default_pool_size=size) as dsn, ExitStack() as stack:
        clients = {f"s{n}": stack.enter_context(psycopg.connect(dsn, autocommit=True)) for n in (1, 2, 3)}
        for step in steps:
            clients[step.session].pgconn.send_query(step.literal.encode())
            answered = [*([] if step.waits_for else [step.session]), *(session for session, _ in step.went_on)]
            for session in answered:
                answers += [(session, *row) for row in _answer(clients[session])]
    assert len(answers) == 12
    assert _indexes(answers) == _indexes(_simulated(steps))


# What is left out loses nothing

_SET = "SELECT set_config('app.owner', :operation::text, false);\n"
_READ = "SELECT count(*) FROM owned WHERE owner = current_setting('app.owner', true) AND tenant = :tenant;\n"
_BLOCK = f"BEGIN;\n{OWN}\nCOMMIT;\n"
_PARTS = (_SET, "RESET app.owner;\n", "SELECT pg_advisory_lock(1);\n", "SELECT pg_advisory_unlock_all();\n", _BLOCK)


@pytest.mark.parametrize(
    ("script", "size"),
    [
        (_SET + _READ, 2),
        (_BLOCK + _READ, 2),
        ("".join(Random(1).choices(_PARTS, k=2)), 1),
        ("".join(Random(2).choices(_PARTS, k=2)) + "SELECT pg_advisory_unlock_all();\n", 1),
    ],
)
def test_scripts_have_the_same_outcomes_with_and_without_reduction(look: Look, script: str, size: int) -> None:
    every, reduced = (look(script, OWNED, "transaction", size=size, reduce=reduce) for reduce in (False, True))
    assert every.complete
    assert reduced.complete
    assert set(every.outcomes) == set(reduced.outcomes)
    assert reduced.run <= every.run
