"""What a consumer remembers: a set's answers in a fraction of a set's memory."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from racebench.workloads.deduplication import Seen

IDS = st.one_of(st.integers(0, 300), st.integers(65_500, 65_600), st.integers(-(2**63), 2**63 - 1))


@given(st.lists(IDS, max_size=200))
def test_a_seen_set_answers_like_a_set(ids: list[int]) -> None:
    seen, known = Seen(), set()
    for identity in ids:
        assert seen.add(identity) == (identity not in known)
        known.add(identity)
    assert len(seen) == len(known)


def test_each_dense_id_is_new_once_in_any_order() -> None:
    seen = Seen()
    assert sum(seen.add(identity * 7919 % 200_000) for identity in range(400_000)) == 200_000


def test_a_million_dense_ids_take_less_than_half_a_megabyte() -> None:
    tracemalloc.start()
    seen = Seen()
    for identity in range(1_000_000):
        seen.add(identity)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 1 << 19
