"""Thresholds: a pass is earned, what is crossed is exit 4, and what cannot be judged never passes."""

from __future__ import annotations

import json
import operator
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Command, assert_one_line
from measured import compared, rendered, rounds_of, run_of
from racebench.analysis import thresholds
from racebench.analysis.comparison import Comparison
from racebench.analysis.thresholds import METRICS, Held, Outcome
from racebench.core.anomalies import ANOMALIES
from racebench.core.errors import UsageProblem
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.reports import threshold_lines
from racebench.reports.formats import cases, junit
from racebench.reports.results.document import SCHEMA_FILE, Document

SCHEMA = json.loads(SCHEMA_FILE.read_text())
STEADY = (1000.0, 1010.0, 990.0, 1005.0, 995.0)


def held(text: str, runs: list[RunResult], comparison: Comparison | None = None, *names: str) -> tuple[Held, ...]:
    about = names or tuple(dict.fromkeys(run.strategy for run in runs))
    return thresholds.judge([(thresholds.parse(text), about)], runs, comparison)


def outcome(text: str, *runs: RunResult) -> Outcome:
    (one,) = held(text, list(runs))
    return one.outcome


# Reading


@pytest.mark.parametrize(
    ("text", "whose", "metric", "sign", "limit"),
    [
        ("duplicates == 0", None, "duplicates", "==", 0.0),
        ("p99_ms<20", None, "p99_ms", "<", 20.0),
        (" advisory : throughput_per_s  >=  1e3 ", "advisory", "throughput_per_s", ">=", 1000.0),
        ("unique-retry: retries <= 5_000", "unique-retry", "retries", "<=", 5000.0),
        ("correct:missed!=1", "correct", "missed", "!=", 1.0),
        ("throughput_vs_reference > .8", None, "throughput_vs_reference", ">", 0.8),
    ],
)
def test_a_threshold_is_read(text: str, whose: str | None, metric: str, sign: str, limit: float) -> None:
    made = thresholds.parse(text)
    assert (made.whose, made.metric, made.operator, made.limit) == (whose, metric, sign, limit)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a threshold; write it as 'duplicates == 0'"),
        ("duplicates", "is not a threshold; write it as"),
        ("duplicates 0", "is not a threshold"),
        ("== 0", "is not a threshold"),
        ("duplicates ==", "is not a threshold"),
        ("a: b: duplicates == 0", "is not a threshold"),
        ("duplicates == 0 and missed == 0", "is not a threshold"),
        ("duplicate == 0", "metric 'duplicate' is unknown; did you mean 'duplicates'?"),
        ("p99 < 20", "metric 'p99' is unknown; did you mean 'p99_ms'?"),
        ("DUPLICATES == 0", "metric 'DUPLICATES' is unknown"),
        ("duplicates = 0", "operator '=' is unknown; known: == != < <= > >="),
        ("duplicates === 0", "operator '===' is unknown"),
        ("p99_ms => 3", "operator '=>' is unknown"),
        ("p99_ms < 20ms", "'20ms' is not a number; give a number without a unit"),
        ("p99_ms < nan", "'nan' is not a number"),
        ("p99_ms < inf", "'inf' is not a number"),
        ("p99_ms == 20", "p99_ms is a measured value, which is never exactly the same; use < or >"),
    ],
)
def test_a_malformed_threshold_is_refused_with_a_suggestion(text: str, message: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        thresholds.parse(text)
    assert message in str(refused.value)
    assert f"--threshold '{text}'" in str(refused.value)


@given(st.text(max_size=30))
def test_any_text_is_a_threshold_or_one_line(text: str) -> None:
    try:
        made = thresholds.parse(text)
    except UsageProblem:
        return
    assert made.metric in METRICS


# Judging


@given(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), st.integers(0, 5), st.integers(0, 5))
def test_a_count_is_compared_as_python_does(sign: str, count: int, limit: int) -> None:
    compares = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
    holds = getattr(operator, compares[sign])(count, limit)
    run = run_of("naive", duplicates=count)
    assert outcome(f"duplicates {sign} {limit}", run) is (Outcome.PASSED if holds else Outcome.CROSSED)


def test_lateness_is_that_of_the_consumer_to_which_rows_came_last() -> None:
    run = run_of("advisory")
    (cursor,) = run.consumers
    late = replace(cursor, name="cursor@standby", late_us={"p50": 5e5, "p99": 6e5, "max": 7e5})
    both = replace(run, consumers=(cursor, late))
    assert outcome("late_p99_ms < 1", run) is Outcome.PASSED
    assert outcome("late_p99_ms < 600.5", both) is Outcome.PASSED
    assert outcome("late_max_ms < 600.5", both) is Outcome.CROSSED
    unread = replace(late, longest_poll_us=None)
    assert outcome("late_p99_ms < 600.5", replace(run, consumers=(cursor, unread))) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_a_value_or_says_why_not(metric: str) -> None:
    runs = rounds_of(advisory=STEADY, upsert=[900.0] * 5)
    made = held(f"{metric} <= 1e9", runs, compared(runs, rounds=5))
    assert [one.strategy for one in made] == (
        ["upsert"] if metric == "throughput_vs_reference" else ["advisory", "upsert"]
    )
    for one in made:
        assert (one.outcome is Outcome.PASSED) == (one.value is not None)
        assert one.value is not None or one.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("upsert: throughput_vs_reference >= 0.75", Outcome.PASSED),
        ("upsert: throughput_vs_reference >= 0.85", Outcome.CROSSED),
        ("upsert: throughput_vs_reference >= 0.8", Outcome.INCONCLUSIVE),
        ("upsert: throughput_vs_reference < 0.85", Outcome.PASSED),
        ("upsert: throughput_per_s > 700", Outcome.PASSED),
        ("upsert: throughput_per_s > 900", Outcome.CROSSED),
        ("upsert: p99_ms < 6", Outcome.PASSED),
        ("upsert: p99_ms < 4", Outcome.CROSSED),
    ],
)
def test_over_rounds_the_whole_interval_must_hold(text: str, expected: Outcome) -> None:
    runs = rounds_of(advisory=STEADY, upsert=[800, 812, 788, 806, 794])
    (one,) = held(text, runs, compared(runs, rounds=5), "upsert")
    assert one.outcome is expected
    if expected is Outcome.INCONCLUSIVE:
        assert one.low is not None
        assert one.high is not None
        assert one.low < 0.8 < one.high
        assert "--rounds" in one.reason


def test_counts_are_summed_over_rounds() -> None:
    runs = [run_of(name, rate, retries=3) for rate in STEADY for name in ("advisory", "upsert")]
    (one,) = held("retries < 15", runs, compared(runs, rounds=5), "upsert")
    assert (one.value, one.outcome) == (15, Outcome.CROSSED)


def test_a_duplicate_in_the_last_and_unfinished_round_crosses() -> None:
    runs = [*rounds_of(advisory=STEADY, upsert=STEADY), run_of("upsert", duplicates=1)]
    (one,) = held("duplicates == 0", runs, compared(runs), "upsert")
    assert one.outcome is Outcome.CROSSED


def test_an_anomaly_that_was_not_looked_for_does_not_pass_a_threshold() -> None:
    unread, idle = run_of("upsert", drained=False), run_of("upsert", 0.0, committed=0, p99_ms=None)
    assert outcome("missed == 0", run_of("upsert")) is Outcome.PASSED
    assert outcome("missed == 0", unread) is Outcome.INCONCLUSIVE
    assert outcome("missed == 0", run_of("upsert", drained=False, missed=2)) is Outcome.CROSSED
    assert outcome("duplicates == 0", unread) is Outcome.PASSED
    assert outcome("duplicates == 0", idle) is Outcome.INCONCLUSIVE
    assert outcome("p99_ms < 20", idle) is Outcome.INCONCLUSIVE
    assert outcome("p999_ms < 20", run_of("upsert")) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("metric", ["errors", "failed", "unknown", "retries", "duplicates"])
def test_no_threshold_passes_without_an_attempted_operation(metric: str) -> None:
    idle = run_of("advisory", 0.0, committed=0, attempts=0, p99_ms=None)
    (one,) = held(f"{metric} == 0", [idle])
    assert (one.outcome, one.reason) == (Outcome.INCONCLUSIVE, "nothing was attempted")
    assert outcome(f"{metric} > 0", idle) is Outcome.CROSSED
    tried = run_of("advisory", 0.0, committed=0, attempts=9, p99_ms=None)
    assert outcome(f"{metric} == 0", tried) is (Outcome.INCONCLUSIVE if metric == "duplicates" else Outcome.PASSED)


def test_a_strategy_that_was_not_run_is_no_pass() -> None:
    made = held("duplicates == 0", [run_of("upsert")], None, "uuidv7")
    assert [(one.outcome, one.reason) for one in made] == [(Outcome.INCONCLUSIVE, "it was not run")]
    # Of a group, what this server cannot run is left out, as long as there is something left.
    made = held("duplicates == 0", [run_of("upsert")], None, "uuidv7", "upsert")
    assert [(one.strategy, one.outcome) for one in made] == [("upsert", Outcome.PASSED)]


def test_a_threshold_passed_by_an_invalid_strategy_says_that_it_is_invalid() -> None:
    (one,) = held("throughput_per_s > 1", [run_of("naive", missed=3)])
    assert one.outcome is Outcome.PASSED
    assert one.reason == "but INVALID: missed"


def test_a_threshold_passed_by_a_failing_strategy_names_the_failures() -> None:
    hasty = run_of("upsert", attempts=10_000, errors={"55P03": 5000})
    (one,) = held("p99_ms < 20", [hasty])
    assert (one.outcome, one.reason) == (Outcome.PASSED, "but 50 % of its operations failed")
    (one,) = held("p99_ms < 20", [run_of("upsert", errors={"55P03": 5})])
    assert (one.outcome, one.reason) == (Outcome.PASSED, "")


def test_errors_are_those_the_application_saw() -> None:
    assert outcome("errors == 0", run_of("unique", errors={"23505": 4})) is Outcome.CROSSED
    assert outcome("errors == 0", run_of("unique")) is Outcome.PASSED


# The command


@pytest.mark.server
@pytest.mark.parametrize(
    ("command", "strategy", "limits", "code"),
    [
        ("run", "advisory", ["duplicates == 0", "p99_ms < 60000"], 0),
        ("run", "naive", ["duplicates == 0"], 4),
        ("run", "naive", ["duplicates > 0"], 0),
        ("run", "advisory", ["p99_ms < 0.001"], 4),
        ("run", "advisory", ["p999_ms < 60000"], 5),
        ("run", "naive", ["duplicates == 0", "p999_ms < 60000"], 4),
        ("compare", "upsert", ["correct: duplicates == 0", "upsert: throughput_vs_reference > 0.0001"], 0),
        ("compare", "naive", ["duplicates == 0"], 4),
        ("compare", "naive", ["correct: duplicates == 0"], 0),
        ("compare", "upsert", ["throughput_vs_reference > 1000"], 4),
    ],
)
def test_a_crossed_threshold_is_exit_4_and_stands_first(
    racebench: Command, tmp_path: Path, command: str, strategy: str, limits: list[str], code: int
) -> None:
    arguments = [command, "-s", strategy, "-w", "4", "-n", "120", "--no-save", "--json", "x.json"]
    arguments += ["-s", "advisory", "--rounds", "3"] if command == "compare" else []
    done = racebench(*arguments, *(word for limit in limits for word in ("--threshold", limit)))
    assert done.returncode == code, done.stdout
    assert done.stderr == ""
    made = json.loads((tmp_path / "x.json").read_text())
    jsonschema.validate(made, SCHEMA)
    outcomes = {one["outcome"] for one in made["thresholds"]}
    assert ("crossed" in outcomes) == (code == 4)
    assert ("inconclusive" in outcomes) == (code == 5 or (len(limits) > 1 and code == 4))
    text = done.stdout
    mark = {0: "✓ passed", 4: "✗ crossed", 5: "? inconclusive"}[code]
    assert text.index(mark) < text.index("verdict")
    assert text.startswith(racebench("report", "x.json").stdout)


@pytest.mark.server
def test_anomalies_that_fail_on_names_outrank_thresholds(racebench: Command) -> None:
    done = racebench(
        "run", "-s", "naive", "-n", "200", "--no-save", "--fail-on", "any", "--threshold", "p99_ms < 0.001"
    )
    assert done.returncode == 3
    assert "✗ crossed  naive: p99_ms < 0.001" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--threshold", "duplicate == 0"], "metric 'duplicate' is unknown; did you mean 'duplicates'?"),
        (["run", "--threshold", "duplicates == none"], "'none' is not a number"),
        (["run", "--threshold", "throughput_vs_reference > 0.8"], "a run has no reference; use `racebench compare`"),
        (
            ["run", "-s", "naive", "--threshold", "naiv: duplicates == 0"],
            "strategy 'naiv': it is not run; did you mean 'n",
        ),
        (["run", "-s", "naive", "--threshold", "correct: duplicates == 0"], "no strategy of that group is run"),
        (["run", "-s", "naive", "--threshold", "violations == 0"], "'version-counter' has no invariants"),
        (["run", "--consumer", "none", "--threshold", "missed == 0"], "without a consumer missed is always 0"),
        (["run", "--consumer", "none", "--threshold", "late_p99_ms < 9"], "without a consumer there is no late_p99_ms"),
        (["run", "quota", "--threshold", "duplicates == 0"], "'quota' numbers no rows, duplicates is always 0"),
        (["compare", "--threshold", "p99 < 20"], "metric 'p99' is unknown; did you mean 'p99_ms'?"),
        (["compare", "--threshold", "advisory: throughput_vs_reference > 1"], "'advisory' is the reference"),
        (["compare", "--threshold", "naive: duplicates == 0"], "strategy 'naive': it is not run"),
    ],
)
def test_a_threshold_that_can_never_be_judged_is_one_line_and_starts_nothing(
    racebench: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = racebench(*arguments)
    assert_one_line(done, 2, message)
    assert list(tmp_path.iterdir()) == []


def test_every_anomaly_is_a_metric() -> None:
    assert set(ANOMALIES) <= set(METRICS)


def test_a_passed_threshold_is_one_line_and_each_crossing_has_its_own() -> None:
    runs = [run_of(name) for name in "abcde"] + [run_of("naive", duplicates=2)]
    made = Document(environment={}, created="", runs=tuple(runs), thresholds=held("duplicates == 0", runs))
    lines = [line.plain for line in threshold_lines.render(made, ascii_only=True)]
    assert lines == ["+ passed  duplicates == 0  5 strategies, 0", "x crossed  naive: duplicates == 0  is 2"]


def test_in_reports_for_ci_a_threshold_is_a_case_of_its_own() -> None:
    runs = [run_of("advisory"), run_of("unread", drained=False)]
    made = held("duplicates == 0", runs) + held("p99_ms < 1", runs, None, "advisory")
    made += held("missed == 0", runs, None, "unread")
    document = Document(environment={}, created="2026-11-23T00:00:00Z", runs=tuple(runs), thresholds=made)
    suite = cases.suites([document])[-1]
    assert [(case.name, case.verdict) for case in suite.cases] == [
        ("advisory: duplicates == 0", Verdict.VALID),
        ("unread: duplicates == 0", Verdict.VALID),
        ("advisory: p99_ms < 1", Verdict.INVALID),
        ("unread: missed == 0", Verdict.UNKNOWN),
    ]
    xml = junit.to_xml([suite])
    assert 'tests="4" failures="1" errors="1"' in xml
    assert 'type="crossed"' in xml
    said = rendered("summary", document)
    assert said.index("✗ crossed advisory: p99_ms &lt; 1") < said.index("| strategy |")
