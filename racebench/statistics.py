"""Percentiles and bounds. Pure functions of numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy.typing as npt


def percentile(sorted_values: npt.NDArray[Any], q: float) -> float | None:
    """The exact nearest-rank percentile of sorted values: the smallest with at least q of them at or below it.

    None for no values. `q` is from 0 to 1.
    """
    if len(sorted_values) == 0:
        return None
    rank = max(1, math.ceil(q * len(sorted_values)))
    return float(sorted_values[rank - 1])


def upper_bound_of_zero(chances: int, confidence: float = 0.95) -> float | None:
    """The largest rate at which none in `chances` would still be seen with probability 1 − confidence.

    1 − (1 − confidence)^(1/n), about 3/n ("rule of three"); None when there was no chance at all.
    Source: Clopper and Pearson (1934), the case of zero successes. It takes the chances as independent,
    which operations of one run are not quite: read it as an order of magnitude.
    """
    if chances <= 0:
        return None
    return -math.expm1(math.log1p(-confidence) / chances)
