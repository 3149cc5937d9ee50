"""How often intervals from few rounds contain the true value: Student's t and two bootstraps.

See docs/decisions/0009-compare.md.

Simulated: `python -m benchmarks.intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from statistics import NormalDist

import click
import numpy as np
import numpy.typing as npt

from racebench.analysis.estimates import geometric_mean

Logs = npt.NDArray[np.float64]
Draw = Callable[[int], Logs]

_RESAMPLES = 999
_NORMAL = NormalDist()


def noises(drawn: np.random.Generator) -> Mapping[str, Draw]:
    """Noise of a ratio's logarithm; its mean is 0."""
    return {
        "normal, 10 %": lambda n: drawn.normal(0, 0.1, n),
        "5 %, one round in ten off by 30 %": lambda n: (
            drawn.normal(0, 0.05, n) + (drawn.random(n) < 0.1) * drawn.normal(0, 0.3, n)
        ),
        "slowdowns only (exponential)": lambda n: 0.1 - drawn.exponential(0.1, n),
    }


def intervals(logs: Logs, drawn: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Each method's 95 % interval of the mean."""
    estimate = geometric_mean(np.exp(logs).tolist())
    assert estimate is not None
    yield "t", math.log(estimate.low), math.log(estimate.high)
    n = len(logs)
    means = logs[drawn.integers(0, n, (_RESAMPLES, n))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    yield "percentile bootstrap", float(low), float(high)
    # Bias-corrected and accelerated: Efron and Tibshirani (1993), 14.3.
    below = float(np.clip((means < logs.mean()).mean(), 1 / _RESAMPLES, 1 - 1 / _RESAMPLES))
    left_out = (logs.sum() - logs) / (n - 1)
    apart = left_out.mean() - left_out
    bias, skew = _NORMAL.inv_cdf(below), float((apart**3).sum() / (6 * (apart**2).sum() ** 1.5))
    ends = [bias + _NORMAL.inv_cdf(q) for q in (0.025, 0.975)]
    low, high = np.quantile(means, [_NORMAL.cdf(bias + end / (1 - skew * end)) for end in ends])
    yield "BCa bootstrap", float(low), float(high)


@click.command()
@click.option("--trials", type=click.IntRange(1), default=4000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def main(trials: int, seed: int) -> None:
    """Print how often each interval contains the true value, and its mean width, by noise and rounds."""
    drawn = np.random.default_rng(seed)
    for noise, draw in noises(drawn).items():
        for rounds in (5, 7, 10):
            held: dict[str, int] = {}
            width: dict[str, float] = {}
            for _ in range(trials):
                for name, low, high in intervals(draw(rounds), drawn):
                    held[name] = held.get(name, 0) + (low <= 0 <= high)
                    width[name] = width.get(name, 0.0) + high - low
            cells = [f"{name} {100 * held[name] / trials:.1f} % ({width[name] / trials:.2f})" for name in held]
            click.echo(f"{noise}, {rounds} rounds: {', '.join(cells)}")


if __name__ == "__main__":
    main()
