"""Scratch space behaves as memory does, takes little of it, and sorts what memory would not hold."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from racebench.analysis.statistics import percentile, percentiles
from racebench.history.external_sort import in_order
from racebench.history.spill import Scratch, gather, pieces, release, scatter


@pytest.mark.parametrize("small", [0, 1 << 40])
def test_an_array_in_a_file_is_an_array(small: int) -> None:
    with Scratch(small=small) as scratch:
        array = scratch.zeros(1 << 23, np.int64)
        where = np.random.default_rng(1).integers(0, len(array), 100_000)
        scatter(array, where, np.arange(100_000))
        plain = np.zeros(1 << 23, np.int64)
        plain[where] = np.arange(100_000)
        assert np.array_equal(gather(array, where), plain[where])
        release(array)
        assert np.array_equal(array, plain)


@given(st.lists(st.lists(st.integers(0, 9), max_size=5)), st.sampled_from([0, 1 << 20]))
def test_what_is_appended_is_there(parts: list[list[int]], small: int) -> None:
    with Scratch(small=small) as scratch:
        column = scratch.column(np.int64)
        for part in parts:
            column.append(np.array(part, np.int64))
        whole = column.array()
        assert whole.tolist() == [value for part in parts for value in part]
        assert [value for piece in pieces(whole, 2) for value in piece.tolist()] == whole.tolist()


PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5)), max_size=60)


@given(st.lists(PAIRS, max_size=4), st.integers(1, 9), st.sampled_from([0, 1 << 20]))
def test_sorted_in_pieces_is_sorted(parts: list[list[tuple[int, int]]], piece: int, small: int) -> None:
    dtype = np.dtype([("a", "<i8"), ("b", "<i8")])
    with Scratch(piece=piece, small=small) as scratch:
        blocks = list(in_order(scratch, (np.array(part, dtype) for part in parts), ("a", "b")))
        found = [pair for block in blocks for pair in block.tolist()]
    assert found == sorted(pair for part in parts for pair in part)


@given(
    st.lists(st.lists(st.integers(0, 2**62) | st.integers(0, 20), max_size=20), max_size=5),
    st.lists(st.floats(0.001, 1.0), min_size=1, max_size=4),
)
def test_percentiles_in_pieces_are_exact(parts: list[list[int]], wanted: list[float]) -> None:
    arrays = [np.array(part, np.int64) for part in parts]
    whole = np.sort(np.concatenate([np.empty(0, np.int64), *arrays]))
    found = percentiles(lambda: arrays, {str(q): q for q in wanted})
    assert found == {str(q): percentile(whole, q) for q in wanted}


def test_random_places_of_a_large_array_do_not_bring_all_of_it_into_memory() -> None:
    program = """
import resource
import numpy as np
from racebench.history.spill import Scratch, gather, scatter
with Scratch(small=0) as scratch:
    array = scratch.zeros(1 << 25, np.int64)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    where = np.random.default_rng(1).integers(0, len(array), 1 << 16)
    scatter(array, where, 1)
    assert gather(array, where).all()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60 << 10, "256 MiB were touched, in kilobytes"
