"""What operations do when they run one after the other: in which orders, and whose failure excuses whose."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from racebench.core.errors import UsageProblem
from racebench.exploration.sessions.alone import Alone, refuse_broken


@dataclass(frozen=True)
class Session:
    runs: str


def test_orders_that_run_the_same_are_one() -> None:
    assert len(Alone([Session("a"), Session("a")]).orders) == 1
    assert len(Alone([Session("a"), Session("b"), Session("a")]).orders) == 3
    assert len(Alone([Session("a"), Session("b"), Session("c"), Session("d")]).orders) == 2


def test_a_failure_excuses_sessions_that_run_the_same() -> None:
    one, other = Session("a"), Session("b")
    alone = Alone([one, other])
    alone.failed(one, "HTTP 409")
    alone.failed(other, "")
    assert alone.failures(one) == {"HTTP 409"}
    assert alone.failures(other) == set()


def test_it_excuses_all_where_not_every_order_was_run() -> None:
    sessions = [Session(name) for name in "abcd"]
    alone = Alone(sessions)
    alone.failed(sessions[0], "HTTP 409")
    assert all(alone.failures(session) == {"HTTP 409"} for session in sessions)


def test_rows_that_break_the_invariant_without_a_race_are_named() -> None:
    refuse_broken(0, "the calls", "the calls")
    with pytest.raises(UsageProblem, match=r"^2 rows break the invariant when the calls run one after the other"):
        refuse_broken(2, "the calls", "the calls")
