"""Percentiles are exact, bounds are the textbook's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from racebench.analysis.estimates import geometric_mean, ratio_of_means, student_t, trend, upper_bound_of_zero
from racebench.analysis.statistics import percentile


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.floats(0.01, 1.0))
def test_a_percentile_is_the_smallest_value_with_enough_at_or_below(values: list[int], q: float) -> None:
    found = percentile(np.sort(np.array(values)), q)
    assert found in values
    assert sum(value <= found for value in values) >= q * len(values)
    assert sum(value < found for value in values) < q * len(values)


def test_no_values_have_no_percentile() -> None:
    assert percentile(np.array([]), 0.5) is None


@pytest.mark.parametrize("chances", [1, 10, 50_000])
def test_the_bound_is_the_rate_at_which_none_is_seen_one_time_in_twenty(chances: int) -> None:
    bound = upper_bound_of_zero(chances)
    assert bound is not None
    assert (1 - bound) ** chances == pytest.approx(0.05)


def test_fifty_thousand_clean_rows_bound_the_rate_at_six_in_a_hundred_thousand() -> None:
    assert math.isclose(upper_bound_of_zero(50_000) or 0, 6e-5, rel_tol=0.01)


def test_without_a_chance_there_is_no_bound() -> None:
    assert upper_bound_of_zero(0) is None


# Intervals

ABOVE = st.floats(0.01, 1e6)


@pytest.mark.parametrize(
    ("confidence", "freedom", "t"),
    [
        (0.95, 1, 12.706),
        (0.95, 2, 4.303),
        (0.95, 4, 2.776),
        (0.95, 6, 2.447),
        (0.95, 9, 2.262),
        (0.95, 120, 1.980),
        (0.99, 6, 3.707),
        (0.999, 7, 5.408),
    ],
)
def test_students_t_is_that_of_the_tables(confidence: float, freedom: int, t: float) -> None:
    assert student_t(confidence, freedom) == pytest.approx(t, abs=6e-4)


def test_an_interval_by_hand() -> None:
    # Logarithms 0, 1, 2: mean 1, standard error 1/√3, t of two degrees of freedom 4.3027.
    found = geometric_mean([1.0, math.e, math.e**2])
    assert found is not None
    assert found.value == pytest.approx(math.e)
    assert math.log(found.high) == pytest.approx(1 + 4.30265 / math.sqrt(3), abs=1e-4)
    assert math.log(found.low) == pytest.approx(1 - 4.30265 / math.sqrt(3), abs=1e-4)


@given(st.lists(ABOVE, min_size=2, max_size=12), st.floats(0.01, 100))
def test_the_interval_of_a_ratio_upside_down_is_the_interval_upside_down(values: list[float], factor: float) -> None:
    found, turned = geometric_mean(values), geometric_mean([1 / value for value in values])
    scaled = geometric_mean([factor * value for value in values])
    assert found is not None
    assert turned is not None
    assert scaled is not None
    assert found.low <= found.value <= found.high
    assert turned.value == pytest.approx(1 / found.value)
    if found.high < 1e200:  # beyond, what a float holds ends
        assert turned.low == pytest.approx(1 / found.high)
        assert scaled.high == pytest.approx(factor * found.high)


def test_fewer_than_two_values_and_none_above_zero_have_no_interval() -> None:
    assert geometric_mean([3.0]) is None
    assert geometric_mean([3.0, 0.0]) is None
    assert ratio_of_means([1.0, 2.0], [3.0]) is None
    assert trend([1.0, 2.0, 3.0]) is None


def test_a_hopeless_interval_is_wide_and_finite() -> None:
    found = geometric_mean([1e-300, 1e300], 0.9999)
    assert found is not None
    assert 0 < found.low < 1e-300
    assert 1e300 < found.high < math.inf


@pytest.mark.parametrize("rounds", [5, 7, 10])
@pytest.mark.parametrize("noise", ["normal", "disturbed"])
def test_paired_intervals_hold_the_truth_as_often_as_they_say(rounds: int, noise: str) -> None:
    """Each round has a pace of its own, which both share; then each side its own noise, or a round in ten far off."""
    drawn = np.random.default_rng(7)
    held, trials = 0, 3000
    for _ in range(trials):
        pace = drawn.normal(0, 0.5, rounds)
        sides = drawn.normal(0, 0.1, (2, rounds))
        if noise == "disturbed":
            sides += (drawn.random((2, rounds)) < 0.1) * drawn.normal(0, 0.4, (2, rounds))
        ours, theirs = np.exp(pace + sides[0] + math.log(0.8)), np.exp(pace + sides[1])
        found = geometric_mean((ours / theirs).tolist())
        assert found is not None
        held += found.low <= 0.8 <= found.high
    # 95 %; with outliers it errs to the wide side. Four standard errors of 3,000 trials are 1.6 %.
    assert 0.934 <= held / trials <= (0.966 if noise == "normal" else 0.985)


def test_intervals_of_two_samples_hold_the_truth_as_often_as_they_say() -> None:
    drawn = np.random.default_rng(8)
    held, trials = 0, 3000
    for _ in range(trials):
        ours, theirs = np.exp(drawn.normal(math.log(0.8), 0.2, 5)), np.exp(drawn.normal(0, 0.05, 9))
        found = ratio_of_means(ours.tolist(), theirs.tolist())
        assert found is not None
        held += found.low <= 0.8 <= found.high
    assert 0.934 <= held / trials <= 0.975  # degrees of freedom are rounded down


def test_a_trend_is_the_factor_from_the_first_to_the_last() -> None:
    found = trend([100.0, 110.0, 121.0, 133.1, 146.41])
    assert found is not None
    assert found.value == pytest.approx(1.4641)
    steady = trend([100.0, 104.0, 99.0, 103.0, 98.0, 102.0])
    assert steady is not None
    assert steady.low < 1 < steady.high
