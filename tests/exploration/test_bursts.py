"""Races inside one statement: several sessions send their statements at once, and the server lets them race."""

from __future__ import annotations

from dataclasses import replace

from racebench.core.model import Scenario
from racebench.core.results import Verdict
from racebench.core.target import Target
from racebench.exploration.explorer import explore
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration, Unseen
from racebench.reports import exploration_text
from tests.waiting import repeat


def explored(embedded: Target, scenario: Scenario, strategy: str, *, inside: bool, seed: int = 0) -> Exploration:
    request = ExplorationRequest(
        scenario=scenario,
        strategy=replace(scenario.strategies[strategy], inside=inside),
        consumer=scenario.consumers["cursor"],
        polls=2,
        seed=seed,
    )
    return explore(embedded, request)


def test_a_race_inside_one_statement_shows_when_statements_are_sent_at_once(
    embedded: Target, version_counter: Scenario
) -> None:
    """It takes its number in a default, and its lock in a trigger of the same INSERT."""
    result = repeat(
        lambda seed: explored(embedded, version_counter, "lock-trigger-default", inside=True, seed=seed),
        lambda result: result.anomalous_bursts,
    )
    assert (result.verdict, result.complete, result.anomalous) == (Verdict.INVALID, True, 0)
    assert result.as_expected
    assert result.witness is None
    assert result.found == ("missed",)
    assert f"1 of {result.bursts} burst" in exploration_text.sentence(result)


def test_bursts_without_an_anomaly_prove_nothing(embedded: Target, version_counter: Scenario) -> None:
    """The trigger locks before it takes the number: there is no race, but no search of statements knows that."""
    result = explored(embedded, version_counter, "trigger-lock-nextval", inside=True)
    assert (result.verdict, result.complete, result.unseen) == (Verdict.UNKNOWN, True, Unseen.STATEMENT)
    assert (result.bursts > 0, result.anomalous_bursts, result.found) == (True, 0, ())
    assert f"nor any of {result.bursts} bursts" in exploration_text.sentence(result)


def test_where_every_schedule_can_be_run_no_burst_is(embedded: Target, version_counter: Scenario) -> None:
    result = explored(embedded, version_counter, "trigger-lock-nextval", inside=False)
    assert (result.verdict, result.bursts) == (Verdict.VALID, 0)
