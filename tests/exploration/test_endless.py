"""A session that repeats itself for ever is named, also where no limit of a search is looked at; a long one is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import psycopg
import pytest

from racebench.core.errors import UsageProblem
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration import endless
from racebench.exploration.endless import Endless
from racebench.exploration.explorer import explore
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration
from racebench.workloads import ad_hoc

LOCK = "SELECT pg_try_advisory_xact_lock(1)"
SETUP = "CREATE TABLE orders (number int)"


@dataclass
class Sends:
    """A session, as far as it is looked at."""

    number: int
    text: str

    @property
    def name(self) -> str:
        return f"s{self.number}"

    def literal(self) -> str:
        return self.text


def steps(texts: Any, *, others: int = 0) -> None:
    """One session sends these; another takes a step after each so many of them."""
    watched = Endless()
    for place, text in enumerate(texts, 1):
        watched.note(Sends(1, text))  # type: ignore[arg-type]
        if others and place % others == 0:
            watched.note(Sends(2, "SELECT 1"))  # type: ignore[arg-type]


def test_a_session_that_repeats_itself_is_named_and_one_with_other_values_or_in_turns_is_not() -> None:
    with pytest.raises(UsageProblem, match=r"s1 sends 'SELECT 1' and 'ROLLBACK' again and again, 1,000 steps in a row"):
        steps(["SELECT 1", "ROLLBACK"] * 600)
    steps(["SELECT 1"] * 999)
    steps(f"INSERT INTO t VALUES ({number})" for number in range(1500))
    steps(["SELECT 1", "ROLLBACK"] * 1000, others=900)


def spins(connection: psycopg.Connection[Any], tries: Any) -> None:
    for _ in tries:
        row = connection.execute(LOCK).fetchone()
        if row and row[0]:
            connection.execute("INSERT INTO orders SELECT coalesce(max(number), 0) + 1 FROM orders")
            connection.commit()
            return
        connection.rollback()


def test_a_lock_that_is_tried_for_ever_ends_the_search_with_a_line_and_one_with_a_limit_is_explored(
    embedded: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endless, "_MOST", 40)
    twice = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"

    def for_ever(connection: psycopg.Connection[Any]) -> None:
        spins(connection, count())

    def three_times(connection: psycopg.Connection[Any]) -> None:
        spins(connection, range(3))

    def explored(call: Callable[[psycopg.Connection[Any]], None]) -> Exploration:
        scenario = ad_hoc.from_calls([call], setup=[SETUP], invariants=[twice])
        (strategy,) = scenario.strategies.values()
        return explore(embedded, ExplorationRequest(scenario=scenario, strategy=strategy))

    with pytest.raises(UsageProblem, match=r"again and again, 40 steps in a row.*give its retries a limit"):
        explored(for_ever)
    assert explored(three_times).verdict is Verdict.VALID
