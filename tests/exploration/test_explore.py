"""Every order, once: the search against the multinomial, and the real server against what is known of each strategy."""

from __future__ import annotations

import itertools
import json
import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import STEP, Simulated, Stateful, always

from conftest import Command, Start, UsersServer
from racebench.analysis.remedies import expected_kinds
from racebench.core.errors import UsageProblem
from racebench.core.model import Scenario, Statement
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration import explorer, schedules
from racebench.exploration.choices import Cut, choice, cut_of, session_of, strand_of
from racebench.exploration.explorer import explore, replay
from racebench.exploration.independence import Footprint, footprint, independent
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.random_search import chance, random_search
from racebench.exploration.request import ExplorationRequest, with_default_limits
from racebench.exploration.result import Exploration, Limit
from racebench.exploration.scheduler import Scheduler, in_circles
from racebench.exploration.schedules import Schedule
from racebench.exploration.search import Diverged, search
from racebench.exploration.sessions.session import Session
from racebench.exploration.tally import Tally, size, switches
from racebench.exploration.transactions import in_transactions
from racebench.exploration.tree import Choice
from racebench.postgres.connection import connect
from racebench.reports import exploration_text
from racebench.workloads import catalog, scripts
from waiting import finish, wait_for

# The search, on simulated sessions


@pytest.mark.parametrize("steps", [(1,), (2, 2), (4, 4), (3, 2, 1), (2, 2, 2), (1, 1, 1, 1)])
def test_every_schedule_is_run_once(steps: tuple[int, ...]) -> None:
    world = Simulated([[(0, 1)] * count for count in steps])
    progress = search(world, reduce=False, go_on=always)
    expected = math.factorial(sum(steps)) // math.prod(map(math.factorial, steps))
    assert progress.run == expected == len(set(world.ended)) == len(world.ended)
    assert progress.complete
    assert not progress.pruned


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(STEP, min_size=1, max_size=3), min_size=2, max_size=3))
def test_a_reduction_leaves_the_set_of_outcomes_as_it_is(sessions: list[list[tuple[int, ...]]]) -> None:
    every, reduced = Simulated(sessions), Simulated(sessions)
    search(every, reduce=False, go_on=always)
    found = search(reduced, reduce=True, go_on=always)
    assert set(every.states) == set(reduced.states)
    assert found.run <= len(every.ended)


@settings(max_examples=50, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=3), st.integers(2, 3))
def test_symmetry_leaves_the_set_of_outcomes_as_it_is(steps: list[tuple[int, ...]], count: int) -> None:
    every, reduced = Simulated([steps] * count, alike=True), Simulated([steps] * count, alike=True)
    search(every, reduce=False, go_on=always)
    search(reduced, reduce=True, go_on=always)
    assert set(every.states) == set(reduced.states)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(STEP, min_size=1, max_size=3), min_size=2, max_size=3), st.booleans())
def test_to_go_on_once_from_each_state_leaves_the_set_of_outcomes_as_it_is(
    sessions: list[list[tuple[int, ...]]], alike: bool
) -> None:
    if alike:
        sessions = [sessions[0]] * len(sessions)
    every, once = Simulated(sessions, alike=alike), Stateful(sessions, alike=alike)
    search(every, reduce=False, go_on=always)
    assert search(once, reduce=True, go_on=always).complete
    assert set(every.states) == set(once.states)


def test_a_state_whose_end_a_limit_prevented_counts_as_not_gone_on_from() -> None:
    world = Stateful([[(1, 1), (1,)], [(1, 2), (1,)]])
    assert not search(world, reduce=True, go_on=lambda progress: progress.run < 1).complete
    assert search(world, reduce=True, go_on=always).complete
    every = Simulated(world.sessions)
    search(every, reduce=False, go_on=always)
    assert set(world.states) == set(every.states)


class Stranded(Simulated):
    """A session has the steps of two sessions of `Simulated`: the second of a pair is a strand of the first."""

    def choices(self) -> list[Choice]:
        return [replace(one, number=_strand(one.number)) for one in super().choices()]

    def take(self, number: int) -> None:
        super().take(2 * session_of(number) - 1 + strand_of(number))


def _strand(number: int) -> int:
    return choice((number + 1) // 2, strand=(number + 1) % 2)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(STEP, min_size=1, max_size=2), min_size=3, max_size=4))
def test_steps_of_one_sessions_strands_are_never_taken_for_independent(sessions: list[list[tuple[int, ...]]]) -> None:
    every, reduced = Stranded(sessions), Stranded(sessions)
    search(every, reduce=False, go_on=always)
    search(reduced, reduce=True, go_on=always)

    def orders(world: Stranded) -> set[object]:
        """Each state, with the order in which the strands of each session took their steps."""
        return {
            tuple(tuple(number for number in schedule if session_of(number) == session) for session in (1, 2))
            for schedule in world.ended
        }

    assert set(every.states) == set(reduced.states)
    assert orders(every) == orders(reduced)


def test_a_bound_on_switches_runs_exactly_the_schedules_within_it() -> None:
    sessions = [[(0, 1)] * 3, [(0, 2)] * 2]
    every = Simulated(sessions)
    search(every, reduce=False, go_on=always)
    for most in range(5):
        bounded = Simulated(sessions)
        search(bounded, reduce=False, go_on=always, most_switches=most)
        assert set(bounded.ended) == {schedule for schedule in every.ended if switches(schedule) <= most}


def test_a_search_that_is_stopped_is_not_complete() -> None:
    world = Simulated([[(0, 1)] * 3] * 2)
    progress = search(world, reduce=False, go_on=lambda progress: progress.run < 5)
    assert (progress.run, progress.complete) == (5, False)


def test_a_world_that_takes_another_course_is_said_to() -> None:
    class Fickle(Simulated):
        begun = 0

        def begin(self) -> None:
            super().begin()
            self.begun += 1
            self.at = [0 if self.begun < 3 else 2, 0]

    with pytest.raises(Diverged, match="took another course at step 1"):
        search(Fickle([[(0, 1)] * 2, [(0, 2)] * 2]), reduce=False, go_on=always)


def test_drawn_schedules_are_the_seeds_and_reach_every_outcome_in_time() -> None:
    def drawn(seed: int) -> Simulated:
        world = Simulated([[(0, 1), (1,)], [(1, 1), (0,)]])
        random_search(world, depth=3, steps=4, random=Random(seed), go_on=lambda progress: progress.run < 60)
        return world

    assert drawn(1).ended == drawn(1).ended != drawn(2).ended
    every = Simulated([[(0, 1), (1,)], [(1, 1), (0,)]])
    search(every, reduce=False, go_on=always)
    assert set(drawn(3).states) == set(every.states)


def test_the_chance_of_a_random_search_is_that_of_the_paper() -> None:
    assert chance(sessions=2, steps=8, depth=1, runs=1) == pytest.approx(1 / 2)
    assert chance(sessions=2, steps=8, depth=3, runs=1) == pytest.approx(1 / 128)
    assert chance(sessions=2, steps=8, depth=3, runs=1000) == pytest.approx(1 - (127 / 128) ** 1000)


# Schedules, footprints, scripts


CHOICES = st.builds(
    choice, st.integers(1, 999_999_999), strand=st.integers(0, 25), cut=st.sampled_from([None, Cut.BEFORE, Cut.AFTER])
)


@given(st.lists(CHOICES, min_size=1, max_size=20), st.sampled_from([None, "cursor"]))
def test_a_schedule_is_read_as_it_was_written(steps: list[int], consumer: str | None) -> None:
    schedule = Schedule(scenario="s", strategy="naive", consumer=consumer, digest="0123abcd", steps=tuple(steps))
    assert schedules.parse(str(schedule)) == schedule
    assert schedules.parse_steps(str(schedule)) == ("0123abcd", 0, schedule.steps)


def test_a_choice_without_a_strand_or_a_cut_is_the_sessions_number() -> None:
    written = "v1:s/naive:s1.s2b.s1-cut.s2b+cut"
    steps = schedules.parse(written).steps
    assert str(schedules.parse(written)) == written
    assert steps[0] == 1
    assert len(set(steps)) == 4
    assert [session_of(number) for number in steps] == [1, 2, 1, 2]
    assert [cut_of(number) for number in steps] == [None, None, Cut.BEFORE, Cut.AFTER]
    assert switches(steps) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("naive", "column 1: expected 'v1:', found 'naive'; one looks like v1:"),
        ("", "column 1: expected 'v1:', found its end"),
        ("v2:s/naive:s1", "column 1: it is of version v2"),
        ("v1:naive:s1", "column 4: expected a scenario and '/', found 'naive:s1'"),
        ("v1:s/:s1", "column 6: expected a strategy, found ':s1'"),
        ("v1:s/naive[xyz]:s1", "column 11: expected ':' and the steps (or '[' and eight digits), found '[xyz]:s1'"),
        ("v1:s/naive", "column 11: expected ':' and the steps"),
        ("v1:s/naive:", "column 12: '' is no session"),
        ("v1:s/naive:s1.x2", "column 15: 'x2' is no session"),
        ("v1:s/naive:s1..s2", "column 15: '' is no session"),
        ("v1:s/naive:s0", "column 12: 's0' is no session"),
        ("v1:s/naive:s1a", "column 12: 's1a' is no session"),
        ("v1:s/naive:s1.s1-cut.s1-", "column 22: 's1-' is no session"),
    ],
)
def test_what_is_no_schedule_is_refused_with_its_column(text: str, message: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        schedules.parse(text)
    assert message in str(caught.value)


def statement(sql: str) -> Statement:
    return scripts.parse(sql, Path("s.sql")).statements[0]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT max(v) FROM t;", Footprint.READ),
        ("SELECT nextval('s');", Footprint.ANYTHING),
        ("SELECT v FROM t FOR UPDATE;", Footprint.ANYTHING),
        ("SELECT v FROM t FOR NO KEY UPDATE;", Footprint.ANYTHING),
        ("WITH x AS (DELETE FROM t RETURNING v) SELECT v FROM x;", Footprint.ANYTHING),
        ("INSERT INTO t VALUES (1);", Footprint.WRITE),
        ("UPDATE t SET v = 1;", Footprint.WRITE),
        ("COMMIT;", Footprint.ANYTHING),
        ("LOCK TABLE t;", Footprint.ANYTHING),
        ("BEGIN;", Footprint.NOTHING),
    ],
)
def test_what_a_statement_may_touch(sql: str, expected: Footprint) -> None:
    assert footprint([statement(sql)], isolation=None, volatile={"nextval"}) is expected


def test_under_serializable_a_read_is_not_independent_of_a_write() -> None:
    read = footprint([statement("SELECT 1;")], isolation="serializable", volatile=())
    assert not independent(read, Footprint.WRITE)
    assert independent(read, read)
    assert independent(Footprint.READ, Footprint.WRITE)
    assert not independent(Footprint.WRITE, Footprint.WRITE)
    assert not independent(Footprint.READ, Footprint.ANYTHING)


def test_what_has_no_transaction_is_given_one_and_jumps_still_land() -> None:
    text = "\\if :x\nINSERT INTO t VALUES (1);\n\\else\nSELECT 1;\n\\endif\nBEGIN;\nUPDATE t SET v = 2;\nCOMMIT;"
    made = in_transactions(scripts.parse(text, Path("s.sql")))
    words = [step.keyword for step in made.steps if isinstance(step, Statement)]
    assert words == ["BEGIN", "INSERT", "COMMIT", "SELECT", "BEGIN", "UPDATE", "COMMIT"]
    targets = [getattr(step, "otherwise", getattr(step, "to", None)) for step in made.steps]
    landed = [made.steps[target] for target in targets if target is not None]
    assert [step.keyword for step in landed if isinstance(step, Statement)] == ["SELECT", "BEGIN"]


# The real server


@pytest.fixture
def find(embedded: Target, version_counter: Scenario) -> Callable[..., Exploration]:
    def run(strategy: str, consumer: str | None = None, **more: object) -> Exploration:
        asked = ExplorationRequest(
            scenario=version_counter,
            strategy=version_counter.strategies[strategy],
            consumer=version_counter.consumers[consumer] if consumer else None,
        )
        return explore(embedded, replace(asked, **more))  # type: ignore[arg-type]

    return run


Find = Callable[..., Exploration]


def test_naive_has_seventy_orders_and_sixty_of_them_go_wrong(find: Find) -> None:
    found = find("naive", reduce=False)
    assert (found.run, found.anomalous, found.complete) == (70, 60, True)
    assert found.verdict is Verdict.INVALID


def test_the_first_witness_of_naive_is_within_two_schedules(find: Find) -> None:
    assert find("naive", stop_at_first=True).run <= 2


def test_the_shortest_witness_switches_twice(find: Find) -> None:
    found = find("naive")
    assert found.witness is not None
    assert switches(found.witness.schedule.steps) == 2
    assert len(found.witness.schedule.steps) == 8


@pytest.mark.parametrize("strategy", ["unique-retry", "advisory", "table-lock", "upsert", "serializable-retry"])
def test_a_right_strategy_is_proved_right_with_a_consumer_beside_it(find: Find, strategy: str) -> None:
    found = find(strategy, "cursor", polls=2)
    assert found.verdict is Verdict.VALID, (found.counts, found.witness)
    assert found.complete


def test_the_consumer_that_misses_a_sequences_row_is_found(find: Find) -> None:
    found = find("sequence", "cursor", polls=1)
    assert found.verdict is Verdict.INVALID
    assert found.counts["missed"] > 0
    assert found.counts["duplicates"] == 0


def test_a_consumer_of_what_is_on_the_disk_misses_nothing(find: Find) -> None:
    """Commits do not wait for the disk while exploring, but where a slot reads what is there."""
    found = find("sequence", "logical-slot", polls=1)
    assert (found.verdict, found.complete) == (Verdict.VALID, True)


@pytest.mark.parametrize("strategy", ["naive", "unique", "unique-retry", "advisory", "insert-select-max", "sequence"])
def test_outcomes_are_the_same_with_and_without_reduction(find: Find, strategy: str) -> None:
    every, reduced = find(strategy, reduce=False), find(strategy)
    assert set(every.outcomes) == set(reduced.outcomes)
    assert reduced.run <= every.run


def test_outcomes_are_the_same_again(find: Find) -> None:
    assert len({frozenset(find("unique-retry").outcomes) for _ in range(3)}) == 1


def test_a_witness_replays_every_time(embedded: Target, version_counter: Scenario, find: Find) -> None:
    found = find("unique")
    asked = ExplorationRequest(scenario=version_counter, strategy=version_counter.strategies["unique"])
    assert found.witness is not None
    for _ in range(5):
        again = replay(embedded, asked, found.witness.schedule.steps)
        assert again.anomalies == {"refused": 1}
    waits = [step for step in again.steps if step.waits_for]
    assert [step.waits_for for step in waits] == [("s1",)] or not waits


def test_a_schedule_that_cannot_be_followed_fails_loudly(embedded: Target, version_counter: Scenario) -> None:
    asked = ExplorationRequest(scenario=version_counter, strategy=version_counter.strategies["advisory"])
    with pytest.raises(UsageProblem, match="at step 5 s2 cannot go on, s1 can"):
        replay(embedded, asked, (1, 1, 2, 2, 2, 1, 1, 1, 2, 2))
    with pytest.raises(UsageProblem, match="ends before the sessions do"):
        replay(embedded, asked, (1, 1))


def test_three_sessions_of_a_right_strategy_are_proved(find: Find) -> None:
    found = find("advisory", sessions=3)
    assert found.verdict is Verdict.VALID
    assert found.complete


@pytest.mark.parametrize("consumer", ["settle-delay", "gap-wait"])
def test_what_a_consumer_still_holds_back_is_not_missed_and_proves_nothing(
    embedded: Target, version_counter: Scenario, consumer: str
) -> None:
    asked = ExplorationRequest(
        scenario=version_counter,
        strategy=version_counter.strategies["advisory"],
        consumer=version_counter.consumers[consumer],
        polls=1,
        max_schedules=20,
    )
    found = explore(embedded, asked)
    assert found.counts["missed"] == 0
    assert found.verdict is Verdict.UNKNOWN
    assert replace(found, complete=True).verdict is Verdict.UNKNOWN


def test_a_search_out_of_budget_is_unknown_and_says_what_was_drawn(find: Find) -> None:
    found = find("unique-retry", sessions=3, max_schedules=20, reduce=False)
    assert found.verdict is Verdict.UNKNOWN
    assert not found.complete
    assert found.drawn > 0
    assert found.chance is not None
    assert 0 < found.chance < 1
    assert found.limit is Limit.SCHEDULES
    assert exploration_text.sentence(found).endswith("There are more schedules: raise --max-schedules.")


def test_a_search_that_found_an_anomaly_ends_soon_with_the_shortest_witness(find: Find) -> None:
    found = find("naive", reduce=False, enough=30)
    assert (found.verdict, found.run, found.complete, found.limit) == (Verdict.INVALID, 30, False, Limit.ENOUGH)
    assert found.witness is not None
    assert size(found.witness.schedule.steps) == (0, 2, 8)
    assert exploration_text.sentence(found) == (
        f"{found.anomalous} of 30 schedules go wrong (duplicates); the search ended there, --budget for more."
    )
    # It has not met every kind of anomaly that is known of the strategy, which is no surprise.
    found = find("naive", "cursor", polls=2, enough=1)
    assert (found.as_expected, found.complete) == (True, False)
    assert set(found.found) < set(found.expected)


def test_a_search_that_finds_nothing_does_not_end_early(find: Find) -> None:
    found = find("advisory", enough=1)
    assert (found.verdict, found.complete, found.limit) == (Verdict.VALID, True, None)
    assert found.run > 1


def test_the_default_limits_are_replaced_by_those_that_are_asked_for(version_counter: Scenario) -> None:
    asked = ExplorationRequest(scenario=version_counter, strategy=version_counter.strategies["naive"])

    def limits(*, thorough: bool = False, **given: Any) -> tuple[float | None, int | None, int | None]:
        limited = with_default_limits(replace(asked, **given), thorough=thorough)
        return limited.budget_s, limited.max_schedules, limited.enough

    assert limits() == (60.0, None, 400)
    assert limits(thorough=True) == (60.0, None, None)
    assert limits(budget_s=5.0) == (5.0, None, None)
    assert limits(max_schedules=7) == (None, 7, None)
    assert limits(budget_s=math.inf) == (None, None, None)


def test_what_raced_and_was_not_repeated_proves_nothing(
    embedded: Target, version_counter: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backends of a server that racebench has not started are not stopped: what one step wakes up races."""
    request = ExplorationRequest(
        scenario=version_counter, strategy=version_counter.strategies["unique-retry"], sessions=3
    )
    result = explore(replace(embedded, server_pid=None), request)
    assert (result.verdict, result.complete) == (Verdict.VALID, True)
    assert result.raced > 1
    monkeypatch.setattr(explorer, "MOST_REPEATED", 1)
    result = explore(replace(embedded, server_pid=None), request)
    assert (result.verdict, result.complete) == (Verdict.UNKNOWN, False)


def test_an_interruption_after_the_last_schedule_loses_nothing(
    version_counter: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search_one(_target: Target, _request: ExplorationRequest, tally: Tally, *_: object) -> None:
        tally.run, tally.complete = 1, True

    def interrupted_once(tally: Tally) -> Exploration:
        monkeypatch.setattr(Tally, "result", whole)
        raise KeyboardInterrupt

    whole = Tally.result
    monkeypatch.setattr(explorer, "_search", search_one)
    monkeypatch.setattr(Tally, "result", interrupted_once)
    request = ExplorationRequest(scenario=version_counter, strategy=version_counter.strategies["advisory"])
    kept: list[Exploration] = []
    with pytest.raises(KeyboardInterrupt):
        explore(Target(kind="embedded", label="none", parameters={}), request, interrupted=kept.append)
    assert [(found.run, found.verdict) for found in kept] == [(1, Verdict.VALID)]


def test_nothing_is_left_on_the_server(embedded: Target, find: Find) -> None:
    find("naive", stop_at_first=True)
    find("serializable-retry", max_schedules=10)
    with connect(embedded) as connection:
        schemas = connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'racebench%'").fetchone()
        assert schemas == (0,)
        sessions = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'racebench%' AND pid <> pg_backend_pid()"
        )
        # A backend ends a little after its connection.
        wait_for(lambda: connection.execute(sessions).fetchone() == (0,), "a session is left on the server")


@pytest.mark.parametrize("name", [scenario.name for scenario in catalog.shipped() if not scenario.once])
def test_every_shipped_strategy_is_told_right_from_broken(embedded: Target, name: str) -> None:
    scenario = catalog.find_scenario(name)
    for strategy in scenario.strategies.values():
        consumer = scenario.consumers.get("cursor")
        whole = strategy.right and not strategy.text  # what a text does is not known before: all its orders differ
        enough = None if whole else 40  # of hundreds of schedules, most of which go wrong alike
        most = 40 if strategy.text else None
        asked = ExplorationRequest(
            scenario=scenario, strategy=strategy, consumer=consumer, polls=2, enough=enough, max_schedules=most
        )
        found = explore(embedded, asked)
        assert found.leftovers == (), strategy.name
        certain, possible = expected_kinds(strategy, [consumer] if consumer else [])
        wrong = {kind for kind in scenario.forbid if found.counts[kind]}
        if strategy.inside:
            assert found.verdict is not Verdict.VALID, strategy.name
            assert wrong <= certain | possible, (strategy.name, wrong)
            assert not found.anomalous, strategy.name
        else:
            assert certain <= wrong <= certain | possible, (strategy.name, wrong, found.witness)
        if strategy.right:
            assert found.verdict is Verdict.VALID or (not whole and found.verdict is Verdict.UNKNOWN), strategy.name


DEADLOCK = """
BEGIN;
\\if :client_id = 0
UPDATE t SET v = v + 1 WHERE tenant = :tenant AND k = 1;
UPDATE t SET v = v + 1 WHERE tenant = :tenant AND k = 2;
\\else
UPDATE t SET v = v + 1 WHERE tenant = :tenant AND k = 2;
UPDATE t SET v = v + 1 WHERE tenant = :tenant AND k = 1;
\\endif
COMMIT;
"""
MANIFEST = """
summary = "crossed updates"
schema = "schema.sql"
forbid = ["refused"]
explore = "explore.sql"
[invariants]
none = "SELECT 1 WHERE false"
[strategies.crossed]
summary = "once"
script = "crossed.sql"
expect = ["refused"]
[strategies.crossed-retry]
summary = "again"
script = "crossed.sql"
retry = ["40P01"]
"""


@pytest.fixture
def crossed(tmp_path: Path) -> Scenario:
    """Two sessions that update the same two rows in opposite order."""
    files = {
        "scenario.toml": MANIFEST,
        "schema.sql": "CREATE TABLE t (tenant int, k int, v int, PRIMARY KEY (tenant, k));",
        "explore.sql": "INSERT INTO t VALUES (:tenant, 1, 0), (:tenant, 2, 0);",
        "crossed.sql": DEADLOCK,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return catalog.find_scenario(str(tmp_path))


def _late(scheduler: Scheduler, waiting: Sequence[Session]) -> dict[int, tuple[int, ...]]:
    """The answer of Scheduler._blockers on a machine so busy that most deadlocks are over before they are seen.

    One that stays is seen: its victim has looked for it before there was one.
    """
    seen_s = time.monotonic() + 1.0
    while True:
        blockers = _blockers(scheduler, waiting)
        circular = in_circles(blockers)
        deadlocked = [session for session in waiting if session.pid in circular]
        if not deadlocked:
            return blockers
        victim = min(deadlocked, key=lambda session: scheduler.victims.index(session.number))
        if scheduler._is_frozen(victim) or time.monotonic() > seen_s:  # it does not look until the deadlock is seen
            return blockers


_blockers = Scheduler._blockers


@pytest.mark.parametrize("ask", [_blockers, _late], ids=["seen", "over before it is seen"])
def test_both_victims_of_a_deadlock_are_tried(
    embedded: Target, crossed: Scenario, monkeypatch: pytest.MonkeyPatch, ask: Callable[..., object]
) -> None:
    monkeypatch.setattr(Scheduler, "_blockers", ask)
    victims: Counter[tuple[int, ...]] = Counter()

    def watch(ended: ScheduleResult) -> None:
        if ended.deadlocked:
            victims[ended.victims] += 1

    asked = ExplorationRequest(scenario=crossed, strategy=crossed.strategies["crossed"])
    found = explore(embedded, asked, ended=watch)
    assert found.complete
    assert found.verdict is Verdict.INVALID
    assert victims[(1,)] == victims[(2,)] == 4
    assert set(victims) == {(1,), (2,)}


def test_a_deadlock_that_is_tried_again_is_no_harm(embedded: Target, crossed: Scenario) -> None:
    found = explore(embedded, ExplorationRequest(scenario=crossed, strategy=crossed.strategies["crossed-retry"]))
    assert found.verdict is Verdict.VALID
    assert found.complete


def test_start_up_code_is_explored_on_a_schema_of_its_own_each_time(embedded: Target) -> None:
    scenario = catalog.find_scenario("migration")
    broken, locked = (
        explore(embedded, ExplorationRequest(scenario=scenario, strategy=scenario.strategies[name], max_schedules=8))
        for name in ("catalog-first", "locked")
    )
    assert broken.counts["refused"] > 0
    assert locked.anomalous == 0


# The command


@pytest.mark.server
def test_the_command_prints_the_witness_as_lanes_and_its_schedule_replays(racebench: Command, tmp_path: Path) -> None:
    done = racebench("explore", "-s", "naive", "-s", "advisory", "--json", "x.json", "--no-save")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "naive is INVALID, as expected" in said
    assert "advisory is VALID, as expected: all" in said
    document = json.loads((tmp_path / "x.json").read_text())
    naive, advisory = document["explorations"]
    assert advisory["witness"] is None
    assert advisory["explored"]["complete"]
    schedule = naive["witness"]["schedule"]
    assert schedule.startswith("v1:version-counter/naive[")
    assert f"racebench replay '{schedule}'" in said
    replayed = racebench("replay", schedule)
    assert replayed.returncode == 0, replayed.stderr
    assert "1 duplicate\n" in replayed.stdout
    assert [step["session"] for step in naive["witness"]["steps"]] == schedule.rpartition(":")[2].split(".")


@pytest.mark.server
def test_outcomes_are_printed_with_the_number_of_schedules_that_have_each(racebench: Command) -> None:
    said = racebench("explore", "-s", "unique-retry", "--no-reduction", "--no-save").stdout.splitlines()
    assert "all 50 feasible schedules were run" in " ".join(" ".join(said).split())
    head = next(number for number, line in enumerate(said) if line.split() == [*_HEAD, "schedules", "anomalies"])
    assert [line.split()[-2:] for line in said[head + 2 : head + 4]] == [["40", "none"], ["10", "none"]]
    assert said[head + 4].startswith("page: ")
    assert said[head + 2].startswith("version 1, version 2 at try 2 ")
    said = racebench("explore", "-s", "naive", "--no-save").stdout.splitlines()
    assert "2 × version 1 3 1 duplicate" in [" ".join(line.split()) for line in said]


_HEAD = ("outcome", "of", "the", "sessions")


@pytest.mark.server
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["explore", "-s", "niave"], 2, "did you mean 'naive'"),
        (["explore", "--sessions", "0"], 2, "--sessions is a whole number from 1 to 9"),
        (["explore", "--sessions", "1"], 2, "--sessions 1: a race needs two sessions; give 2 or more, or a --consumer"),
        (["replay", "nonsense"], 2, "column 1: expected 'v1:'"),
        (["explore", "--fail-on", "gaps"], 2, "gaps are not counted in schedules"),
        (["replay", "v1:version-counter/naive[00000000]:s1"], 2, "another version of 'naive'"),
        (["explore", "-s", "naive", "--fail-on", "duplicates", "--no-save"], 3, ""),
        (["explore", "-s", "advisory", "--expect", "race", "--no-save"], 3, ""),
        (["explore", "-s", "advisory", "--fail-on", "any", "--max-schedules", "1", "--no-save"], 5, ""),
        (["explore", "--budget", "much"], 2, "above 0 to 86400, or 'unlimited', not 'much'"),
    ],
)
def test_exit_codes_and_one_line(racebench: Command, arguments: list[str], code: int, message: str) -> None:
    done = racebench(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == bool(message)


def test_what_went_wrong_where_schedules_did_not_begin_alike_fails_no_gate(
    racebench: Command, users_server: UsersServer, tmp_path: Path
) -> None:
    """Large objects of a server that other programs use are not restored: each may be another program's."""
    (tmp_path / "it.sql").write_text("SELECT lo_unlink(lo_create(0));\nINSERT INTO t SELECT count(*) + 1 FROM t;\n")
    done = racebench(
        *("explore", str(tmp_path / "it.sql"), "--setup", "CREATE TABLE t (a int UNIQUE)", "--no-save"),
        *("--fail-on", "any", "--dsn", users_server.dsn()),
    )
    assert done.returncode == 5, done.stdout + done.stderr
    assert "go wrong, but the schedules did not begin in the same state" in " ".join(done.stdout.split())


def test_on_the_users_server_too_and_nothing_is_left(racebench: Command, users_server: UsersServer) -> None:
    done = racebench("explore", "-s", "unique", "--no-save", "--dsn", users_server.dsn())
    assert done.returncode == 0, done.stderr
    assert "unique is INVALID, as expected" in " ".join(done.stdout.split())
    assert users_server.schemas() == []
    assert users_server.sessions() == 0


def test_what_was_found_before_an_interruption_is_shown_and_saved(
    start: Start, users_server: UsersServer, tmp_path: Path
) -> None:
    search = ("explore", "-s", "advisory-early-release", "--sessions", "3", "--consumer", "cursor")
    arguments = (*search, "--dsn", users_server.dsn())
    process = start(*arguments)
    tables = "SELECT count(*) FROM pg_stat_user_tables WHERE schemaname LIKE 'racebench%' AND n_tup_ins > 50"

    def well_under_way() -> bool:
        with users_server.connect() as connection:
            return connection.execute(tables).fetchone() != (0,)

    wait_for(well_under_way, "the exploration never began")
    process.send_signal(signal.SIGINT)
    output, errors = finish(process)
    assert process.returncode == 130
    assert errors.strip() == "racebench: interrupted; no server, worker or schema is left"
    assert "advisory-early-release" in output
    (saved,) = (tmp_path / "results").glob("*.json")
    document = json.loads(saved.read_text())
    assert not document["complete"]
    assert not document["explorations"][0]["explored"]["complete"]
    assert users_server.schemas() == []
    assert users_server.sessions() == 0


def test_every_choice_of_the_first_step_is_made(find: Find) -> None:
    """Without reduction each session goes first in as many schedules as the other."""
    firsts: Counter[int] = Counter()
    assert find("naive", reduce=False).run == sum(1 for _ in itertools.combinations(range(8), 4))
    world = Simulated([[(0, 1)] * 4] * 2)
    search(world, reduce=False, go_on=always)
    firsts.update(schedule[0] for schedule in world.ended)
    assert firsts == {1: 35, 2: 35}
