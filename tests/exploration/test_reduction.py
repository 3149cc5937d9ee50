"""What is left out loses nothing: every strategy with and without reduction on the real server, and the same again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from made_scenario import made
from racebench.core.model import Scenario
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration import explorer, touching
from racebench.exploration.explorer import explore, replay
from racebench.exploration.independence import ALL, Footprint
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration
from racebench.exploration.search import search
from racebench.exploration.symmetry import Pasts, alike, begin_is_seen
from racebench.exploration.touching import Touching
from racebench.exploration.tree import Choice
from racebench.workloads import catalog, scripts

VERSION_COUNTER = catalog.find_scenario("version-counter")
STRATEGIES = tuple(VERSION_COUNTER.strategies)
#: Those that have thousands of schedules with a consumer beside them, those that lock as `advisory` does, and those
#: whose steps are as those of `unique-retry`, `sequence` and `clock`.
LEFT_OUT = {
    *("advisory-early-release", "serializable-retry"),
    *("table-lock", "parent-row-lock", "lock-after-select", "advisory-repeatable-read"),
    *("unique", "identity", "uuidv7", "session-advisory"),
}
Look = Callable[..., Exploration]


@pytest.fixture(autouse=True)
def without_bursts(monkeypatch: pytest.MonkeyPatch) -> None:
    """They follow a search that is complete, and what they show depends on chance."""
    monkeypatch.setattr(explorer, "_BURSTS", 0)


@pytest.fixture
def look(embedded: Target) -> Look:
    def run(
        strategy: str, consumer: str | None = None, scenario: Scenario = VERSION_COUNTER, **more: object
    ) -> Exploration:
        asked = ExplorationRequest(
            scenario=scenario,
            strategy=scenario.strategies[strategy],
            consumer=scenario.consumers[consumer] if consumer else None,
        )
        return explore(embedded, replace(asked, **more))  # type: ignore[arg-type]

    return run


def same(look: Look, strategy: str, consumer: str | None = None, **more: object) -> Exploration:
    """Explore with and without reduction; both must come to their end with the same outcomes. Returns the reduced."""
    every, reduced = look(strategy, consumer, reduce=False, **more), look(strategy, consumer, **more)
    assert every.complete
    assert reduced.complete
    assert set(every.outcomes) == set(reduced.outcomes)
    assert every.verdict is reduced.verdict
    assert reduced.run <= every.run
    return reduced


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_sessions_come_to_the_same_with_and_without_reduction(look: Look, strategy: str) -> None:
    same(look, strategy)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in LEFT_OUT])
def test_a_consumer_beside_them_sees_the_same_with_and_without_reduction(look: Look, strategy: str) -> None:
    same(look, strategy, "cursor", polls=1)


@pytest.mark.parametrize("consumer", ["horizon", "horizon-version", "claim-queue", "cursor-inclusive"])
@pytest.mark.parametrize("strategy", ["sequence", "sequence-cache"])
def test_other_consumers_see_the_same_with_and_without_reduction(look: Look, strategy: str, consumer: str) -> None:
    same(look, strategy, consumer, polls=1)


def test_two_polls_see_the_same_with_and_without_reduction(look: Look) -> None:
    same(look, "sequence-cache", "cursor", polls=2)


@pytest.mark.parametrize("strategy", ["insert-select-max", "trigger-lock-nextval"])
def test_three_sessions_come_to_the_same_with_and_without_reduction(look: Look, strategy: str) -> None:
    same(look, strategy, sessions=3)


@pytest.mark.parametrize(
    ("strategy", "consumer"),
    [
        ("naive", None),
        ("unique", None),
        ("unique-retry", "cursor"),
        ("serializable-retry", None),
        ("sequence", "cursor"),
        ("cache-plus-lock", "cursor"),
        ("lock-after-select", None),
        ("advisory", "horizon"),
    ],
)
def test_an_exploration_repeated_has_the_same_outcomes(look: Look, strategy: str, consumer: str | None) -> None:
    first, second = (look(strategy, consumer, polls=2) for _ in range(2))
    assert set(first.outcomes) == set(second.outcomes)
    assert first.verdict is second.verdict
    assert first.run == second.run


def test_numbers_that_a_session_holds_from_before_are_missed_at_one_poll(look: Look) -> None:
    """The lock orders the commits, not the numbers: the second session may commit its higher one first."""
    found = look("cache-plus-lock", "cursor", polls=1)
    assert found.verdict is Verdict.INVALID
    assert found.counts["missed"]


# Scripts that a careless reduction would get wrong

SCHEMA = "CREATE TABLE log (tenant int); CREATE TABLE bad (tenant int);"
UNLIKE = """
\\if :client_id = 0
INSERT INTO bad SELECT tenant FROM log WHERE tenant = :tenant;
\\else
INSERT INTO log VALUES (:tenant);
\\endif
"""
PIPED = """
\\if :client_id = 0
\\startpipeline
INSERT INTO log VALUES (:tenant);
\\endpipeline
\\else
SELECT count(*) AS n FROM log WHERE tenant = :tenant \\gset
SELECT 1 / :n::int;
\\endif
"""
DRAWN = """
\\set wait random(1, 1000000)
INSERT INTO log VALUES (:wait);
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[[str], Scenario]:
    return lambda text: made(tmp_path, script=text, schema=SCHEMA)


def test_sessions_that_do_different_things_are_not_taken_for_alike(
    look: Look, scenario: Callable[[str], Scenario]
) -> None:
    """Only where the second session goes first is anything wrong."""
    assert same(look, "it", scenario=scenario(UNLIKE)).verdict is Verdict.INVALID


def test_a_pipeline_without_a_transaction_commits_at_its_end(look: Look, scenario: Callable[[str], Scenario]) -> None:
    """So a read before it and a read after it are two things, though it is but a write."""
    outcomes = same(look, "it", scenario=scenario(PIPED)).outcomes
    refused = {session.sqlstate for outcome in outcomes for session in outcome.sessions}
    assert refused == {"", "22012"}


@pytest.mark.parametrize("strategy", ["naive", "unique-retry", "repeatable-read-max", "lock-after-select"])
def test_sessions_that_only_read_so_far_or_begin_again_are_alike_and_the_outcomes_stay(
    look: Look, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside three sessions that are alike only before their first step; all orders of three would be too many."""
    fewer = look(strategy, sessions=3)
    took = Pasts.took

    def lasting(self: Pasts, session: int, _touches: Footprint, *, waits: bool = False, **_: bool) -> None:
        took(self, session, Footprint.ANYTHING, waits=waits)

    monkeypatch.setattr(Pasts, "took", lasting)
    more = look(strategy, sessions=3)
    assert fewer.complete
    assert more.complete
    assert fewer.run < more.run
    assert set(fewer.outcomes) == set(more.outcomes)


def test_rows_that_are_added_in_any_order_do_not_tell_sessions_apart() -> None:
    pasts, adds = Pasts(), Footprint(holds=ALL, adds=True)
    for session in (1, 2, 3):
        pasts.took(session, Footprint.SERIALIZABLE_READ, commutes=True)
        pasts.took(session, adds, commutes=True)
        pasts.took(session, Footprint.SERIALIZABLE_READ, commutes=session != 3)
    assert pasts.of(1) == pasts.of(2) is not None
    assert pasts.of(3) not in (None, pasts.of(1))  # what it read depends on whether the others had added their rows
    pasts.took(4, adds)
    assert pasts.of(4) is None


SERIALIZABLE = """summary = "made for a test"
schema = "schema.sql"
forbid = ["violations"]
[rows]
table = "events"
id = "id"
version = "version"
tenant = "tenant"
operation = "operation"
[invariants]
twice = "SELECT version FROM events GROUP BY version HAVING count(id) > 1"
[strategies.it]
summary = "it"
script = "it.sql"
isolation = "serializable"
retry = { sqlstates = ["40001"], tries = 2 }
"""
EVENTS = (
    "CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant int, version int {}, "
    "operation bigint); CREATE INDEX ON events (version);"
)
MAXIMUM = """BEGIN;
SELECT coalesce(max(version), 0) + 1 AS version FROM events \\gset
INSERT INTO events (tenant, version, operation) VALUES (1, :version, :operation);
COMMIT;
"""


@pytest.mark.parametrize(("unique", "count"), [("", 1), ("UNIQUE", 1), ("", 0)])
def test_serializable_sessions_go_on_once_from_each_state_and_the_outcomes_stay(
    embedded: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unique: str, count: int
) -> None:
    """Beside a search without states, in which a row that is added tells its session apart."""
    manifest = SERIALIZABLE.replace("> 1", f"> {count}")
    for name, text in {"scenario.toml": manifest, "schema.sql": EVENTS.format(unique), "it.sql": MAXIMUM}.items():
        (tmp_path / name).write_text(text)
    scenario = catalog.find_scenario(str(tmp_path))
    asked = ExplorationRequest(scenario=scenario, strategy=scenario.strategies["it"], sessions=3)
    fewer = explore(embedded, asked)
    monkeypatch.setattr(Touching, "state", lambda _: None)
    monkeypatch.setattr(touching, "addable", lambda *_: frozenset())
    more = explore(embedded, asked)
    assert fewer.complete
    assert more.complete
    assert set(fewer.outcomes) == set(more.outcomes)
    assert fewer.verdict is more.verdict is (Verdict.VALID if count else Verdict.INVALID)
    # A unique index compares the rows, and a session waits.
    assert fewer.run + fewer.pruned < more.run + more.pruned or unique


def test_what_a_session_did_tells_it_apart_until_it_is_rolled_back() -> None:
    pasts = Pasts()
    assert pasts.of(1) == pasts.of(2) == ()
    pasts.took(1, Footprint.READ)
    assert pasts.of(1) != pasts.of(2)
    pasts.took(2, Footprint.SERIALIZABLE_READ)
    assert pasts.of(1) == pasts.of(2)  # they saw the same
    pasts.took(3, Footprint.WRITE)
    pasts.took(1, Footprint.READ)
    assert pasts.of(3) is None
    pasts.took(4, Footprint.READ)
    assert len({pasts.of(session) for session in (1, 2, 3, 4)}) == 4
    pasts.begins_again(3)
    assert pasts.of(3) == pasts.of(5) == ()
    pasts.took(5, Footprint.READ, waits=True)
    assert pasts.of(5) is None  # it waited: not alone in its queue
    pasts.took(6, Footprint.ANYTHING, undone=True)
    pasts.took(7, Footprint.ANYTHING)
    for session in (6, 7):
        pasts.begins_again(session)
    assert pasts.of(6) == ()
    assert pasts.of(7) is None  # a lock of a session, say, outlives a rollback


def test_a_script_draws_the_same_in_every_schedule(
    embedded: Target, look: Look, scenario: Callable[[str], Scenario]
) -> None:
    made = scenario(DRAWN + "SELECT tenant AS mine FROM log WHERE tenant = :wait LIMIT 1 \\gset\n")
    found = look("it", scenario=made, reduce=False)
    assert found.complete
    assert not found.anomalous
    asked = ExplorationRequest(scenario=made, strategy=made.strategies["it"])
    said = [replay(embedded, asked, (1, 1, 1, 1, 2, 2, 2, 2)).steps for _ in range(2)]
    assert said[0] == said[1]
    assert said[0][3].answered == said[0][7].answered != ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("INSERT INTO t VALUES (:operation, :tenant);", True),
        ("\\set x 1 + 2\nSELECT :x;", True),
        ("SELECT :client_id;", False),
        ("\\if :client_id = 0\nSELECT 1;\n\\endif", False),
        ("\\set x random(1, 2)\nSELECT :x;", True),
        ("\\set x :operation % 2\nSELECT :x;", False),
    ],
)
def test_which_scripts_tell_their_sessions_apart(text: str, expected: bool) -> None:
    assert alike(scripts.parse(text, Path("s.sql"))) is expected


@pytest.mark.parametrize(
    ("text", "elsewhere", "expected"),
    [
        ("INSERT INTO t (a, op) VALUES (1, :operation); SELECT 1 FROM t WHERE op = :operation;", "", True),
        ("INSERT INTO t SELECT 1, coalesce(max(a), 0), :operation FROM t;", "", True),
        ("INSERT INTO t VALUES (1, :operation), (2, :operation);", "", True),
        ("INSERT INTO t VALUES (1, :operation); SELECT min(op) FROM t;", "", False),
        ("INSERT INTO t VALUES (1, :operation); SELECT a FROM t ORDER BY op;", "", False),
        ("INSERT INTO t VALUES (1, :operation);", "IF NEW.op > 5 THEN", False),
        ("INSERT INTO t VALUES (1, :operation);", "IF NEW.a > 5 THEN", True),
        ("INSERT INTO t VALUES (1, :operation % 2);", "", False),
        ("INSERT INTO t VALUES (1, mod(:operation, 2));", "", False),
        ("SELECT a FROM t WHERE op < :operation;", "", False),
        ("UPDATE t SET a = 1 WHERE op = :operation;", "", True),
    ],
)
def test_a_number_that_is_compared_tells_sessions_apart(text: str, elsewhere: str, expected: bool) -> None:
    """The first session has the lower one: it would always be the one that goes first."""
    assert alike(scripts.parse(text, Path("s.sql")), {"t": ["a", "op"]}, [elsewhere]) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("INSERT INTO t VALUES (now())", True),
        ("CREATE TABLE t (at timestamptz DEFAULT CURRENT_TIMESTAMP)", True),
        ("SELECT count(*) FROM pg_stat_activity", True),
        ("SELECT known, clock_timestamp() FROM t", False),
    ],
)
def test_begin_is_a_step_where_the_transactions_time_can_be_read(text: str, expected: bool) -> None:
    assert begin_is_seen([text]) is expected


class Waking:
    """s1 waits until s2's write lets its commit go on; s3 reads before or after."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, ...]] = set()
        self.taken: list[int] = []

    def begin(self) -> None:
        self.taken = []

    def choices(self) -> list[Choice]:
        both = (Choice(2, Footprint.WRITE), Choice(3, Footprint.READ))
        return [choice for choice in both if choice.number not in self.taken]

    def state(self) -> None:
        """Nothing is known of its states."""

    def take(self, session: int) -> Footprint | None:
        self.taken.append(session)
        return Footprint.ANYTHING if session == 2 else None

    def end(self, schedule: Sequence[int], *, complete: bool) -> None:
        if complete:
            self.seen.add(tuple(schedule))


def test_what_a_step_unblocks_is_part_of_that_step() -> None:
    world = Waking()
    assert search(world, reduce=True, go_on=lambda _: True).complete
    assert world.seen == {(2, 3), (3, 2)}
