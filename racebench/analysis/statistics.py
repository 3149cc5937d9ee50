"""Exact percentiles of any number of values. Bounds and intervals are in estimates.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_MANTISSA = 10
_LEAST = 1022 << _MANTISSA  # the float 0.5; below every whole number but 0
_BUCKETS = 66 << _MANTISSA
_HELD = 1 << 20


def percentile(sorted_values: npt.NDArray[Any], q: float) -> float | None:
    """The exact nearest-rank percentile of sorted values: the smallest value that at least a share q does not exceed.

    None without values. `q` is from 0 to 1.
    """
    if len(sorted_values) == 0:
        return None
    rank = max(1, math.ceil(q * len(sorted_values)))
    return float(sorted_values[rank - 1])


def percentiles(
    pieces: Callable[[], Iterable[npt.NDArray[np.int64]]], wanted: Mapping[str, float]
) -> dict[str, float | None]:
    """Exact nearest-rank percentiles of values from 0 that are given twice, in pieces; None without values.

    The first pass counts the values by their leading bits (buckets 0.1 % wide). The second pass keeps the distinct
    values of the buckets that contain a percentile. Memory does not grow with the number of values.
    """
    counts = np.zeros(_BUCKETS, np.int64)
    for piece in pieces():
        counts += np.bincount(_bucket(piece), minlength=_BUCKETS)
    below = np.cumsum(counts)
    total = int(below[-1])
    if not total:
        return dict.fromkeys(wanted)
    ranks = {name: max(1, math.ceil(q * total)) for name, q in wanted.items()}
    matter = np.zeros(_BUCKETS, bool)
    matter[np.searchsorted(below, list(ranks.values()))] = True
    values, times = _tally(piece[matter[_bucket(piece)]] for piece in pieces())
    before = below - counts
    # The rank of the last of each value: those of its bucket so far, and all in buckets below.
    last = np.cumsum(times)
    buckets = _bucket(values)
    firsts = np.searchsorted(buckets, buckets)
    ends = last - (last - times)[firsts] + before[buckets]
    return {name: float(values[np.searchsorted(ends, rank)]) for name, rank in ranks.items()}


def _bucket(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Exponent and leading bits of each value as a float; the result is monotonic."""
    bits = np.ascontiguousarray(values).astype(np.float64).view(np.int64) >> (52 - _MANTISSA)
    buckets: npt.NDArray[np.int64] = np.maximum(bits - _LEAST, 0)
    return buckets


def _tally(pieces: Iterable[npt.NDArray[np.int64]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The distinct values, in order, and the number of times that each occurs."""
    values, times = np.empty(0, np.int64), np.empty(0, np.int64)
    held: list[npt.NDArray[np.int64]] = []
    waiting = 0
    for piece in pieces:
        held.append(piece)
        waiting += len(piece)
        if waiting > _HELD:
            values, times = _added(values, times, held)
            held, waiting = [], 0
    return _added(values, times, held)


def _added(
    values: npt.NDArray[np.int64], times: npt.NDArray[np.int64], held: list[npt.NDArray[np.int64]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    new, counts = np.unique(np.concatenate([np.empty(0, np.int64), *held]), return_counts=True)
    both, where = np.unique(np.concatenate([values, new]), return_inverse=True)
    summed = np.zeros(len(both), np.int64)
    np.add.at(summed, where, np.concatenate([times, counts]))
    return both, summed
