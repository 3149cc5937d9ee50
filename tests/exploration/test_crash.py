"""Connections that are cut at a step: what is found by that, what is held against no session, what is left out."""

from __future__ import annotations

import contextlib
import math
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

from racebench.api import Bench, Exploration, Search
from racebench.core.errors import UsageProblem
from racebench.core.model import Retry
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration import explorer
from racebench.exploration.choices import Cut, choice, cut_of, cuts, session_of
from racebench.exploration.explorer import explore, replay
from racebench.exploration.independence import Footprint
from racebench.exploration.isolationtester.export import spec
from racebench.exploration.random_search import chance, random_search
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.search import search
from racebench.exploration.steps import CUT_ANSWERS
from racebench.exploration.tree import Choice
from racebench.reports.results import explorations
from racebench.workloads import catalog

SCHEMA = """
CREATE TABLE job (id int PRIMARY KEY, state text NOT NULL DEFAULT 'waiting');
CREATE TABLE done (job int);
INSERT INTO job VALUES (1), (2);
"""
#: A client that is lost between the two transactions leaves a job that no other fetches.
FETCHES = """
UPDATE job SET state = 'fetched' WHERE id = (
  SELECT id FROM job WHERE state = 'waiting' ORDER BY id LIMIT 1 FOR UPDATE) RETURNING id \\gset
INSERT INTO done VALUES (:id);
"""
IN_ONE = f"BEGIN;\n{FETCHES.strip()}\nCOMMIT;\n"
INSERTS = "INSERT INTO done VALUES (1);\n"
SETS = "BEGIN;\nUPDATE job SET state = state || 's' WHERE id = 1;\nCOMMIT;\n"


@pytest.fixture(autouse=True)
def without_bursts(monkeypatch: pytest.MonkeyPatch) -> None:
    """They follow a search that is complete, and what they show depends on chance."""
    monkeypatch.setattr(explorer, "_BURSTS", 0)


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    with Bench() as made:
        yield made


Look = Callable[..., Exploration]


@pytest.fixture
def look(bench: Bench, tmp_path: Path) -> Look:
    def run(script: str, **more: object) -> Exploration:
        path = tmp_path / "subject.sql"
        path.write_text(script)
        return bench.explore(path, setup=SCHEMA, budget=math.inf, **more)  # type: ignore[arg-type]

    return run


def test_a_job_that_is_fetched_and_lost_is_found_and_one_of_one_transaction_is_not_accused(look: Look) -> None:
    assert look(FETCHES).verdict is Verdict.VALID
    # A session alone has no race, but its client may be lost.
    lost = look(FETCHES, crash=1, sessions=1)
    assert lost.verdict is Verdict.INVALID
    witness = lost.result.witness
    assert witness is not None
    (cut,) = [step for step in witness.steps if step.cut is not None]
    assert cut.answered[-1] == CUT_ANSWERS[cut.cut]
    assert witness.difference
    assert cuts(witness.schedule.steps) == 1
    innocent = look(IN_ONE, crash=1)
    assert (innocent.verdict, innocent.result.complete) == (Verdict.VALID, True)
    assert look(IN_ONE, crash=2, sessions=1).verdict is Verdict.VALID


def test_a_lost_answer_to_a_commit_is_held_against_no_session(embedded: Target) -> None:
    scenario = catalog.find_scenario("version-counter")
    every = explore(
        embedded,
        ExplorationRequest(scenario=scenario, strategy=scenario.strategies["unique-retry"], crash=1, sessions=1),
    )
    # Before BEGIN, before COMMIT, and after it: present and absent, and neither is lost or unexpected.
    assert {(one.sessions[0].outcome, one.sessions[0].rank, one.anomalies) for one in every.outcomes} == {
        ("OK", 1, ()),
        ("UNKNOWN", 0, ()),
        ("UNKNOWN", 1, ()),
    }
    assert (every.verdict, every.as_expected) == (Verdict.VALID, None)


def test_cuts_are_reduced_to_those_that_matter(look: Look) -> None:
    reduced, every = (look(SETS, crash=1, search=Search(reduce=reduce)).result for reduce in (True, False))
    assert every.complete
    assert set(every.outcomes) == set(reduced.outcomes)
    assert every.verdict is reduced.verdict
    assert reduced.run < every.run


def test_a_witness_has_no_cut_that_is_not_needed_and_a_lock_does_not_outlive_its_session(look: Look) -> None:
    twice = look(INSERTS, invariant="SELECT FROM done HAVING count(*) > 1", crash=1)
    assert twice.verdict is Verdict.INVALID
    assert twice.result.witness is not None
    assert not cuts(twice.result.witness.schedule.steps)
    holds = "SELECT pg_advisory_lock(7);\nSELECT pg_advisory_unlock(7);\n"
    assert look(holds, crash=1, invariant="SELECT FROM done").verdict is Verdict.VALID


def test_a_retry_of_a_lost_connection_goes_on_with_another_one(embedded: Target) -> None:
    scenario = catalog.find_scenario("version-counter")
    strategy = replace(scenario.strategies["unique-retry"], retry=Retry(sqlstates=frozenset({"23505", "08006"})))
    request = ExplorationRequest(scenario=scenario, strategy=strategy, crash=2, sessions=1)
    found = explore(embedded, request)
    # Not after the loss of an answer to COMMIT: it may have been committed.
    ends = {(one.sessions[0].outcome, one.sessions[0].tries) for one in found.outcomes}
    assert ends >= {("OK", 1), ("OK", 2), ("OK", 3), ("UNKNOWN", 1), ("UNKNOWN", 2)}
    assert found.verdict is Verdict.VALID


def test_a_schedule_with_a_cut_is_replayed_and_kept_in_json_and_is_no_spec(look: Look, embedded: Target) -> None:
    found = look(FETCHES, crash=1, sessions=1).result
    assert found.witness is not None
    assert explorations.from_published(explorations.published(found)) == found
    scenario = catalog.find_scenario("version-counter")
    request = ExplorationRequest(scenario=scenario, strategy=scenario.strategies["naive"], crash=1)
    schedule = next(
        result
        for result in _results(embedded, request)
        if [cut_of(number) for number in result][-1] is Cut.AFTER and len({*result}) > 2
    )
    again = replay(embedded, request, schedule)
    assert again.schedule.steps == schedule
    assert again.steps[-1].cut is Cut.AFTER
    with pytest.raises(UsageProblem, match="cannot cut a connection"):
        spec(request, again)


def tries_again() -> None:
    """Makes its row twice if the answer to its COMMIT is lost."""
    for _ in range(3):
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(os.environ["DATABASE_URL"]) as connection:
            connection.execute("INSERT INTO done VALUES (1)")
            return


def knows_its_row() -> None:
    """Tries again, and recognizes what it has done before by a key of its own."""
    key = uuid.uuid4().int % 2**31
    for _ in range(3):
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(os.environ["DATABASE_URL"]) as connection:
            connection.execute("INSERT INTO job VALUES (%s) ON CONFLICT DO NOTHING", (key,))
            return


def commits(connection: psycopg.Connection[Any]) -> None:
    """Commits by itself: each statement is at once done and committed."""
    connection.autocommit = True
    connection.execute("INSERT INTO done VALUES (1)")


async def hides_it() -> None:
    """Reports success, whatever happens."""
    with contextlib.suppress(psycopg.OperationalError):
        async with await psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"]) as connection:
            await connection.execute("INSERT INTO done VALUES (1)")


@pytest.mark.parametrize(
    ("function", "verdict", "cut"),
    [
        (tries_again, Verdict.INVALID, Cut.AFTER),
        (knows_its_row, Verdict.VALID, None),
        (commits, Verdict.VALID, None),
        (hides_it, Verdict.INVALID, Cut.BEFORE),
    ],
)
def test_what_a_call_makes_of_a_lost_connection_decides(
    bench: Bench, function: Callable[..., object], verdict: Verdict, cut: Cut | None
) -> None:
    assert bench.explore(function, setup=SCHEMA).verdict is Verdict.VALID
    found = bench.explore(function, setup=SCHEMA, crash=1)
    assert found.verdict is verdict
    ends = {end for outcome in found.result.outcomes for end in outcome.sessions}
    if function is commits:
        # Before the statement, or after its commit; the server does not stop between the two.
        assert {end.outcome for end in ends} == {"OK", "UNKNOWN"}
        assert {end.sqlstate for end in ends} == {"", "08006"}
    if cut is not None:
        assert found.result.witness is not None
        assert [step.cut for step in found.result.witness.steps if step.cut] == [cut]


def _results(target: Target, request: ExplorationRequest) -> list[tuple[int, ...]]:
    schedules: list[tuple[int, ...]] = []
    explore(target, request, ended=lambda result: schedules.append(result.schedule))
    return schedules


class Cuttable:
    """Two sessions of two steps, one of which may be cut."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, ...]] = set()

    def begin(self) -> None:
        self.taken: list[int] = []

    def choices(self) -> list[Choice]:
        gone = {number for number in self.taken if cut_of(number)}
        plain = [n for n in (1, 2) if n not in {session_of(cut) for cut in gone} and self.taken.count(n) < 2]
        more = [] if gone else [choice(number, cut=cut) for number in plain for cut in Cut]
        return [Choice(number, Footprint.ANYTHING) for number in (*plain, *more)]

    def state(self) -> None:
        """Nothing is known of its states."""

    def take(self, number: int) -> None:
        self.taken.append(number)

    def end(self, schedule: object, *, complete: bool) -> None:  # noqa: ARG002 - it is what was taken
        assert complete
        self.seen.add(tuple(self.taken))


def test_schedules_drawn_at_random_have_every_cut() -> None:
    every, drawn = Cuttable(), Cuttable()
    search(every, reduce=False, go_on=lambda _: True)
    random_search(drawn, depth=3, steps=4, random=Random(1), go_on=lambda done: done.run < 3_000, cuts=1)
    assert drawn.seen == every.seen
    assert chance(sessions=2, steps=4, depth=1, runs=1, cuts=1) == pytest.approx(1 / (2 * 2 * 8))
