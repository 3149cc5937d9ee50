"""Axes: the position of a value in a picture, and the round values that get a tick."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_DECADE = 10.0
_AROUND = 1.25  # of a log axis, beyond the values


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from `low`, drawn at `start`, to `high`, drawn at `end`; logarithmic if `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The position of a value, rounded to a tenth; a value outside is drawn at the edge."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        share = (self._scaled(value) - low) / (high - low) if high > low else 0.5
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)

    def ticks(self, most: int) -> list[float]:
        """At most so many round values on the axis: 1, 2 or 5 times a power of ten; on a log axis, fewer of these."""
        if self.log:
            return self._log_ticks(max(most, 2))
        step = _round_step((self.high - self.low) / max(most, 1))
        return [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]

    def _log_ticks(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for factors in ((1, 2, 5), (1, 3), (1,)):
            ticks = [_DECADE**power * factor for power in range(first, last + 1) for factor in factors]
            ticks = [tick for tick in ticks if self.low * (1 - 1e-9) <= tick <= self.high * (1 + 1e-9)]
            if len(ticks) <= most:
                return ticks
        return ticks[:: math.ceil(len(ticks) / most)]

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.log else value


def linear(values: Sequence[float], start: float, end: float) -> Axis:
    """A linear axis from zero to slightly above the largest value."""
    high = max(values, default=0.0) or 1.0
    return Axis(0.0, high * 1.06, start, end)


def logarithmic(values: Sequence[float], start: float, end: float) -> Axis:
    """A logarithmic axis around all values above zero; it covers at least one decade."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive) / _AROUND, max(positive) * _AROUND
    widen = max(1.0, math.sqrt(_DECADE * low / high))
    return Axis(low / widen, high * widen, start, end, log=True)


def fitting(values: Sequence[float], start: float, end: float) -> Axis:
    """Linear, unless the values are more than ten times apart."""
    positive = [value for value in values if value > 0]
    if positive and max(positive) > _DECADE * min(positive):
        return logarithmic(values, start, end)
    return linear(values, start, end)


def _round_step(least: float) -> float:
    power = _DECADE ** math.floor(math.log10(least)) if least > 0 else 1.0
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def number(value: float) -> str:
    """A tick's text: 20,000, 0.5."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"
