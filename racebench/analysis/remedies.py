"""What to use in place of what broke: another strategy or another consumer, as the scenario declares them right.

Whose fault it is follows from the pair. Rows are missed because the strategy commits in another order than it numbers,
or, if it does not, because of the consumer. Everything else but redelivered rows is the strategy's doing.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from racebench.core.anomalies import ANOMALIES, Evidence, needing
from racebench.core.model import Consumer, Load, Scenario, Strategy


def expected_misses(strategy: Strategy, consumer: Consumer) -> str:
    """Whether a consumer misses rows of a strategy, as far as it is known: "always", "maybe" or "never".

    A consumer with misses = "never" misses none. A consumer with misses = "unordered" follows the order of the numbers,
    and misses rows of a strategy that does not commit in that order; one with misses = "maybe" may miss some of them.
    Rows of a strategy that commits in order are missed only if the consumer holds rows back by the time of their
    insertion and they get their numbers after it.
    Example: row A is inserted, then row B; B commits first and is numbered 1, A 2. When A is old enough to be read and
    B is not, the cursor passes B.
    A consumer that misses rows only on a standby goes by transactions and not by numbers, and may miss some of any
    strategy there.
    """
    if consumer.misses == "never" and consumer.misses_here != "never":
        return "always" if consumer.misses_here == "unordered" and "missed" in strategy.expect else "maybe"
    if consumer.misses != "never" and consumer.by_insertion and strategy.stamped:
        return "maybe"
    if consumer.misses == "never" or "missed" not in strategy.expect | strategy.may:
        return "never"
    return "always" if consumer.misses == "unordered" and "missed" in strategy.expect else "maybe"


def is_at_fault(consumer: Consumer, strategy: Strategy) -> bool:
    """Whether rows of a strategy that a consumer misses are missed by its own doing, in whatever order they commit."""
    if "missed" in strategy.expect | strategy.may:
        return consumer.misses == "never"
    return consumer.misses == "never" or expected_misses(strategy, consumer) != "never"


def instead(scenario: Scenario, strategy: Strategy, consumer: Consumer | None, found: Set[str]) -> str | None:
    """The strategy or the consumer to use in place of a pair, by what was found of it; None if none is a remedy."""
    of_consumer = "missed" in found and found <= {*needing(Evidence.CONSUMER)}
    if consumer is not None and of_consumer and is_at_fault(consumer, strategy):
        return other_consumer(scenario, strategy, consumer)
    if not found or not min((ANOMALIES[kind] for kind in found), key=lambda kind: kind.advice_rank).advises_strategy:
        return None
    return other_strategy(scenario, strategy, () if consumer is None else (consumer,), found)


def other_strategy(
    scenario: Scenario, strategy: Strategy, consumers: Sequence[Consumer], found: Set[str]
) -> str | None:
    """The strategy that the scenario advises, if it is right where this one is not; None if it is no remedy.

    `consumers` are those that missed rows, `found` the anomalies.
    """
    advised = scenario.strategies.get(scenario.advise or "")
    if advised is None or advised.name == strategy.name:
        return None
    if found & (advised.expect | advised.may) - {"missed"}:
        return None
    if "missed" in found and not all(
        consumer.fits(advised) and expected_misses(advised, consumer) == "never" and not is_at_fault(consumer, strategy)
        for consumer in consumers
    ):
        return None
    return advised.name


def other_consumer(scenario: Scenario, strategy: Strategy, consumer: Consumer) -> str | None:
    """A consumer that misses no row of a strategy and needs no setting of the server; the first one of the scenario.

    In place of one on a standby it is one that is right there.
    """
    others = [other for other in scenario.consumers.values() if other.name != consumer.catalog_name]
    if consumer.on_standby:
        others = [other.at_standby() for other in others if not other.unfit_for_standby]
    return next(
        (
            other.catalog_name
            for other in others
            if other.fits(strategy) and not other.requires and expected_misses(strategy, other) == "never"
        ),
        None,
    )


def expected_kinds(strategy: Strategy, consumers: Sequence[Consumer]) -> tuple[frozenset[str], frozenset[str]]:
    """The anomalies that should occur, and those that may: the strategy's, with missed rows by its consumers."""
    certain, possible = strategy.expect - {"missed"}, strategy.may - {"missed"}
    misses = {expected_misses(strategy, consumer) for consumer in consumers}
    if "always" in misses:
        certain |= {"missed"}
    if "maybe" in misses:
        possible |= {"missed"}
    return certain, possible


def remedy(load: Load) -> str:
    """What to change so that operations overlap, as a clause."""
    if load.sessions == 1:
        return "give --workers 2 or more"
    if load.duration_s is not None:
        return "give more --workers, a longer --duration or a --hold"
    if load.operations is not None and load.operations < load.sessions:
        return "give more --operations"
    if load.operations is not None and load.operations > load.sessions:
        return "give more --workers or more --operations"
    return "give more --workers"
