"""`racebench compare`: right before fast, intervals before ratios, rounds that drift alike, what is left of half."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from conftest import Command, Start, UsersServer, assert_one_line
from judged import ENVIRONMENT
from measured import LOAD, compared, rendered, rounds_of, run_of
from racebench.analysis.comparison import Comparison, Conditions, Judgement, joint
from racebench.analysis.estimates import geometric_mean
from racebench.cli import measuring
from racebench.core.plain_text import one_line
from racebench.core.results import Pace, RunResult, Timeline, Usage
from racebench.core.verdict import Verdict
from racebench.load.campaign import Cell, in_rounds
from racebench.reports.formats import cases, junit
from racebench.reports.results import document, reading
from racebench.reports.results.document import SCHEMA_FILE, Document
from racebench.reports.terminal import matrix_table, run_table
from racebench.workloads import catalog
from waiting import finish, repeat, wait_for

if TYPE_CHECKING:
    from racebench.cli.requests import Measurement

SCHEMA = json.loads(SCHEMA_FILE.read_text())
STEADY = (1000.0, 1010.0, 990.0, 1005.0, 995.0)


def judged(comparison: Comparison, strategy: str) -> Judgement:
    one = comparison.of(strategy)
    assert one is not None
    return one.judgement


def times(factor: float) -> list[float]:
    """STEADY times a factor, not quite alike in each round."""
    return [rate * factor * (1 + 0.002 * (-1) ** number) for number, rate in enumerate(STEADY)]


# Judging, on figures made by hand


@pytest.mark.parametrize(
    ("factor", "judgement"),
    [(0.5, "worse"), (0.9, "worse"), (0.97, "same"), (1.0, "same"), (1.03, "same"), (1.1, "better"), (2.0, "better")],
)
def test_a_strategy_is_judged_by_its_interval_and_the_margin(factor: float, judgement: str) -> None:
    comparison = compared(rounds_of(advisory=STEADY, upsert=times(factor)), rounds=5)
    assert judged(comparison, "upsert").value == judgement
    assert judged(comparison, "advisory") is Judgement.REFERENCE


def test_without_a_margin_a_small_difference_counts() -> None:
    comparison = compared(rounds_of(advisory=STEADY, upsert=times(0.97)), margin=0.0)
    assert judged(comparison, "upsert") is Judgement.WORSE


def test_an_interval_that_holds_1_is_inconclusive_however_far_its_middle_is_from_it() -> None:
    comparison = compared(rounds_of(advisory=STEADY, upsert=[3000, 900, 2500, 800, 2000]), rounds=5)
    one = comparison.of("upsert")
    assert one is not None
    assert one.judgement is Judgement.INCONCLUSIVE
    assert one.ratio is not None
    assert one.ratio.value > 1.5
    assert one.ratio.low < 1 < one.ratio.high


def test_drift_that_both_sides_share_does_not_widen_the_interval() -> None:
    pace = [1.0, 0.8, 0.5, 0.3, 0.2]
    drifting = rounds_of(
        advisory=[1000 * p for p in pace], upsert=[f * p for f, p in zip(times(0.8), pace, strict=True)]
    )
    one = compared(drifting, rounds=5).of("upsert")
    assert one is not None
    assert one.ratio is not None
    assert one.judgement is Judgement.WORSE
    assert one.ratio.high / one.ratio.low < 1.05
    unpaired = geometric_mean([run.throughput_per_s for run in drifting if run.strategy == "upsert"])
    assert unpaired is not None
    assert unpaired.high / unpaired.low > 2


def test_the_ratio_is_that_of_the_rates_shown() -> None:
    comparison = compared(rounds_of(advisory=STEADY, upsert=[500, 600, 550, 700, 400]), rounds=5)
    one, base = comparison.of("upsert"), comparison.of("advisory")
    assert one is not None
    assert base is not None
    assert one.ratio is not None
    assert one.throughput_per_s is not None
    assert base.throughput_per_s is not None
    assert one.ratio.value == pytest.approx(one.throughput_per_s.value / base.throughput_per_s.value)


@given(
    st.lists(st.tuples(st.floats(1, 1e5), st.floats(1, 1e5)), min_size=2, max_size=8),
    st.floats(0, 0.5),
)
def test_swapping_the_strategies_swaps_better_and_worse(pairs: list[tuple[float, float]], margin: float) -> None:
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    one = judged(compared(rounds_of(advisory=theirs, upsert=ours), margin=margin), "upsert")
    other = judged(compared(rounds_of(advisory=ours, upsert=theirs), margin=margin), "upsert")
    turned = {Judgement.BETTER: Judgement.WORSE, Judgement.WORSE: Judgement.BETTER}
    assert other is turned.get(one, one)


def test_a_strategy_beside_itself_is_judged_better_or_worse_as_seldom_as_stated() -> None:
    drawn = np.random.default_rng(3)
    wrong, trials = 0, 1000
    for _ in range(trials):
        pace = drawn.normal(0, 0.3, 7)
        rates = {name: np.exp(pace + drawn.normal(0, 0.1, 7)).tolist() for name in ("advisory", "twin", "triplet")}
        comparison = compared(rounds_of(**rates), margin=0.0)
        wrong += any(judged(comparison, name) is not Judgement.INCONCLUSIVE for name in ("twin", "triplet"))
    # All intervals together err one time in twenty; four standard errors are 2.8 %.
    assert 0.005 < wrong / trials < 0.078


@pytest.mark.parametrize("together", [1, 2, 26])
def test_more_strategies_make_each_interval_wider(together: int) -> None:
    each = joint(0.95, together)
    assert together * (1 - each) == pytest.approx(0.05)


# Anomalies outrank speed


def invalid(runs: Sequence[RunResult], strategy: str, number: int) -> list[RunResult]:
    """The runs, with a duplicate in the given round of a strategy."""
    at = [place for place, run in enumerate(runs) if run.strategy == strategy][number]
    made = list(runs)
    made[at] = run_of(strategy, made[at].throughput_per_s, duplicates=1)
    return made


def test_one_duplicate_in_one_round_makes_the_fastest_strategy_the_last() -> None:
    runs = rounds_of(advisory=STEADY, upsert=times(0.5), naive=times(9))
    innocent = compared(runs, rounds=5)
    assert [one.strategy for one in innocent.strategies] == ["naive", "advisory", "upsert"]
    assert judged(innocent, "naive") is Judgement.BETTER
    guilty = compared(invalid(runs, "naive", 3), rounds=5)
    assert [one.strategy for one in guilty.strategies] == ["advisory", "upsert", "naive"]
    one = guilty.of("naive")
    assert one is not None
    assert one.judgement is Judgement.INVALID
    assert one.verdict is Verdict.INVALID
    assert one.reason == "duplicates"
    assert one.counts["duplicates"] == 1
    assert judged(guilty, "upsert") is Judgement.WORSE


def test_beside_an_invalid_reference_a_right_strategy_is_better_though_slower() -> None:
    runs = invalid(rounds_of(naive=times(9), advisory=STEADY), "naive", 0)
    comparison = compared(runs, reference="naive", rounds=5)
    one = comparison.of("advisory")
    assert one is not None
    assert one.judgement is Judgement.BETTER
    assert one.reason == "it is VALID, naive is not"
    why = "The reference naive is INVALID, so a VALID strategy is judged better even if it is slower."
    assert why in " ".join(shown(comparison, runs, 80).split())
    runs = rounds_of(naive=times(9), advisory=STEADY)
    assert "is INVALID" not in shown(compared(runs, reference="naive", rounds=5), runs, 80)


def test_what_is_unknown_is_inconclusive_on_either_side() -> None:
    unread = [run_of("upsert", rate, drained=False) for rate in times(3)]
    steady = [run_of("advisory", rate) for rate in STEADY]
    assert judged(compared(unread + steady), "upsert") is Judgement.INCONCLUSIVE
    assert judged(compared(unread + steady, reference="upsert"), "advisory") is Judgement.INCONCLUSIVE


def test_a_round_without_a_commit_has_no_ratio() -> None:
    runs = rounds_of(advisory=STEADY, upsert=times(2))
    runs[3] = run_of("upsert", 0.0, committed=0, p99_ms=None)
    one = compared(runs).of("upsert")
    assert one is not None
    assert one.ratio is None
    assert one.throughput_per_s is None
    assert one.latency_us["p99"] is None
    assert one.judgement is Judgement.INCONCLUSIVE


def test_of_half_a_comparison_whole_rounds_give_the_speeds_and_every_run_the_anomalies() -> None:
    runs = rounds_of(advisory=[1000, 1000, 1000], upsert=[500, 500])
    comparison = compared([*runs[:-1], run_of("advisory", 1.0, duplicates=2)], rounds=7)
    assert comparison.whole == 2
    base = comparison.of("advisory")
    assert base is not None
    assert base.throughput_per_s is not None
    assert base.throughput_per_s.value == pytest.approx(1000)
    assert base.verdict is Verdict.INVALID
    assert base.counts["duplicates"] == 2
    assert comparison.warnings[0].startswith("2 of 7 rounds were finished")


@pytest.mark.parametrize(
    ("reference", "run", "reasons"),
    [
        ("advisory", "advisory", {"upsert": "it was not run", "naive": "it was not run"}),
        ("upsert", "advisory", {"advisory": "upsert was not run", "naive": "it was not run"}),
    ],
)
def test_before_the_first_round_is_whole_what_was_not_run_yet_has_dashes(
    reference: str, run: str, reasons: dict[str, str]
) -> None:
    runs = [run_of(run)]
    comparison = compared(runs, reference=reference, digests=dict.fromkeys(("advisory", "upsert", "naive"), "d"))
    assert comparison.whole == 0
    assert {one.strategy: one.reason for one in comparison.strategies if one.reason} == reasons
    assert {one.judgement for one in comparison.strategies} == {Judgement.REFERENCE, Judgement.INCONCLUSIVE}
    for width in (80, 140):
        lines = shown(comparison, runs, width).splitlines()
        naive = [line.split() for line in lines if line.startswith("naive ")][-1]
        assert naive[-5:] == ["–"] * 5
    made = Document(
        environment={"server_version": "18.4", "target": "embedded", "cpu_count": 2},
        created="2026-11-23T00:00:00Z",
        runs=tuple(runs),
        comparison=comparison,
        complete=False,
    )
    assert "| `naive` | **UNKNOWN** | inconclusive | – | – |  | – | – | – | – | – |" in matrix_table.markdown(made)
    assert "UNFINISHED: 0 of 7 whole rounds" in rendered("summary", made)
    assert [case.name for case in cases.suites([made])[0].cases] == [run]
    assert rendered("bigger-is-better", made) == "[]\n"


NOWAIT = {"55P03": 4000}


def failing(strategy: str, rates: Sequence[float], errors: dict[str, int] = NOWAIT, **counts: int) -> list[RunResult]:
    return [run_of(strategy, rate, errors=errors, attempts=5000 + sum(errors.values()), **counts) for rate in rates]


@pytest.mark.parametrize(("factor", "judgement"), [(0.5, "worse"), (1.0, "inconclusive"), (2.0, "inconclusive")])
def test_a_strategy_that_is_fast_by_failing_is_never_better(factor: float, judgement: str) -> None:
    steady = [run_of("advisory", rate) for rate in STEADY]
    comparison = compared([*steady, *failing("nowait", times(factor))], rounds=5)
    one = comparison.of("nowait")
    assert one is not None
    assert one.verdict is Verdict.VALID
    assert one.judgement.value == judgement
    assert judgement == "worse" or one.reason == "44 % of its operations failed"
    assert any(
        warning.startswith("44 % of the operations of nowait failed (55P03): the figures are those of the others")
        for warning in comparison.warnings
    )
    turned = {"worse": "better"}.get(judgement, judgement)
    other = compared([*steady, *failing("nowait", times(factor))], reference="nowait", rounds=5)
    assert judged(other, "advisory").value == turned


def test_equal_failure_rates_and_few_failures_leave_the_judgement_to_the_throughput() -> None:
    both = [*failing("advisory", STEADY), *failing("nowait", times(2))]
    assert judged(compared(both, rounds=5), "nowait") is Judgement.BETTER
    few = [*(run_of("advisory", rate) for rate in STEADY), *failing("nowait", times(2), {"55P03": 40})]
    comparison = compared(few, rounds=5)
    assert judged(comparison, "nowait") is Judgement.BETTER
    assert not any("failed" in warning for warning in comparison.warnings)


def test_a_failing_strategy_is_not_better_than_an_invalid_reference() -> None:
    runs = invalid([*rounds_of(naive=STEADY), *failing("nowait", times(2))], "naive", 0)
    assert judged(compared(runs, reference="naive", rounds=5), "nowait") is Judgement.INCONCLUSIVE


def test_why_a_verdict_is_unknown_is_said() -> None:
    steady = [run_of("advisory", rate) for rate in STEADY]
    none = [
        replace(failing("upsert", [0.0], {"22012": 9}, committed=0)[0], messages={"22012": "division by zero"})
        for _ in STEADY
    ]
    comparison = compared([*steady, *none], rounds=5)
    said = "upsert committed nothing in 5 of 5 runs (22012 division by zero): nothing follows of it"
    assert any(warning.startswith(said) for warning in comparison.warnings)
    made = Document(environment={}, created="2026-11-23T00:00:00Z", runs=(*steady, *none), comparison=comparison)
    message = cases.suites([made])[0].cases[1].message
    assert message.startswith("UNKNOWN in 5 runs: No operation was committed (22012 division by zero); inconclusive")
    unread = [run_of("upsert", rate, drained=False) for rate in STEADY]
    said = "a consumer did not read to the end beside upsert"
    assert any(warning.startswith(said) for warning in compared([*steady, *unread], rounds=5).warnings)


def test_a_message_of_the_server_is_not_markup() -> None:
    said = replace(failing("upsert", [0.0], {"P0001": 9}, committed=0)[0], messages={"P0001": "a | <b> `c`"})
    runs = [run_of("advisory"), said]
    comparison = compared(runs, rounds=5)
    made = Document(
        environment={"server_version": "18.4", "target": "embedded", "cpu_count": 2},
        created="2026-11-23T00:00:00Z",
        runs=tuple(runs),
        comparison=comparison,
    )
    assert "(P0001 a &#124; &lt;b&gt; &#96;c&#96;)" in matrix_table.markdown(made)
    assert "(P0001 a | <b> `c`)" in " ".join(shown(comparison, runs, 500).split())


def test_a_message_sends_no_control_characters_to_the_terminal() -> None:
    assert one_line("a\n b\x1b[31mred\x9b\x00é") == "a b\\x1b[31mred\\u009b\\x00é"


def test_a_comparison_of_open_loops_says_that_the_rate_decides_the_throughput() -> None:
    open_loop = [run_of(name, 300, load=replace(LOAD, rate_per_s=300.0)) for _ in range(5) for name in ("a", "b")]
    warning = "--rate 300 decides how much is committed by every strategy that keeps up"
    assert any(said.startswith(warning) for said in compared(open_loop, reference="a", rounds=5).warnings)
    assert not any("--rate" in said for said in compared(rounds_of(a=STEADY, b=STEADY), reference="a").warnings)


def test_less_than_two_rounds_are_no_measurement() -> None:
    one = compared(rounds_of(advisory=[1000.0], upsert=[10.0])).of("upsert")
    assert one is not None
    assert one.judgement is Judgement.INCONCLUSIVE
    assert one.reason == "an interval needs two whole rounds, each with a commit"


# Warnings: one guilty and one innocent of each


def test_a_quiet_comparison_has_no_warnings() -> None:
    quiet = Conditions(load_average=0.3, stolen=0.0)
    assert compared(rounds_of(advisory=STEADY, upsert=times(0.8)), rounds=5, conditions=quiet).warnings == ()


@pytest.mark.parametrize(
    ("runs", "conditions", "words", "remedy"),
    [
        (
            rounds_of(advisory=STEADY, upsert=[1300, 900, 1200, 850, 1250]),
            Conditions(),
            "noisy: the interval of upsert reaches to 1.",
            "--rounds",
        ),
        (
            rounds_of(advisory=[1000, 900, 800, 700, 600], upsert=[500, 450, 400, 350, 300]),
            Conditions(),
            "the machine became 1.66 times slower",
            "--warmup",
        ),
        (rounds_of(advisory=STEADY, upsert=times(1)), Conditions(load_average=3.0), "the load average was 3.0", "stop"),
        (rounds_of(advisory=STEADY, upsert=times(1)), Conditions(stolen=0.2), "the hypervisor gave 20 %", "own"),
        (
            [run_of(name, committed=100) for name in ("advisory", "upsert") for _ in range(5)],
            Conditions(),
            "a round of advisory has only 100 commits: its p99 rests on 1 of them (1 other strategy has a round with",
            "--duration 5",
        ),
        (
            [run_of(name, expected=("missed",)) for name in ("advisory", "sequence") for _ in range(5)],
            Conditions(),
            "sequence is known to allow missed, which did not show",
            "--workers",
        ),
    ],
    ids=["wide", "drift", "load", "stolen", "few", "unseen"],
)
def test_what_makes_figures_doubtful_is_said_with_what_to_change(
    runs: list[RunResult], conditions: Conditions, words: str, remedy: str
) -> None:
    said = [warning for warning in compared(runs, rounds=5, conditions=conditions).warnings if words in warning]
    assert len(said) == 1
    assert remedy in said[0]


def test_what_happened_in_a_run_is_said_with_its_round_and_a_busy_client_once() -> None:
    busy = Pace(
        start_spread_us=1.0,
        timeline=Timeline(interval_s=0.1, committed=(1,), p50_us=(1.0,), p99_us=(1.0,)),
        cpu=Usage(client_s=2.0, busiest_s=0.99, server_s=1.0),
        open_loop=None,
    )
    idle = replace(busy, cpu=Usage(client_s=0.5, busiest_s=0.1, server_s=1.0))
    runs = rounds_of(advisory=STEADY, upsert=times(1))
    runs = [replace(run, pace=busy if run.strategy == "upsert" else idle) for run in runs]
    remark = "a worker process was busy 99 % of the time: the client was the bottleneck; use more --workers"
    runs[5] = replace(runs[5], notes=("worker 3 died (signal 9); what it had in flight is UNKNOWN", remark))
    assert compared(runs, rounds=5).warnings == (
        "upsert, round 3: worker 3 died (signal 9); what it had in flight is UNKNOWN",
        f"upsert, 5 of 5 rounds: {remark}",
    )


# The order


def cells_of(number: int) -> list[Cell]:
    strategies = list(catalog.find_scenario("version-counter").strategies.values())[:number]
    return [Cell(strategy=strategy, consumers=(), load=LOAD, label=strategy.name) for strategy in strategies]


@given(st.integers(0, 2**32), st.integers(2, 12))
def test_every_round_has_every_strategy_once_in_an_order_of_its_own(seed: int, rounds: int) -> None:
    cells = cells_of(5)
    order = in_rounds(cells, rounds, seed)
    assert order == in_rounds(cells, rounds, seed)
    by_round = [order[start : start + 5] for start in range(0, len(order), 5)]
    assert len(by_round) == rounds
    for one in by_round:
        assert {cell.strategy.name for cell in one} == {cell.strategy.name for cell in cells}
        assert len({cell.load.seed for cell in one}) == 1
    assert len({one[0].load.seed for one in by_round}) == rounds


def test_no_strategy_always_comes_first() -> None:
    order = in_rounds(cells_of(3), 300, 5)
    firsts = Counter(order[start].strategy.name for start in range(0, len(order), 3))
    assert min(firsts.values()) > 60  # 100 each, standard deviation 8


# The table


def shown(comparison: Comparison, runs: Sequence[RunResult], width: int, *, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    made = Document(
        environment={"server_version": "18.4", "target": "embedded"},
        created="2026-11-23T00:00:00Z",
        runs=tuple(runs),
        comparison=comparison,
    )
    run_table.show(Console(file=file, width=width, color_system=None, highlight=False), made)
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_with_large_numbers_and_long_names(width: int) -> None:
    long = "advisory-same-stat"
    runs = [
        run_of(name, rate, committed=9_999_999, p99_ms=99_999, retries=9_999_999, duplicates=wrong)
        for rate in (99_999.0, 5.0, 70_000.0)
        for name, wrong in (("advisory", 0), (long, 9_999_999))
    ]
    said = shown(compared(runs, rounds=3), runs, width)
    assert max(map(len, said.splitlines())) <= width
    assert "…" not in said
    assert long in said
    assert "10.0M" in said or "30.0M" in said


def test_the_table_puts_the_verdict_before_the_speed_and_names_the_anomaly() -> None:
    runs = invalid(rounds_of(advisory=STEADY, naive=times(9)), "naive", 1)
    said = shown(compared(runs, rounds=5), runs, 80)
    lines = said.splitlines()
    right, wrong = (next(line for line in lines if line.startswith(name)) for name in ("advisory ", "naive "))
    assert lines.index(right) < lines.index(wrong)
    assert wrong.split()[:3] == ["naive", "INVALID", "–"]
    assert "better" not in said
    assert "naive is INVALID: 1 duplicate, in 1 of 5 runs." in said


def test_without_unicode_the_table_is_whole() -> None:
    runs = rounds_of(advisory=STEADY, upsert=times(0.5))
    said = shown(compared(runs, rounds=5), runs, 80, encoding="ascii")
    assert "worse" in said
    assert "---" in said
    assert "0.50-0.50" in said


def test_as_markdown_it_is_the_same_table() -> None:
    runs = invalid(rounds_of(advisory=STEADY, upsert=times(0.5), naive=times(9)), "naive", 1)
    made = Document(
        environment={"server_version": "18.4", "target": "embedded", "cpu_count": 2},
        created="2026-11-23T00:00:00Z",
        runs=tuple(runs),
        comparison=compared(runs, rounds=5),
    )
    rows = [line.split(" | ") for line in matrix_table.markdown(made).splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]] == ["| `advisory`", "| `upsert`", "| `naive`"]
    assert len({len(row) for row in rows}) == 1
    assert rows[3][1:6] == ["VALID", "worse", "500", "0.50", "0.50–0.50"]
    assert rows[4][1:3] == ["**INVALID**", "–"]


def test_in_reports_for_ci_a_strategy_is_one_case_and_one_series() -> None:
    runs = invalid(rounds_of(advisory=STEADY, naive=times(9)), "naive", 1)
    made = Document(
        environment={"server_version": "18.4", "target": "embedded", "cpu_count": 2},
        created="2026-11-23T00:00:00Z",
        runs=tuple(runs),
        comparison=compared(runs, rounds=5),
    )
    (suite,) = cases.suites([made])
    assert [(case.name, case.verdict, case.found) for case in suite.cases] == [
        ("advisory", Verdict.VALID, ()),
        ("naive", Verdict.INVALID, ("duplicates",)),
    ]
    assert suite.cases[1].message == "INVALID in 5 runs: 1 duplicate; invalid: duplicates."
    assert '<testsuite name="version-counter (compare)"' in junit.to_xml([suite])
    assert "| `advisory` | VALID | reference |" in rendered("summary", made)
    tracked_rates = json.loads(rendered("bigger-is-better", made))
    assert [entry["name"] for entry in tracked_rates] == [
        "version-counter/advisory: throughput",
        "version-counter/naive: throughput",
    ]
    assert tracked_rates[0]["value"] == pytest.approx(1000, rel=0.01)
    assert tracked_rates[0]["range"].startswith("± ")
    found = {entry["name"]: entry["value"] for entry in json.loads(rendered("smaller-is-better", made))}
    assert found["version-counter/naive: duplicates"] == 1
    assert found["version-counter/advisory: p99"] == pytest.approx(5.0)


# The document


def test_a_comparison_survives_writing_and_reading() -> None:
    runs = [run_of(name, rate, errors={"23505": 1}) for rate in STEADY for name in ("advisory", "upsert")]
    made = Document(
        environment=ENVIRONMENT, created="2026-11-23T00:00:00Z", runs=tuple(runs), comparison=compared(runs, rounds=9)
    )
    assert reading.from_json(document.to_json(made), "x") == made
    assert document.merge([made]) == made
    assert document.merge([made, made]).comparison is None


# The command, on the embedded server


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scenario: version-counter's advisory, the same once more, and one that holds its lock 20 ms longer."""
    folder = tmp_path_factory.mktemp("twins") / "twins"
    folder.mkdir()
    shipped = catalog.find_scenario("version-counter").folder
    shutil.copy(shipped / "schema.sql", folder)
    text = (shipped / "strategies" / "advisory.sql").read_text()
    (folder / "one.sql").write_text(text)
    (folder / "slow.sql").write_text(text.replace("COMMIT;", "\\sleep 20 ms\nCOMMIT;"))
    (folder / "scenario.toml").write_text(
        'title = "Twins"\nsummary = "Two alike, one slow."\nschema = "schema.sql"\n'
        '[rows]\ntable = "events"\n'
        '[strategies.one]\nsummary = "one"\nscript = "one.sql"\n'
        '[strategies.two]\nsummary = "two"\nscript = "one.sql"\n'
        '[strategies.slow]\nsummary = "slow"\nscript = "slow.sql"\n'
    )
    return folder


@pytest.mark.server
def test_a_slower_strategy_is_worse_and_a_twin_is_not_beside_itself(
    racebench: Command, twins: Path, tmp_path: Path
) -> None:
    load = ("-w", "4", "--rounds", "6", "-d", "0.1", "--json", "c.json")

    def judgements() -> dict[str, str]:
        strategies = json.loads((tmp_path / "c.json").read_text())["comparison"]["strategies"]
        return {one["strategy"]: one["judgement"] for one in strategies}

    # The interval of the twin's ratio lacks 1 in one comparison of forty, and a busy machine adds to that.
    done = repeat(
        lambda seed: racebench("compare", str(twins), *load, "--seed", str(seed + 1)),
        lambda done: (
            done.returncode == 0 and judgements()["slow"] == "worse" and judgements()["two"] in ("inconclusive", "same")
        ),
    )
    assert done.stderr == ""
    made = json.loads((tmp_path / "c.json").read_text())
    jsonschema.validate(made, SCHEMA)
    comparison = made["comparison"]
    assert comparison["reference"] == "one"
    by_name = {one["strategy"]: one for one in comparison["strategies"]}
    assert by_name["slow"]["ratio"]["high"] < 1
    assert "worse" in done.stdout
    two = by_name["two"]
    assert two["judgement"] == "same" or two["ratio"]["low"] <= 1 <= two["ratio"]["high"]
    assert [run["strategy"] for run in made["runs"]] != sorted(run["strategy"] for run in made["runs"])
    assert len({run["seed"] for run in made["runs"]}) == 6
    # The report shows the same again, from the file alone.
    again = racebench("report", "c.json").stdout
    assert done.stdout.startswith(again)
    assert racebench("report", "c.json", "--format", "svg", "-o", "c.svg").returncode == 0


@pytest.mark.server
def test_a_fast_invalid_strategy_comes_last(racebench: Command) -> None:
    done = racebench(
        "compare", "-s", "naive", "-s", "advisory", "--rounds", "2", "-n", "200", "--no-save", "--json", "-"
    )
    made = json.loads(done.stdout)
    jsonschema.validate(made, SCHEMA)
    assert [one["strategy"] for one in made["comparison"]["strategies"]] == ["advisory", "naive"]
    naive = made["comparison"]["strategies"][1]
    assert naive["judgement"] == "invalid"
    assert naive["counts"]["duplicates"] == sum(
        run["counts"]["duplicates"] for run in made["runs"] if run["strategy"] == "naive"
    )


@pytest.mark.server
def test_the_same_seed_runs_the_strategies_in_the_same_order(racebench: Command, twins: Path) -> None:
    orders = []
    for seed in ("4", "4", "5"):
        done = racebench(
            "compare", str(twins), "-w", "2", "--rounds", "2", "-n", "8", "--seed", seed, "--no-save", "--json", "-"
        )
        orders.append([(run["strategy"], run["seed"]) for run in json.loads(done.stdout)["runs"]])
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.server
def test_interrupted_half_way_the_finished_rounds_are_shown_and_saved(
    start: Start, racebench: Command, twins: Path, tmp_path: Path
) -> None:
    command = ["compare", str(twins), "-w", "2", "--rounds", "500", "-d", "0.2", "--save-baseline", "main"]
    process = start(*command, "--threshold", "duplicates == 0", "--json", "c.json")

    def rounds() -> int:
        try:
            return int(json.loads((tmp_path / "c.json").read_text())["comparison"]["whole"])
        except FileNotFoundError:
            return 0

    wait_for(lambda: rounds() >= 3, "no three rounds")
    process.send_signal(signal.SIGTERM)
    output, errors = finish(process)
    assert process.returncode == 130
    assert errors == "racebench: interrupted; no server, worker or schema is left\n"
    (saved,) = (tmp_path / "results").glob("*.json")
    made = json.loads(saved.read_text())
    jsonschema.validate(made, SCHEMA)
    assert made["complete"] is False
    whole = made["comparison"]["whole"]
    assert 3 <= whole < 500
    assert whole == min(Counter(run["strategy"] for run in made["runs"]).values())
    assert f"UNFINISHED: {whole} of 500 whole rounds" in output
    assert f"{whole} of 500 rounds were finished" in " ".join(output.split())
    assert "✓ passed  one: duplicates == 0" in output
    assert "baseline: not saved, because the comparison was not finished" in output
    assert list((tmp_path / "results" / "baselines").iterdir()) == []
    assert output.startswith(racebench("report", str(saved)).stdout)


def test_what_is_shown_is_what_was_saved_although_the_machine_is_in_another_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = iter("abc")
    monkeypatch.setattr(measuring, "_document", lambda _request, made, _rounds: replace(made, created=next(states)))
    record = measuring._Record(request=cast("Measurement", None))
    record.results = rounds_of(one=(100.0,))
    assert record.document().created == record.document().created == "a"
    record.results += rounds_of(two=(100.0,))
    assert record.document().created == "b"
    assert len(record.document().runs) == 2


@pytest.mark.server
def test_interrupted_in_the_first_round_what_was_finished_is_shown(
    start: Start, racebench: Command, tmp_path: Path
) -> None:
    process = start("compare", "-s", "correct", "-w", "2", "-d", "0.3", "--json", "c.json")
    wait_for((tmp_path / "c.json").exists, "no run was finished")
    process.send_signal(signal.SIGINT)
    output, errors = finish(process)
    assert process.returncode == 130
    assert errors == "racebench: interrupted; no server, worker or schema is left\n"
    assert "UNFINISHED: 0 of 7 whole rounds" in output
    (saved,) = (tmp_path / "results").glob("*.json")
    assert f"saved: {saved.relative_to(tmp_path)}" in output
    assert output.startswith(racebench("report", str(saved)).stdout)


@pytest.mark.server
def test_a_report_that_cannot_be_written_does_not_hide_what_was_measured(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "full.xml").symlink_to("/dev/full")
    done = racebench(
        *("compare", "-s", "upsert", "-s", "advisory", "-w", "2", "-n", "20", "--rounds", "2"),
        *("--report", "junit=full.xml"),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("racebench: cannot write full.xml: No space left on device")
    assert "2 rounds, in random order" in done.stdout
    assert "saved: results/" in done.stdout


@pytest.mark.server
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_before_anything_is_started_it_says_so_too(
    start: Start, tmp_path: Path, sign: signal.Signals
) -> None:
    os.mkfifo(tmp_path / "base.json")  # reading the baseline waits for a writer
    process = start("compare", "-s", "upsert", "-s", "advisory", "--baseline", "./base.json")
    ends: list[int] = []

    def reads() -> bool:
        with contextlib.suppress(OSError):  # ENXIO: nobody has opened it to read
            ends.append(os.open(tmp_path / "base.json", os.O_WRONLY | os.O_NONBLOCK))
        return bool(ends)

    wait_for(reads, "the baseline is not read")
    process.send_signal(sign)
    output, errors = finish(process)
    os.close(ends[0])
    assert process.returncode == 130
    assert (output, errors) == ("", "racebench: interrupted; no server, worker or schema is left\n")


@pytest.mark.server
def test_ctrl_c_does_not_end_the_process_that_forks_the_workers(start: Start) -> None:
    """On a terminal Ctrl-C goes to all of them. It is a fork of the command, which handles Ctrl-C itself."""
    process = start("compare", "-s", "upsert", "-s", "advisory", "-w", "2", "-n", "20", "--rounds", "2", "--no-save")
    times = 0
    while process.poll() is None:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            for child in children:
                if b"compare" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGINT)
                    times += 1
        time.sleep(0.005)  # many times from its beginning on
    output, errors = process.communicate()
    assert times > 0
    assert (process.returncode, errors) == (0, "")
    assert "2 rounds, in random order" in output


@pytest.mark.server
def test_a_second_interruption_changes_nothing(start: Start, tmp_path: Path) -> None:
    process = start("compare", "-s", "upsert", "-s", "advisory", "-w", "2", "-d", "0.2", "--json", "c.json")
    wait_for((tmp_path / "c.json").exists, "no run was finished")
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors == "racebench: interrupted; no server, worker or schema is left\n"


@pytest.mark.server
@pytest.mark.parametrize("fail_slower", ['"20%"', "20"])
def test_settings_hold_for_a_comparison_too(racebench: Command, tmp_path: Path, fail_slower: str) -> None:
    (tmp_path / "racebench.toml").write_text(
        'strategy = ["upsert", "advisory"]\nworkers = 2\n[compare]\nrounds = 2\noperations = 20\n'
        f'threshold = ["duplicates == 0"]\nbaseline = "main"\nfail-slower = {fail_slower}\n'
    )
    done = racebench("compare", "--no-save")
    assert done.returncode == 2
    assert "baseline 'main' not found" in done.stderr
    made = json.loads(racebench("run", "--no-save", "-n", "20", "--json", "-").stdout)
    assert "comparison" not in made


@pytest.mark.server
def test_the_reference_is_the_advised_strategy_unless_named(racebench: Command) -> None:
    options = ["-w", "2", "--rounds", "2", "-n", "20", "--no-save", "--json", "-"]
    made = json.loads(racebench("compare", "-s", "upsert", "-s", "advisory", *options).stdout)
    assert made["comparison"]["reference"] == "advisory"
    made = json.loads(racebench("compare", "-s", "advisory", "--reference", "upsert", *options).stdout)
    assert made["comparison"]["reference"] == "upsert"
    assert {run["strategy"] for run in made["runs"]} == {"advisory", "upsert"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "1"], "--rounds is a whole number from 2 to 1000, not '1'"),
        (["--rounds", "many"], "--rounds is a whole number from 2 to 1000, not 'many'"),
        (["-s", "advisory"], "compare needs two strategies or more, not only 'advisory'; add --strategy"),
        (["-s", "correct", "--reference", "advisry"], "strategy 'advisry' not found in version-counter; did you mean"),
        (["--reference", "correct"], "--reference 'correct' is a group; name one strategy"),
        (["-s", "niave", "-s", "advisory"], "did you mean 'naive'?"),
        (["--margin", "-1"], "--margin is a percentage from 0 to 99, such as 20%, not '-1'"),
        (["--fail-on", "duplicate"], "anomaly 'duplicate' is unknown; did you mean 'duplicates'?"),
    ],
)
def test_an_impossible_comparison_is_one_line_and_starts_nothing(
    racebench: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = racebench("compare", *arguments)
    assert_one_line(done, 2, message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.server
def test_an_anomaly_that_fail_on_names_is_exit_3_in_a_comparison_too(racebench: Command) -> None:
    options = ["--rounds", "2", "-w", "4", "-n", "120", "--no-save", "--fail-on", "any"]
    assert racebench("compare", "-s", "naive", "-s", "advisory", *options).returncode == 3
    assert racebench("compare", "-s", "upsert", "-s", "advisory", *options).returncode == 0


def test_on_a_users_server_nothing_is_left(racebench: Command, users_server: UsersServer) -> None:
    options = ["-w", "2", "--rounds", "3", "-n", "40", "--no-save", "--json", "-"]
    done = racebench("compare", "-s", "upsert", "-s", "advisory", *options, env={"RACEBENCH_DSN": users_server.dsn()})
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    jsonschema.validate(made, SCHEMA)
    assert made["environment"]["target"] == "external"
    assert made["comparison"]["whole"] == 3
    assert users_server.schemas() == []
    assert users_server.password not in done.stdout + done.stderr
