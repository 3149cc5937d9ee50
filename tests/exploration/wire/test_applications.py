"""Programs and services are explored through the gate as they are, with the counts of the same code in process."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.model import HttpRequest, Instances, Program, Service
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration import explorer
from racebench.exploration.request import ExplorationRequest, judged
from racebench.exploration.result import Exploration, Unseen
from racebench.exploration.wire import actors
from racebench.workloads import ad_hoc, addresses
from racebench.workloads.services import RunningService, free_port

SHOP = (sys.executable, str(Path(__file__).with_name("shop.py")))
ORDERS = "CREATE TABLE orders (id serial PRIMARY KEY, number int NOT NULL); CREATE TABLE jobs (id int)"
UNIQUE = ORDERS.replace("number int NOT NULL", "number int NOT NULL UNIQUE")
STAMPED = ORDERS.replace("number int NOT NULL", "number int NOT NULL, at timestamptz DEFAULT now()")
DUPLICATES = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"
SERVICE = Service(command=(*SHOP, "{port}"), instances=Instances.EACH)
SHARED = replace(SERVICE, instances=Instances.SHARED)


def request(how: str) -> HttpRequest:
    return HttpRequest(method="POST", path=how if how.startswith("/") else f"/orders?how={how}")


def explored(
    target: Target, *ways: str, service: Service = SERVICE, setup: str = ORDERS, reduce: bool = False, **options: Any
) -> Exploration:
    scenario = ad_hoc.from_requests([request(how) for how in ways], service, setup=[setup], invariants=[DUPLICATES])
    return _explored(target, scenario, reduce=reduce, **options)


def _explored(target: Target, scenario: Any, *, reduce: bool, sessions: int = 2, compared: bool = True) -> Exploration:
    strategy = next(iter(scenario.strategies.values()))
    wanted = ExplorationRequest(
        scenario=scenario, strategy=strategy, sessions=sessions, reduce=reduce, budget_s=math.inf
    )
    request_ = judged(wanted)
    return explorer.explore(target, request_ if compared else replace(request_, oracle=None))


def counts(exploration: Exploration) -> tuple[int, int]:
    """The schedules, and those that are wrong."""
    return exploration.run, exploration.anomalous


@pytest.mark.parametrize(
    ("how", "setup", "schedules", "verdict"),
    [
        ("", ORDERS, 20, Verdict.INVALID),
        ("auto", ORDERS, 20, Verdict.INVALID),
        ("lock", ORDERS, 8, Verdict.VALID),
        ("auto-retry", UNIQUE, 14, Verdict.VALID),
        ("after", ORDERS, 20, Verdict.INVALID),
        ("lock", STAMPED, 36, Verdict.VALID),  # BEGIN is a step where now() is asked
    ],
)
def test_a_service_has_the_schedules_of_the_same_code_in_process(
    embedded: Target, how: str, setup: str, schedules: int, verdict: Verdict
) -> None:
    exploration = explored(embedded, how, setup=setup)
    assert (exploration.run, exploration.verdict) == (schedules, verdict)
    assert (exploration.anomalous > 0) == (verdict is Verdict.INVALID)


@pytest.mark.parametrize(("how", "verdict"), [("", Verdict.INVALID), ("lock", Verdict.VALID)])
def test_a_reduced_search_comes_to_the_same(embedded: Target, how: str, verdict: Verdict) -> None:
    exploration = explored(embedded, how, reduce=True)
    assert exploration.verdict is verdict
    assert exploration.run < 10


def test_a_program_is_a_session_of_its_own_also_behind_a_shell_that_sleeps(embedded: Target) -> None:
    words = ("sh", "-c", f"sleep 0.1; {SHOP[0]} {SHOP[1]} lock")
    scenario = ad_hoc.from_programs([Program(words=words)], setup=[ORDERS], invariants=[DUPLICATES])
    exploration = _explored(embedded, scenario, reduce=True, compared=False)
    assert exploration.verdict is Verdict.VALID
    assert exploration.run < 8


def test_a_connection_that_the_server_refuses_is_not_waited_for(embedded: Target) -> None:
    code = """
import os, psycopg
try:
    psycopg.connect(os.environ["DATABASE_URL"], dbname="absent")
except psycopg.OperationalError:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("INSERT INTO jobs VALUES (1)")
"""
    scenario = ad_hoc.from_programs([Program(words=(sys.executable, "-c", code))], setup=[ORDERS], invariants=[])
    assert _explored(embedded, scenario, reduce=True, compared=False).verdict is Verdict.VALID


def test_what_one_process_hides_is_found_between_two(embedded: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = explored(embedded, "mutex", service=SHARED)
    assert (shared.run, shared.verdict) == (1, Verdict.VALID)
    assert any("one instance of the service" in note for note in shared.notes)
    each = explored(embedded, "mutex")
    assert (each.run, each.verdict) == (20, Verdict.INVALID)
    monkeypatch.setenv("POOL", "1")
    assert explored(embedded, "", service=SHARED).run == 1


def test_either_of_two_requests_behind_one_lock_may_come_first(embedded: Target) -> None:
    exploration = explored(embedded, "mutex", "mutex-lock", service=SHARED)
    assert (exploration.run, exploration.verdict) == (2, Verdict.VALID)


def test_requests_that_share_a_pool_are_told_apart(embedded: Target) -> None:
    """The pool has two connections: of three requests the last one begins when the first has ended."""
    # One of two is first; the other waits for its lock from one of 3 places on, and the last from one of 4, or both
    # begin after it: 2 x (3 x 4 + 2 x 4).
    assert counts(explored(embedded, "lock", service=SHARED, sessions=3)) == (40, 0)
    raced = explored(embedded, "", service=SHARED, sessions=3, reduce=True)
    assert raced.verdict is Verdict.INVALID
    assert {len(outcome.sessions) for outcome in raced.outcomes} == {3}


def test_a_poller_is_named_and_passes(embedded: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLLS", "SELECT count(*) FROM jobs")
    exploration = explored(embedded, "lock")
    assert (exploration.run, exploration.verdict) == (8, Verdict.VALID)
    assert any("'SELECT count(*) FROM jobs' by itself" in note for note in exploration.notes)
    monkeypatch.setenv("POLLS", "SELECT coalesce(max(number), 0) + 1 FROM orders")
    exploration = explored(embedded, "lock")  # there the same statement is in a transaction with the lock
    assert (exploration.run, exploration.verdict) == (8, Verdict.VALID)
    mixed_up = explored(embedded, "auto-retry", setup=UNIQUE, reduce=True)
    assert (mixed_up.verdict, mixed_up.unseen) == (Verdict.UNKNOWN, Unseen.ATTRIBUTION)
    assert any("both in an operation and by itself" in note for note in mixed_up.notes)


def test_a_poller_that_prepares_its_statement_each_time_is_named(
    embedded: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLLS", "SELECT count(*) FROM jobs")
    monkeypatch.setenv("POLLS_ANEW", "1")
    exploration = explored(embedded, "lock")
    assert (exploration.run, exploration.verdict) == (8, Verdict.VALID)
    assert any("'SELECT count(*) FROM jobs' by itself" in note for note in exploration.notes)


def test_a_status_that_requests_give_alone_too_is_no_refusal(embedded: Target) -> None:
    alone = explored(embedded, "first", service=replace(SHARED, reset=request("/reset")))
    assert alone.verdict is Verdict.VALID
    refused = explored(embedded, "auto", setup=UNIQUE)
    assert refused.verdict is Verdict.INVALID
    assert refused.counts["refused"] > 0


def test_a_service_is_restarted_for_each_schedule(embedded: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMS_UP", "SELECT pg_advisory_xact_lock(1)")  # at its start it sends what requests send, too
    exploration = explored(embedded, "lock", service=replace(SERVICE, restart=True), reduce=True, compared=False)
    assert exploration.verdict is Verdict.VALID


def test_a_service_that_was_started_elsewhere_comes_to_the_gate(embedded: Target) -> None:
    gate = free_port()
    environment = {**addresses.through("127.0.0.1", gate, embedded, "public"), "POOL": "0"}
    elsewhere = RunningService.start(SERVICE, environment)
    try:
        service = Service(url=f"http://127.0.0.1:{elsewhere.port}", listen=f"127.0.0.1:{gate}")
        exploration = explored(embedded, "fresh-lock", service=service, reduce=True)
        with pytest.raises(UsageProblem, match=f"the gate cannot listen on 127.0.0.1:{elsewhere.port}"):
            explored(embedded, "fresh-lock", service=replace(service, listen=f"127.0.0.1:{elsewhere.port}"))
    finally:
        elsewhere.stop()
    assert exploration.verdict is Verdict.VALID
    assert any("one instance of the service" in note for note in exploration.notes)


@pytest.mark.parametrize(
    ("how", "says"),
    [("open", "leaves its transaction open"), ("dies", r"ended \(exit 3\)"), ("none", "sent no statement")],
)
def test_what_no_request_may_do_is_named(embedded: Target, how: str, says: str) -> None:
    with pytest.raises(RacebenchError, match=says) as raised:
        explored(embedded, how)
    assert isinstance(raised.value, UsageProblem) or "dies" in how


def test_a_request_that_a_busy_machine_sends_late_does_not_wait_for_another(
    embedded: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for one that waits inside the application, and every order of starting was explored."""
    send = actors.HttpClient.send

    def late(client: actors.HttpClient, wanted: HttpRequest, timeout_s: float | None = None) -> actors.Response:
        time.sleep(0.1)  # the machine is busy
        return send(client, wanted, timeout_s)

    expected = explored(embedded, "lock", reduce=True).run
    monkeypatch.setattr(actors.HttpClient, "send", late)
    assert explored(embedded, "lock", reduce=True).run == expected


@pytest.mark.parametrize(("how", "schedules"), [("auto", 5), ("auto-again", None), ("auto-fatal", 5)])
def test_what_a_service_makes_of_a_lost_connection_decides(embedded: Target, how: str, schedules: int | None) -> None:
    """Its pool keeps a connection that was lost; trying again it makes its row twice; or it ends itself."""
    twice = "SELECT FROM orders HAVING count(*) > 1"
    scenario = ad_hoc.from_requests([request(how)], SERVICE, setup=[ORDERS], invariants=[twice])
    strategy = next(iter(scenario.strategies.values()))
    wanted = ExplorationRequest(
        scenario=scenario, strategy=strategy, sessions=1, crash=1, reduce=False, budget_s=math.inf
    )
    found = explorer.explore(embedded, judged(wanted))
    if schedules is None:
        assert found.verdict is Verdict.INVALID
        assert found.witness is not None
        assert str(found.witness.schedule).endswith(":s1.s1.s1+cut.s1.s1.s1")
        return
    # SELECT before and after, INSERT before, its commit after, and none.
    assert (found.run, found.verdict) == (schedules, Verdict.VALID)
    assert {end.outcome for outcome in found.outcomes for end in outcome.sessions} == {"OK", "UNKNOWN"}
    assert any("the service ended" in note for note in found.notes) == ("fatal" in how)


def test_a_schedule_that_ends_too_early_is_refused(embedded: Target) -> None:
    scenario = ad_hoc.from_requests([request("")], SERVICE, setup=[ORDERS], invariants=[DUPLICATES])
    wanted = ExplorationRequest(scenario=scenario, strategy=next(iter(scenario.strategies.values())))
    with pytest.raises(UsageProblem, match="ends before the sessions do: s2 can go on"):
        explorer.replay(embedded, wanted, (1, 1, 1))
