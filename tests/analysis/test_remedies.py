"""The remedy that a report names is right for the pair of strategy and consumer that broke, for the whole catalog."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from judged import REFERENCE
from measured import run_of
from racebench.analysis.remedies import expected_misses, instead, is_at_fault, other_consumer, other_strategy
from racebench.core.anomalies import ANOMALIES
from racebench.core.model import Consumer, Scenario, Strategy
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.reports import sentences
from racebench.workloads import catalog

SCENARIOS = catalog.shipped()
#: Measured: how many rows a consumer missed of a strategy.
MISSED = {
    (run["strategy"], run["consumer"]): run["counts"]["missed"]
    for run in json.loads((REFERENCE / "matrix.json").read_text())["runs"]
}


def pairs(scenario: Scenario) -> Iterator[tuple[Strategy, Consumer | None]]:
    for strategy, consumer in product(scenario.strategies.values(), [None, *scenario.consumers.values()]):
        if consumer is None or consumer.fits(strategy):
            yield strategy, consumer


def broken(scenario: Scenario, strategy: Strategy, consumer: Consumer | None, kind: str) -> RunResult:
    """A run of a pair in which one kind of anomaly occurred, as racebench.analysis.verdicts makes it."""
    made = run_of(strategy.name, **{kind: 1})
    reader = made.consumers[0]
    missed = consumer is not None and kind == "missed"
    if consumer is not None:
        at_fault = missed and is_at_fault(consumer, strategy)
        reader = replace(
            reader,
            name=consumer.name,
            at_fault=at_fault,
            instead=other_consumer(scenario, strategy, consumer) if at_fault else None,
        )
    return replace(
        made,
        scenario=scenario.name,
        verdict=Verdict.INVALID,
        forbidden=(kind,),
        expected=(),
        consumers=() if consumer is None else (reader,),
        advice=other_strategy(scenario, strategy, [consumer] if missed and consumer else [], {kind}),
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("kind", ANOMALIES)
def test_a_remedy_is_right_for_the_pair_that_broke(scenario: Scenario, kind: str) -> None:
    for strategy, consumer in pairs(scenario):
        if kind in ("missed", "redelivered") and consumer is None:
            continue
        run = broken(scenario, strategy, consumer, kind)
        said = sentences.advice(run)
        assert instead(scenario, strategy, consumer, {kind}) == sentences.instead(run), "explore names the same"
        named = dict(re.findall(r"`--(strategy|consumer) ([\w-]+)`", said))
        assert len(named) <= 1, said
        if other := scenario.strategies.get(named.get("strategy", "")):
            assert kind not in other.expect | other.may - {"missed"}, said
            assert kind != "redelivered", "the consumer reads them again, whatever the strategy"
            if consumer is not None and kind == "missed":
                assert expected_misses(other, consumer) == "never"
                assert MISSED.get((other.name, consumer.name), 0) == 0
        if reader := scenario.consumers.get(named.get("consumer", "")):
            assert kind == "missed"
            assert reader.fits(strategy)
            assert expected_misses(strategy, reader) == "never"
            assert MISSED.get((strategy.name, reader.name), 0) == 0


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_remedy_is_named_for_everything_that_a_scenario_declares(scenario: Scenario) -> None:
    """But for the advised strategy itself, which is right."""
    for strategy, consumer in pairs(scenario):
        misses = consumer is not None and expected_misses(strategy, consumer) != "never"
        kinds = strategy.expect | strategy.may - {"missed"} | ({"missed"} if misses else set())
        for kind in kinds & {kind for kind in scenario.forbid if ANOMALIES[kind].advises_strategy}:
            if kind == "missed" and not misses:
                continue
            said = sentences.advice(broken(scenario, strategy, consumer, kind))
            assert re.search(r"try `--(strategy|consumer) ", said), (strategy.name, consumer, kind, said)


def test_the_one_at_fault_is_named() -> None:
    scenario = catalog.find_scenario("version-counter")

    def said(strategy: str, consumer: str) -> str:
        return sentences.advice(broken(scenario, scenario.strategies[strategy], scenario.consumers[consumer], "missed"))

    assert said("commit-stamp", "settle-delay") == (
        "The strategy is not the cause: consumer 'settle-delay' passes rows in whatever order they are committed; "
        "read with another consumer: try `--consumer cursor`."
    )
    assert said("sequence", "settle-delay").endswith("make sessions commit in that order: try `--strategy advisory`.")
    assert "consumer 'horizon' passes rows" in said("sequence", "horizon")


def test_of_a_broken_strategy_the_remedy_is_said_although_another_known_anomaly_did_not_show() -> None:
    half = replace(run_of("naive", duplicates=2, expected=("duplicates", "missed")), verdict=Verdict.INVALID)
    assert sentences.advice(half).endswith("make one wait for the other: try `--strategy advisory`.")


def test_what_is_counted_and_not_forbidden_is_said_of_a_valid_run() -> None:
    clean = replace(run_of("two-steps", gaps=2), verdict=Verdict.VALID, upper_bound=0.001)
    counted = replace(clean, forbidden=("refused",), counts={**clean.counts, "redelivered": 8000})
    assert sentences.happened(counted) == (
        "None of 5,000 rows was touched by a forbidden anomaly; at most 0.1% of them at 95%; "
        "not forbidden: 8,000 redelivered, 2 gaps."
    )
