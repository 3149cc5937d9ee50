"""Percentiles are exact, bounds are the textbook's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from racebench.statistics import percentile, upper_bound_of_zero


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
