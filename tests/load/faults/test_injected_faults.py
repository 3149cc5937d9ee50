"""Faults injected into real runs: each happens, workers go on, and no verdict is changed by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import racebench
from conftest import shows
from racebench.analysis.restarts import RESTARTED
from racebench.core.faults import CONNECTION_LOST
from racebench.core.injection import parse_all
from racebench.core.model import Load, Protocol
from racebench.core.results import RunResult
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.executors.processes import Processes
from racebench.load.driver import LoadDriver
from racebench.load.faults.injectors import Injectors
from racebench.load.run_files import RunFiles
from racebench.workloads import catalog

Run = Callable[..., RunResult]
LOST_ANSWER = catalog.find_scenario("lost-answer")
CUT_AFTER, CUT_BEFORE, CUT, STALL = "cut-after-commit:3%", "cut-before-commit:3%", "cut:2%", "stall:20ms:1%"
LATENCY, TERMINATE, CRASH = "latency:1ms±1ms", "terminate-backend:every 20ms", "crash-server:once"
ALL = (CUT_AFTER, CUT_BEFORE, CUT, STALL, LATENCY, TERMINATE, CRASH)


def injected(result: RunResult) -> int:
    return sum(result.injected.values())


def _is_injected(result: RunResult) -> bool:
    return injected(result) > 0


@pytest.mark.parametrize("fault", ALL)
def test_a_right_strategy_stays_valid_and_every_operation_is_accounted_for(hammer: Run, fault: str) -> None:
    result = hammer("upsert", workers=4, operations=300, faults=parse_all([fault]), until=_is_injected)
    counts = result.counts
    assert result.verdict is Verdict.VALID, (result.witnesses, result.notes)
    assert counts["attempts"] == 300, "the workers went on"
    assert counts["committed"] <= counts["rows"] <= counts["committed"] + counts["unknown"]
    if fault == CUT_AFTER:  # its COMMIT was carried out each time
        assert injected(result) == counts["unknown"] == counts["rows"] - counts["committed"]
    elif fault == CUT_BEFORE:  # its COMMIT never arrived
        assert (injected(result), counts["committed"]) == (counts["unknown"], counts["rows"])
    elif fault == CUT:
        assert counts["failed"] > 0
        assert set(result.errors) == {CONNECTION_LOST}
    elif fault == TERMINATE:
        assert "57P01" in result.errors
    elif fault == CRASH:
        assert any(note.startswith(RESTARTED) for note in result.notes)
    else:
        assert (counts["committed"], result.errors) == (300, {})
        assert (result.latency_us["max"] or 0) >= 20_000 or fault == LATENCY


@pytest.mark.parametrize("fault", ALL)
def test_a_broken_strategy_stays_invalid(hammer: Run, fault: str) -> None:
    result = hammer("naive", "", workers=4, operations=200, faults=parse_all([fault]), until=shows("duplicates"))
    assert result.verdict is Verdict.INVALID
    assert result.as_expected


@pytest.mark.parametrize("protocol", [Protocol.SIMPLE, Protocol.PIPELINED])
def test_a_commit_is_met_in_every_protocol(hammer: Run, protocol: Protocol) -> None:
    faults = parse_all([CUT_AFTER, CUT_BEFORE])
    result = hammer("upsert", "", workers=2, operations=200, protocol=protocol, faults=faults, seed=3)
    counts = result.counts
    assert counts["unknown"] == injected(result)
    assert counts["rows"] - counts["committed"] == result.injected[CUT_AFTER] > 0 < result.injected[CUT_BEFORE]


def test_the_same_seed_injects_the_same(hammer: Run) -> None:
    faults = parse_all([CUT_BEFORE])
    one, other = (hammer("upsert", "", workers=2, operations=200, faults=faults, seed=5) for _ in range(2))
    assert one.injected == other.injected
    assert injected(one) > 0


def test_what_is_sent_again_after_a_lost_answer_is_written_twice_unless_it_has_a_key(hammer: Run) -> None:
    found = {
        name: hammer(name, "", "lost-answer", workers=2, operations=200, faults=parse_all([CUT_AFTER]), seed=2)
        for name in LOST_ANSWER.strategies
    }
    assert {name: result.verdict for name, result in found.items()} == {
        "retry-lost": Verdict.INVALID,
        "no-retry": Verdict.VALID,
        "idempotency-key": Verdict.VALID,
    }
    assert found["retry-lost"].retried == {CONNECTION_LOST: injected(found["retry-lost"])}
    assert found["retry-lost"].counts["violations"] > 0
    assert found["no-retry"].counts["unknown"] == injected(found["no-retry"]) > 0
    calm = hammer("retry-lost", "", "lost-answer", workers=2, operations=200)
    assert calm.verdict is Verdict.VALID, "without faults no answer is lost"


def insert(connection: psycopg.Connection[Any]) -> None:
    connection.execute("INSERT INTO orders DEFAULT VALUES")
    connection.commit()


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[racebench.Bench]:
    with racebench.Bench() as made:
        yield made


def test_calls_of_python_meet_them_too_and_are_unknown_then(bench: racebench.Bench) -> None:
    result = bench.hammer(
        insert,
        setup="CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY)",
        invariant="SELECT id FROM orders GROUP BY id HAVING count(*) > 1",
        workers=2,
        operations=150,
        seed=4,
        load=racebench.LoadOptions(faults=[CUT_AFTER]),
    ).result
    assert (result.verdict, result.counts["attempts"]) == (Verdict.VALID, 150)
    assert result.counts["unknown"] == injected(result) > 0


def test_a_scenario_has_its_faults_in_a_bench_unless_none_is_asked_for(bench: racebench.Bench) -> None:
    for asked, expected in (((), LOST_ANSWER.faults), (("none",), ())):
        load = racebench.LoadOptions(faults=asked)
        result = bench.hammer("lost-answer", strategy="no-retry", workers=2, operations=20, load=load).result
        assert result.load.faults == expected
        assert set(result.injected) == {fault.text for fault in expected}


def test_a_refusal_behind_a_lost_answer_is_unknown_because_the_first_try_may_be_its_cause(
    embedded: Target, processes: Processes
) -> None:
    """Without ON CONFLICT the second try of a request is refused by the row of the first."""
    strict = dataclasses.replace(
        LOST_ANSWER.strategies["retry-lost"], schema=LOST_ANSWER.strategies["idempotency-key"].schema
    )
    folder = dataclasses.replace(LOST_ANSWER, strategies={"strict": strict})
    load = Load(workers=2, duration_s=None, operations=200, seed=2, faults=parse_all([CUT_AFTER]))
    result = LoadDriver(target=embedded, executor=processes).run(folder, strict, (), load, lambda _: None)
    assert result.verdict is Verdict.VALID, result.counts
    assert result.counts["refused"] == result.counts["failed"] == 0
    assert result.counts["unknown"] == injected(result) > 0


def test_a_worker_connects_to_its_own_port_with_the_password_of_the_server(tmp_path: Path, embedded: Target) -> None:
    target = dataclasses.replace(
        embedded,
        parameters={"host": "db", "sslmode": "verify-full", "user": "me", "password": "secret", "options": "-c a=b"},
    )
    load = Load(workers=2, duration_s=1.0, operations=None, faults=parse_all([CUT]))
    injectors = Injectors(
        executor=None,  # type: ignore[arg-type]
        target=target,
        entrance=target,
        load=load,
        files=RunFiles(tmp_path),
        application_name="x",
        schema="s",
    )
    assert injectors.target_of(1) is target, "nothing is on the wire before the start"
    injectors._ports, injectors._password = {1: 7001, 2: 7002}, "secret"
    assert injectors.target_of(2).parameters == {
        "user": "me",
        "password": "secret",
        "options": "-c a=b",
        "host": "127.0.0.1",
        "port": "7002",
        "sslmode": "disable",
        "gssencmode": "disable",
    }


def test_a_migration_whose_every_session_meets_a_fault_is_unknown_and_no_mistake_of_the_scenario(hammer: Run) -> None:
    """The column that numbers the rows is what the operations would have made."""
    cut = parse_all(["cut-before-commit:100%"])
    result = hammer("locked", "", "migration", workers=2, operations=2, faults=cut)
    assert (result.verdict, result.counts["committed"]) == (Verdict.UNKNOWN, 0)
    assert any("nothing was committed" in note for note in result.notes)
