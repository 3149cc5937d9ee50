"""One function decides every command's exit code: anomalies outrank limits, and limits outrank what is unknown."""

from __future__ import annotations

import pytest

from racebench.analysis.thresholds import Held, Outcome
from racebench.cli.exit_codes import Finding, Gates, exit_code, gates_of
from racebench.cli.option_groups import GateOptions
from racebench.core.anomalies import ANOMALIES
from racebench.core.verdict import Verdict

FORBIDDEN = ("duplicates", "missed")
CLEAN = Finding(forbidden=FORBIDDEN, counts=dict.fromkeys(ANOMALIES, 0), verdict=Verdict.VALID)
UNKNOWN = Finding(forbidden=FORBIDDEN, counts=dict.fromkeys(ANOMALIES, 0), verdict=Verdict.UNKNOWN)


def anomalous(kind: str) -> Finding:
    return Finding(forbidden=FORBIDDEN, counts={**CLEAN.counts, kind: 3}, verdict=Verdict.INVALID)


def threshold(outcome: Outcome) -> Held:
    return Held(
        text="p99_ms < 20", strategy="a", metric="p99_ms", value=1.0, low=None, high=None, outcome=outcome, reason=""
    )


@pytest.mark.parametrize(
    ("findings", "gates", "code"),
    [
        ([anomalous("duplicates")], Gates(), 0),
        ([CLEAN, anomalous("missed")], Gates(fail_on=("any",)), 3),
        ([anomalous("gaps")], Gates(fail_on=("any",)), 0),
        ([anomalous("gaps")], Gates(fail_on=("gaps",)), 3),
        ([anomalous("duplicates")], Gates(fail_on=("lost",)), 0),
        ([UNKNOWN, anomalous("duplicates")], Gates(fail_on=("any",)), 3),
        ([UNKNOWN], Gates(fail_on=("any",)), 5),
        ([UNKNOWN], Gates(), 0),
        ([anomalous("duplicates"), anomalous("missed")], Gates(expect_race=True), 0),
        ([anomalous("duplicates"), CLEAN], Gates(expect_race=True), 3),
        ([anomalous("duplicates")], Gates(expect_race=True, fail_on=("missed",)), 3),
        ([UNKNOWN], Gates(expect_race=True), 3),
    ],
)
def test_fail_on_and_expect_decide_by_anomalies_and_verdicts(findings: list[Finding], gates: Gates, code: int) -> None:
    assert exit_code(findings, gates) == code


@pytest.mark.parametrize(
    ("fail_on", "of_a_scenario", "of_own_code"),
    [
        (None, (), ("any",)),
        ("none", (), ()),
        ("any", ("any",), ("any",)),
        ("missed", ("missed",), ("missed",)),
        ("missed,any", ("any",), ("any",)),
    ],
)
def test_own_code_is_judged_unless_fail_on_says_otherwise(
    fail_on: str | None, of_a_scenario: tuple[str, ...], of_own_code: tuple[str, ...]
) -> None:
    options = GateOptions(fail_on=fail_on)
    assert gates_of(options).fail_on == of_a_scenario
    assert gates_of(options, own_code=True).fail_on == of_own_code


def test_anomalies_outrank_limits_and_limits_outrank_what_is_unknown() -> None:
    crossed, inconclusive = threshold(Outcome.CROSSED), threshold(Outcome.INCONCLUSIVE)
    gates = Gates(fail_on=("any",))
    assert exit_code([anomalous("duplicates")], gates, thresholds=[crossed, inconclusive]) == 3
    assert exit_code([UNKNOWN], gates, thresholds=[crossed, inconclusive]) == 4
    assert exit_code([CLEAN], gates, thresholds=[threshold(Outcome.PASSED), inconclusive]) == 5
    assert exit_code([CLEAN], gates, thresholds=[threshold(Outcome.PASSED)]) == 0


def test_a_count_that_a_history_cannot_show_is_no_anomaly() -> None:
    unseen = Finding(forbidden=FORBIDDEN, counts={**CLEAN.counts, "missed": None}, verdict=Verdict.VALID)
    assert exit_code([unseen], Gates(fail_on=("missed",))) == 0
