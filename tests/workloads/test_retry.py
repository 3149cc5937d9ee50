"""The retry rule, which `run` and `explore` both drive."""

from __future__ import annotations

from random import Random

import pytest

from racebench.core.model import Outcome, Retry
from racebench.workloads.retry import Tries

RULE = Retry(sqlstates=frozenset({"40001"}), tries=4, backoff_ms=2.0)


def number_of_tries(rule: Retry | None, most: int | None = None) -> int:
    tries = Tries(rule, most)
    while tries.again(Outcome.FAIL, "40001"):
        pass
    return tries.number


def test_an_operation_is_tried_as_often_as_the_rule_says() -> None:
    assert number_of_tries(None) == 1
    assert number_of_tries(RULE) == 4
    assert number_of_tries(RULE, most=3) == 3
    assert number_of_tries(RULE, most=20) == 4


@pytest.mark.parametrize(
    ("outcome", "sqlstate"),
    [(Outcome.OK, ""), (Outcome.OK, "40001"), (Outcome.UNKNOWN, "40001"), (Outcome.FAIL, "23505"), (Outcome.FAIL, "")],
)
def test_only_a_failure_that_the_rule_names_is_tried_again(outcome: Outcome, sqlstate: str) -> None:
    tries = Tries(RULE)
    assert not tries.again(outcome, sqlstate)
    assert tries.number == 1


def test_a_rule_that_sends_again_takes_a_lost_connection_for_a_failure_whatever_is_known_of_the_commit() -> None:
    """Also one that names the SQLSTATE, as long as nothing may have been committed."""
    lost = Retry(sqlstates=frozenset(), tries=5, lost=True)
    named = Retry(sqlstates=frozenset({"08006"}), tries=5)
    for rule, outcome, sqlstate, again in (
        (lost, Outcome.UNKNOWN, "08006", True),
        (lost, Outcome.FAIL, "57P01", True),
        (lost, Outcome.FAIL, "40001", False),
        (lost, Outcome.OK, "", False),
        (named, Outcome.FAIL, "08006", True),
        (named, Outcome.UNKNOWN, "08006", False),
    ):
        assert Tries(rule).again(outcome, sqlstate) is again, (rule, outcome, sqlstate)


def test_pauses_double_up_to_sixteen_times_the_first_and_are_the_same_for_a_seed() -> None:
    class Most(Random):
        def uniform(self, a: float, b: float) -> float:  # noqa: ARG002 - Random's
            return b

    tries = Tries(Retry(sqlstates=frozenset({"40001"}), tries=9, backoff_ms=2.0))
    longest = [tries.pause_s(Most()) for _ in range(8) if tries.again(Outcome.FAIL, "40001")]
    assert longest == [pytest.approx(ms / 1e3) for ms in (2, 4, 8, 16, 32, 32, 32, 32)]
    assert tries.pause_s(Random("7/1")) == tries.pause_s(Random("7/1"))
    assert Tries(RULE).pause_s(Random(1)) == 0.0
