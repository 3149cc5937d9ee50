"""Sorts more records than memory holds: sorted runs in scratch space, merged block by block.

It is used for ids and versions that are too far apart for a table with a place for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.history.spill import Scratch, release

Array = npt.NDArray[Any]


def in_order(scratch: Scratch, parts: Iterable[Array], keys: tuple[str, ...]) -> Iterator[Array]:
    """Yield all records of structured arrays, sorted by `keys` (the first key first), about a piece at a time."""
    runs: list[Array] = []
    held: list[Array] = []
    waiting = 0
    dtype: Any = None
    for part in parts:
        dtype = part.dtype
        held.append(np.array(part))
        waiting += len(part)
        if waiting >= scratch.piece:
            runs.append(_run(scratch, held, keys))
            held, waiting = [], 0
    if waiting:
        runs.append(_run(scratch, held, keys))
    if dtype is None or not runs:
        return
    stride = max(1, scratch.piece // (4 * len(runs)))
    samples = _sorted(np.concatenate([run[stride - 1 :: stride] for run in runs]), keys)
    step = max(1, scratch.piece // stride - len(runs))
    cuts = samples[step - 1 :: step]
    until = [np.append(_positions(run, cuts, keys), len(run)) for run in runs]
    low = [0] * len(runs)
    for block in range(len(cuts) + 1):
        high = [int(ends[block]) for ends in until]
        yield _sorted(np.concatenate([run[a:b] for run, a, b in zip(runs, low, high, strict=True)]), keys)
        for run in runs:
            release(run)
        low = high


def _run(scratch: Scratch, parts: list[Array], keys: tuple[str, ...]) -> Array:
    column = scratch.column(parts[0].dtype)
    column.append(_sorted(np.concatenate(parts), keys))
    return column.array()


def _sorted(records: Array, keys: tuple[str, ...]) -> Array:
    if len(keys) == 1:
        ordered: Array = records[np.argsort(records[keys[0]], kind="stable")]
    else:
        ordered = records[np.lexsort([records[key] for key in reversed(keys)])]
    return ordered


def _positions(run: Array, cuts: Array, keys: tuple[str, ...]) -> Array:
    """The number of records of a sorted run at or before each cut, by bisection of all cuts together."""
    low, high = np.zeros(len(cuts), np.int64), np.full(len(cuts), len(run), np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        inside = np.minimum(middle, len(run) - 1)
        after = np.zeros(len(cuts), bool)
        equal = np.ones(len(cuts), bool)
        for key in keys:
            mine, theirs = run[key][inside], cuts[key]
            after |= equal & (mine > theirs)
            equal &= mine == theirs
        open_ = low < high
        low = np.where(open_ & ~after, middle + 1, low)
        high = np.where(open_ & after, middle, high)
    release(run)
    return low
