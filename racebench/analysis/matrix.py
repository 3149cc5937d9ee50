"""Arranges runs by strategy and consumer: the share of rows missed by each pair, and the cost of the consumer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from racebench.core.results import ConsumerResult, RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One strategy with one consumer.

    `relative` is the strategy's throughput with the consumer, relative to its throughput without one; None if there is
    no run without one, or if several consumers read at the same time.
    """

    run: RunResult
    consumer: ConsumerResult
    relative: float | None

    @property
    def missed(self) -> float:
        """The share of the rows that the consumer missed."""
        return _share(self.consumer.counts["missed"], self.run.counts["rows"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """The runs of a matrix.

    `alone`: each strategy's throughput without a consumer, in commits a second. `duplicates`: the share of the rows,
    over all runs of a strategy, whose version another row already has.
    """

    strategies: Sequence[str]
    consumers: Sequence[str]
    pairs: Mapping[tuple[str, str], Pair]
    alone: Mapping[str, float]
    duplicates: Mapping[str, float]


def arrange(runs: Sequence[RunResult]) -> Matrix:
    """Arrange runs by strategy and consumer, both in the order in which they come."""
    alone = {run.strategy: run.throughput_per_s for run in runs if not run.consumers}
    pairs: dict[tuple[str, str], Pair] = {}
    for run in runs:
        base = alone.get(run.strategy, 0.0) if len(run.consumers) == 1 else 0.0
        relative = run.throughput_per_s / base if base > 0 else None
        for consumer in run.consumers:
            pairs[run.strategy, consumer.name] = Pair(run=run, consumer=consumer, relative=relative)
    strategies = list(dict.fromkeys(run.strategy for run in runs))
    return Matrix(
        strategies=strategies,
        consumers=list(dict.fromkeys(consumer for _, consumer in pairs)),
        pairs=pairs,
        alone=alone,
        duplicates={strategy: _duplicates(runs, strategy) for strategy in strategies},
    )


def _duplicates(runs: Sequence[RunResult], strategy: str) -> float:
    counts = [run.counts for run in runs if run.strategy == strategy]
    return _share(sum(of["duplicates"] for of in counts), sum(of["rows"] for of in counts))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
