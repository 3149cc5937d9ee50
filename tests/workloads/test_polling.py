"""The consumer's cursor: one rule, which `run` and `explore` both drive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Command
from racebench.core.errors import ScenarioProblem
from racebench.core.model import Consumer, Load, Script, Statement
from racebench.core.target import Target
from racebench.executors.processes import Processes
from racebench.exploration.explorer import replay
from racebench.exploration.request import ExplorationRequest
from racebench.load.driver import LoadDriver
from racebench.workloads import catalog
from racebench.workloads.deduplication import Seen
from racebench.workloads.manifest import read_scenario
from racebench.workloads.polling import Cursor, Delivery, Draining, tenants

MANIFEST = """
title = "Two rows"
summary = "A row with a version, and a row without one."
schema = "schema.sql"

[rows]
table = "events"

[strategies.two]
summary = "both in one transaction"
script = "two.sql"

[consumers.plain]
summary = "by version, and what has none"
script = "poll.sql"
cursor = { version = "zero" }
"""
SCHEMA = "CREATE TABLE events (id bigserial, tenant integer, version bigint, operation bigint);"
TWO_ROWS = (
    "INSERT INTO events (tenant, version, operation) VALUES (:tenant, :operation, :operation), (:tenant, NULL, NULL);"
)
NULL_LAST = (
    "SELECT id, version FROM events WHERE tenant = :tenant AND (version > :version OR version IS NULL) ORDER BY id;"
)
WITHOUT_ID = "SELECT version FROM events WHERE tenant = :tenant AND version > :version;"


@pytest.fixture
def scenario_folder(tmp_path: Path) -> Callable[[str], Path]:
    def write(query: str) -> Path:
        folder = tmp_path / "two-rows"
        folder.mkdir()
        for name, text in (
            ("scenario.toml", MANIFEST),
            ("schema.sql", SCHEMA),
            ("two.sql", TWO_ROWS),
            ("poll.sql", query),
        ):
            (folder / name).write_text(text)
        return folder

    return write


@pytest.mark.server
def test_a_query_without_id_is_the_same_line_under_run_and_explore(
    racebench: Command, scenario_folder: Callable[[str], Path]
) -> None:
    scenario_folder(WITHOUT_ID)
    common = ("./two-rows", "-s", "two", "--consumer", "plain", "--no-save")
    under_run = racebench("run", *common, "--workers", "1", "--operations", "2")
    under_explore = racebench("explore", *common)
    assert under_run.returncode == under_explore.returncode == 2, under_explore.stderr
    assert "poll.sql:1: the consumer's query has no column 'id'" in under_run.stderr
    assert under_explore.stderr == under_run.stderr


def test_a_null_cursor_keeps_its_value_under_run_and_explore_alike(
    embedded: Target, processes: Processes, scenario_folder: Callable[[str], Path]
) -> None:
    scenario = read_scenario(scenario_folder(NULL_LAST))
    strategy, consumer = scenario.strategies["two"], scenario.consumers["plain"]
    asked = ExplorationRequest(scenario=scenario, strategy=strategy, consumer=consumer, sessions=1, polls=2)
    explored = replay(embedded, asked, (1, 1, 1, 2, 2))
    polls = [step.answered for step in explored.steps if step.session == "s2"]
    assert polls == [("2 new; cursor at version = 0",), ("0 new; cursor at version = 0",)]
    load = Load(workers=1, duration_s=None, operations=1)
    result = LoadDriver(target=embedded, executor=processes).run(scenario, strategy, [consumer], load, lambda _: None)
    again = {row["id"] for witness in result.witnesses if witness.kind == "redelivered" for row in witness.rows}
    assert again == {1, 2}


# The rule by itself


class Rows:
    """A page of rows, as libpq has it: text, and None for NULL."""

    def __init__(self, names: str, *rows: tuple[bytes | None, ...]) -> None:
        self._names, self._rows = names.split(), rows

    @property
    def ntuples(self) -> int:
        return len(self._rows)

    @property
    def nfields(self) -> int:
        return len(self._names)

    def fname(self, column: int, /) -> bytes | None:
        return self._names[column].encode()

    def get_value(self, row: int, column: int, /) -> bytes | None:
        return self._rows[row][column]


def cursor_of(columns: dict[str, str] | None = None, *, dedupe: bool = False, seen: Seen | None = None) -> Cursor:
    columns = {"version": "zero"} if columns is None else columns
    query = f"SELECT * FROM events WHERE tenant = :tenant LIMIT :batch{''.join(f' -- :{name}' for name in columns)};"
    names = ("tenant", "batch", *columns)
    statement = Statement(line=1, text=query, sql=query, parameters=names)
    consumer = Consumer(
        name="plain",
        summary="",
        script=Script(path=Path("poll.sql"), text=query, steps=(statement,)),
        cursor=columns,
        dedupe=dedupe,
    )
    return Cursor(consumer, tenant=7, zero="-1", batch=50, seen=Seen() if seen is None else seen)


def test_a_cursor_sends_the_values_of_the_last_row_and_begins_at_zero() -> None:
    cursor = cursor_of({"version": "zero", "id": "5"})
    assert cursor.parameters() == [b"7", b"50", b"-1", b"5"]
    assert cursor.take(Rows("version id", (b"10", b"1"), (b"11", b"2"))) == Delivery([1, 2], 2, 2)
    assert cursor.parameters() == [b"7", b"50", b"11", b"2"]


def test_an_empty_page_delivers_nothing_and_moves_no_cursor() -> None:
    cursor = cursor_of()
    assert cursor.take(Rows("anything")) == Delivery((), 0, 0)
    assert cursor.position == {"version": b"-1"}


def test_rows_seen_before_are_not_new_and_are_dropped_only_by_a_consumer_that_drops_them() -> None:
    page = Rows("id version", (b"1", b"1"), (b"2", b"2"))
    for dedupe, again in ((False, [1, 2, 3]), (True, [3])):
        cursor = cursor_of(dedupe=dedupe)
        cursor.take(page)
        assert cursor.take(Rows("id version", (b"1", b"1"), (b"2", b"2"), (b"3", b"3"))) == Delivery(again, 1, 3)


def test_the_tenants_of_a_consumer_share_what_it_has_seen() -> None:
    seen = Seen()
    page = Rows("id version", (b"1", b"1"))
    assert [cursor_of(seen=seen).take(page).new for _ in range(2)] == [1, 0]


def test_a_null_in_the_last_row_leaves_a_column_as_it_was() -> None:
    cursor = cursor_of({"version": "zero", "id": "0"})
    cursor.take(Rows("id version", (b"1", b"8"), (b"2", None)))
    assert cursor.position == {"version": b"-1", "id": b"2"}
    cursor.take(Rows("id version", (None, b"9")))
    assert cursor.position == {"version": b"9", "id": b"2"}


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (Rows("version", (b"1",)), "poll.sql:1: the consumer's query has no column 'id'"),
        (Rows("id", (b"1",)), "poll.sql:1: the consumer's query has no column 'version'"),
        (Rows("id version", (b"a1", b"1")), "poll.sql:1: the consumer's query returned the id 'a1'"),
    ],
)
def test_a_page_that_cannot_be_read_is_one_line(page: Rows, message: str) -> None:
    with pytest.raises(ScenarioProblem, match=message):
        cursor_of().take(page)


def test_a_consumer_is_polled_for_each_tenant_or_once() -> None:
    consumer = catalog.find_scenario("version-counter").consumers["cursor"]
    assert list(tenants(consumer, 3)) == [1, 2, 3]
    assert list(tenants(replace(consumer, per_tenant=False), 3)) == [0]


def rounds_until_read(draining: Draining, rounds: list[tuple[float, int, bool]]) -> int | None:
    """The number of the round that ends a drain; each round has a time, its new rows, and whether all are there."""
    for number, (now, new, complete) in enumerate(rounds, 1):
        draining.begin_round(now)
        if draining.end_round(new, now + 0.01, complete=complete):
            return number
    return None


def test_a_drain_ends_at_the_last_row_after_its_quiet_rounds() -> None:
    rounds = [(0.0, 2, False), (0.1, 0, False), (0.2, 1, True), (0.3, 0, True), (0.4, 0, True)]
    assert rounds_until_read(Draining(settle_s=9.0, quiet_rounds=2, now_s=0.0), rounds) == 5
    assert rounds_until_read(Draining(settle_s=9.0, quiet_rounds=1, now_s=0.0), rounds) == 4


def test_a_drain_without_every_row_ends_by_a_round_that_begins_after_the_settling_time() -> None:
    rounds = [(0.0, 1, False), (0.5, 0, False), (1.0, 0, False), (1.02, 0, False)]
    assert rounds_until_read(Draining(settle_s=1.0, quiet_rounds=2, now_s=0.0), rounds) == 4
