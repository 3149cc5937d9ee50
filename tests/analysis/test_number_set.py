"""A set of numbers that are added many at a time says of each whether it was there, as a set of Python's does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from racebench.analysis.streaming.number_set import NumberSet

EDGES = st.sampled_from([-(2**63), -(2**63) + 1, -1, 0, 1, 2**63 - 2, 2**63 - 1])
NUMBERS = st.one_of(st.integers(0, 40), EDGES, st.integers(-(2**63), 2**63 - 1))


@given(st.lists(st.lists(NUMBERS, max_size=30), max_size=12))
def test_each_number_is_known_from_its_second_time_on(portions: list[list[int]]) -> None:
    numbers, known = NumberSet(), set[int]()
    for portion in portions:
        expected = []
        for number in portion:
            expected.append(number in known)
            known.add(number)
        assert numbers.add(np.array(portion, np.int64)).tolist() == expected


def test_numbers_that_follow_each_other_take_the_room_of_one_range() -> None:
    numbers = NumberSet()
    mixed = np.random.default_rng(1).permutation(100_000)
    for portion in np.array_split(mixed, 300):
        assert not numbers.add(portion).any()
    assert numbers.ranges == 1
    assert numbers.add(mixed).all()


def test_of_more_ranges_than_may_be_kept_the_oldest_are_forgotten() -> None:
    numbers, apart = NumberSet(most_ranges=100), np.arange(0, 2000, 2)
    for portion in np.array_split(apart, 100):
        assert not numbers.add(portion).any()
        assert numbers.ranges <= 100
    assert not numbers.add(apart[:10]).any()
    assert numbers.add(apart[-10:]).all()
