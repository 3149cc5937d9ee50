"""Short digests of what is run, so that a schedule or a baseline of another version of it is recognized."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from racebench.core.model import Consumer, Scenario, Strategy


def digest(strategy: Strategy, consumer: Consumer | None) -> str:
    """Eight hexadecimal digits that change with what a schedule runs: scripts, DDL, isolation level, retry rule."""
    texts = [strategy.script.text, *(part.text for part in strategy.schema), str(strategy.isolation)]
    texts += [str(strategy.retry and sorted(strategy.retry.sqlstates))]
    if consumer is not None:
        texts += [consumer.script.text, str(sorted(consumer.cursor.items())), str(sorted(consumer.variables.items()))]
    return _eight_digits(texts)


def frame(scenario: Scenario, consumers: Sequence[Consumer]) -> str:
    """Eight hexadecimal digits that change with what strategies share: schema, invariants, consumers' queries."""
    texts = [*(part.text for part in scenario.schema), *scenario.invariants.values()]
    texts += [call.text for call in (*scenario.setup, *scenario.checks.values())]
    for consumer in consumers:
        parts = (*consumer.schema, *consumer.opening, *consumer.closing)
        texts += [consumer.name, consumer.script.text, *(part.text for part in parts)]
        texts += [str(sorted(consumer.cursor.items())), str(sorted(consumer.variables.items()))]
    return _eight_digits(texts)


def _eight_digits(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]
