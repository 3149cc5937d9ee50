"""Bounds and confidence intervals. Pure functions of a few numbers; numpy is not needed for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_FARTHEST = 700.0  # the largest power of e that every float holds, and one over it


def upper_bound_of_zero(chances: int, confidence: float = 0.95) -> float | None:
    """The largest rate at which 0 in `chances` still occurs with probability 1 − confidence.

    1 − (1 − confidence)^(1/n), about 3/n ("rule of three"); None without chances.
    Source: Clopper and Pearson (1934), the case of zero successes. The formula assumes independent chances. Operations
    of one run are not fully independent, so the value is an order of magnitude.
    """
    if chances <= 0:
        return None
    return -math.expm1(math.log1p(-confidence) / chances)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float


def student_t(confidence: float, freedom: int) -> float:
    """The t with P(|T| <= t) = confidence, for Student's distribution with so many degrees of freedom.

    Bisection of the finite sums for whole degrees of freedom: Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        angle = (low + high) / 2
        if _within(angle, freedom) < confidence:
            low = angle
        else:
            high = angle
    return math.tan(high) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """P(|T| <= t) where tan(angle) = t / sqrt(freedom)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    total, term = 0.0, cosine if odd else 1.0
    for power in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine * cosine * (power - 1) / power
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def geometric_mean(values: Sequence[float], confidence: float = 0.95) -> Estimate | None:
    """The geometric mean of positive values, with the t interval of their logarithms; None for fewer than two.

    For ratios it is the fair mean: that of a/b is one over that of b/a. Why t: docs/decisions/0009-compare.md.
    """
    if len(values) < 2 or min(values) <= 0:
        return None
    mean, error = _mean_and_error([math.log(value) for value in values])
    return _exponentials(mean, student_t(confidence, len(values) - 1) * error)


def ratio_of_means(ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95) -> Estimate | None:
    """The ratio of the geometric means of two independent samples; None if either has fewer than two values above 0.

    Welch's interval of the difference of the logarithms (Biometrika 34, 1947), its degrees of freedom rounded down.
    """
    if min(len(ours), len(theirs)) < 2 or min(*ours, *theirs) <= 0:
        return None
    mean, error = _mean_and_error([math.log(value) for value in ours])
    other_mean, other_error = _mean_and_error([math.log(value) for value in theirs])
    variance, other = error**2, other_error**2
    freedom = len(ours) + len(theirs) - 2
    if variance + other > 0:
        spread = variance**2 / (len(ours) - 1) + other**2 / (len(theirs) - 1)
        freedom = max(1, math.floor((variance + other) ** 2 / spread)) if spread > 0 else freedom
    return _exponentials(mean - other_mean, student_t(confidence, freedom) * math.sqrt(variance + other))


def trend(values: Sequence[float], confidence: float = 0.95) -> Estimate | None:
    """The factor between the first and the last of some positive values, by a straight line through their logarithms.

    None for fewer than four values.
    """
    n = len(values)
    if n < 4 or min(values) <= 0:
        return None
    logs = [math.log(value) for value in values]
    mean = math.fsum(logs) / n
    middle = (n - 1) / 2
    across = math.fsum((x - middle) ** 2 for x in range(n))
    slope = math.fsum((x - middle) * (y - mean) for x, y in enumerate(logs)) / across
    rest = math.fsum((y - mean - slope * (x - middle)) ** 2 for x, y in enumerate(logs))
    error = math.sqrt(rest / (n - 2) / across)
    return _exponentials(slope * (n - 1), student_t(confidence, n - 2) * error * (n - 1))


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def _exponentials(middle: float, half: float) -> Estimate:
    """The exponential; values too large or too small for a float are limited to finite ones."""
    low, value, high = (
        math.exp(max(-_FARTHEST, min(_FARTHEST, exponent))) for exponent in (middle - half, middle, middle + half)
    )
    return Estimate(value=value, low=low, high=high)
