"""A live view is told of the pace and of duplicates while a run goes on, never of more than the table has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from racebench.analysis.streaming.duplicates import SuspectedDuplicates
from racebench.analysis.streaming.pace import Figures
from racebench.core.model import Load, Outcome, Scenario
from racebench.core.results import RunResult
from racebench.core.target import Target
from racebench.executors.processes import Processes
from racebench.history.records import NO_VERSION
from racebench.load import meter, observation
from racebench.load.driver import LoadDriver
from racebench.load.meter import Meter
from racebench.load.observation import Observation
from racebench.workloads import scripts
from recorded_sessions import Answers, Sessions
from waiting import repeat

SECOND = 1_000_000_000


class Clock:
    """The clocks of the meter, moved by the test; reading costs `cost_ns` of CPU time, and a look as much."""

    def __init__(self) -> None:
        self.now_ns, self.cpu_ns, self.cost_ns = SECOND, 0, 0

    def perf_counter_ns(self) -> int:
        return self.now_ns

    def process_time_ns(self) -> int:
        self.cpu_ns += self.cost_ns
        return self.cpu_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (meter, observation):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    with ExitStack() as stack:
        yield Sessions(tmp_path, stack, clock=SECOND, lasts_ns=1_000_000)


class Looked:
    """A meter that looks whenever the test says so, a quarter of a second after the last time."""

    def __init__(self, sessions: Sessions, clock: Clock, table: Answers | None) -> None:
        self.told: list[Figures] = []
        self.clock = clock
        suspected = SuspectedDuplicates()
        self.observation = Observation(sessions.paths(), [Meter(table, suspected, self.told.append)], suspected)
        self.observation.begin(clock.now_ns)

    def look(self) -> Figures:
        self.clock.now_ns += meter.PAUSE_NS
        self.observation.look()
        return self.told[-1]


def test_the_count_rises_as_the_table_confirms_what_operations_say(sessions: Sessions, clock: Clock) -> None:
    table = Answers({(1, 7), (1, 8)})
    looked = Looked(sessions, clock, table)
    sessions.record(1, 7)
    assert looked.look().duplicates == 0
    for session in (2, 3):
        sessions.record(session, 7)
    assert looked.look().duplicates == 2
    sessions.record(1, 8)
    assert looked.look().duplicates == 2
    sessions.record(4, 8)
    assert looked.look().duplicates == 3
    assert len(table.asked) == 2


def test_what_did_not_commit_for_certain_is_not_counted_nor_another_tenants_number(
    sessions: Sessions, clock: Clock
) -> None:
    looked = Looked(sessions, clock, Answers({(1, 7), (2, 7)}))
    sessions.record(1, 7)
    sessions.record(2, 7, Outcome.FAIL, sqlstate="23505")
    sessions.record(2, 7, Outcome.FAIL)
    sessions.record(3, 7, Outcome.UNKNOWN, sqlstate="08006")
    sessions.record(4, 7, tenant=2)
    figures = looked.look()
    assert (figures.duplicates, figures.errors) == (0, 2)


def test_a_number_that_the_table_has_once_ends_the_count_for_good(sessions: Sessions, clock: Clock) -> None:
    table = Answers({(1, 7)})
    looked = Looked(sessions, clock, table)
    sessions.record(1, 7)
    sessions.record(2, 7)
    assert looked.look().duplicates == 1
    sessions.record(1, 8)
    sessions.record(2, 8)
    assert looked.look().duplicates is None
    table.duplicates.add((1, 8))
    sessions.record(3, 8)
    assert looked.look().duplicates is None


def test_without_an_answer_the_count_stays_and_the_question_is_asked_again(sessions: Sessions, clock: Clock) -> None:
    table = Answers({(1, 7), (1, 8)}, silent=True)
    looked = Looked(sessions, clock, table)
    for session in (1, 2):
        sessions.record(session, 7)
    assert looked.look().duplicates == 0
    table.silent = False
    assert looked.look().duplicates == 1


def test_of_many_suspected_numbers_a_sample_from_all_of_them_is_asked(sessions: Sessions, clock: Clock) -> None:
    table = Answers({(1, number) for number in range(100)})
    looked = Looked(sessions, clock, table)
    for number in range(100):
        sessions.record(1, number)
        sessions.record(2, number)
    assert looked.look().duplicates == 100
    (asked,) = table.asked
    assert len(asked) == 16
    assert min(asked) < (1, 10) < (1, 90) < max(asked)


def test_operations_that_say_no_number_have_no_count(sessions: Sessions, clock: Clock) -> None:
    looked, without = Looked(sessions, clock, Answers()), Looked(sessions, clock, None)
    sessions.record(1, NO_VERSION)
    assert (looked.look().duplicates, without.look().duplicates) == (None, None)


def test_the_pace_is_that_of_the_last_second_and_so_far_that_of_what_is_measured(
    sessions: Sessions, clock: Clock
) -> None:
    looked = Looked(sessions, clock, None)
    looked.observation.begin(clock.now_ns, clock.now_ns + SECOND // 3)
    sessions.clock = 0  # records have the clock of another machine
    for expected in (None, None, 400.0):
        for _ in range(100):
            sessions.record(1, NO_VERSION)
        figures = looked.look()
        assert (figures.now_per_s, figures.so_far_per_s) == (400.0, expected)
    for look in range(1, 9):
        sessions.lasts_ns = look * 1_000_000
        for _ in range(50):
            sessions.record(1, NO_VERSION)
        figures = looked.look()
    # Four looks of 50 commits in a second; their latencies are 5 to 8 ms.
    assert (figures.now_per_s, figures.p50_us, figures.p99_us) == (200.0, 6000.0, 8000.0)
    assert figures.so_far_per_s == (100 + 8 * 50) / (9 / 4)


def test_looks_take_a_hundredth_of_the_time_and_are_no_more_than_four_a_second(
    sessions: Sessions, clock: Clock
) -> None:
    looked = Looked(sessions, clock, None)
    looked.look()
    looked.observation.look()
    assert len(looked.told) == 1
    assert looked.observation.pause_s == 0.25
    clock.cost_ns = 5_000_000
    looked.look()
    assert looked.observation.pause_s == 1.0


# Whole runs


def told(
    processes: Processes, embedded: Target, scenario: Scenario, name: str, **load: object
) -> tuple[list[int], RunResult]:
    """The duplicates told in a run, one number a look, and the result."""
    figures: list[Figures] = []
    given = Load(**{"workers": 4, "duration_s": 0.4, "operations": None, "tenants": 3, **load})  # type: ignore[arg-type]
    driver = LoadDriver(target=embedded, executor=processes)
    result = driver.run(scenario, scenario.strategies[name], (), given, lambda _: None, tell=figures.append)
    assert figures[-1].so_far_per_s is not None
    return [one.duplicates for one in figures if one.duplicates is not None], result


def test_the_count_of_a_broken_strategy_rises_to_that_of_the_table(
    processes: Processes, embedded: Target, version_counter: Scenario
) -> None:
    def run(seed: int) -> tuple[list[int], RunResult]:
        counts, result = told(processes, embedded, version_counter, "naive", seed=seed)
        assert counts == sorted(counts)
        assert counts[-1] <= result.counts["duplicates"]
        return counts, result

    # On a busy machine a question may have no answer in time.
    counts, result = repeat(run, lambda ran: ran[0][-1] == ran[1].counts["duplicates"])
    assert counts[-1] == result.counts["duplicates"] > 0


def test_no_duplicate_is_told_of_a_strategy_whose_numbers_are_distinct(
    processes: Processes, embedded: Target, version_counter: Scenario
) -> None:
    counts, result = told(processes, embedded, version_counter, "unique", rollback_percent=30.0)
    assert result.counts["refused"] > 0
    assert {*counts} == {0}


def test_no_duplicate_is_told_of_a_script_that_says_one_number_and_stores_another(
    processes: Processes, embedded: Target, version_counter: Scenario
) -> None:
    text = """SELECT 7 AS version \\gset
    INSERT INTO events (tenant, payload, operation) VALUES (:tenant, 'x', :operation);"""
    says = replace(version_counter.strategies["sequence"], script=scripts.parse(text, Path("says.sql")))
    scenario = replace(version_counter, strategies={"sequence": says})
    counts, result = told(processes, embedded, scenario, "sequence", duration_s=0.3)
    assert ({*counts} <= {0}, result.counts["duplicates"]) == (True, 0)
