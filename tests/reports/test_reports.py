"""What people read: the table fits a terminal, the timeline is to scale, the sentences say what was found."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from conftest import Command
from histories import Op, Poll, Row, all_findings, history
from judged import ENVIRONMENT, TWINS, result_of
from racebench.analysis.checkers import CHECKERS
from racebench.core.anomalies import ANOMALIES, Evidence, needing
from racebench.core.model import Outcome, Scenario
from racebench.core.results import Anomaly, RunResult
from racebench.core.verdict import Verdict
from racebench.reports import formats, sentences
from racebench.reports.results import document, reading
from racebench.reports.results.sources import Source
from racebench.reports.terminal import run_table, timeline


def shown(*results: RunResult, width: int = 80, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    console = Console(file=file, width=width, color_system=None, highlight=False)
    run_table.show(console, document.Document(environment=ENVIRONMENT, created="", runs=results))
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(encoding)


def test_the_table_fits_80_columns_with_large_numbers(version_counter: Scenario) -> None:
    big = result_of(version_counter, "naive")
    counts = dict.fromkeys(big.counts, 9_999_999)
    latency = {"p50": 123_456.0, "p90": 1e6, "p99": 1_234_567.0, "max": 1e7}
    said = shown(replace(big, strategy="unique-retry", counts=counts, throughput_per_s=99_999, latency_us=latency))
    assert max(map(len, said.splitlines())) <= 80
    assert "…" not in said
    assert "10.0M" in said
    assert "INVALID" in said


@pytest.mark.parametrize("name", ["[bold]x", "[/x]", ":smile:"])
def test_a_name_that_looks_like_markup_is_printed_as_it_is(
    name: str, version_counter: Scenario, racebench: Command, tmp_path: Path
) -> None:
    result = replace(result_of(version_counter, "naive"), strategy=name, messages={"23505": name})
    whole = document.Document(environment=ENVIRONMENT, created="2026-01-01T00:00:00Z", runs=(result,))
    (tmp_path / "x.json").write_text(document.to_json(whole))
    for format_ in ("table", "svg"):
        done = racebench("report", "x.json", "--format", format_)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count(name) >= 2, "in the table, and in the sentence below it"


def test_without_unicode_nothing_is_lost(version_counter: Scenario) -> None:
    said = shown(result_of(version_counter, "naive"), encoding="ascii")
    assert "worker 1" in said
    assert "|---" in said


def test_the_witness_is_drawn_to_scale(version_counter: Scenario) -> None:
    (witness,) = all_findings(TWINS)["duplicates"].witnesses
    lines = timeline.draw(witness, width=90)
    one, two, consumer, scale = lines
    assert one.startswith("worker 1")
    assert "version 17" in one
    assert one.endswith("row 40: delivered by poll 0")
    assert two.endswith("row 41: never delivered")
    assert consumer.endswith("poll 0: cursor start → 17")
    assert scale.split() == ["0.00", "ms", "8.00", "ms"]
    start, end = one.index("├"), two.rindex("┤")
    assert (one.index("┤") - start) / (end - start) == pytest.approx(0.5, abs=0.03)
    assert (two.index("├") - start) / (end - start) == pytest.approx(0.125, abs=0.03)
    assert max(map(len, lines)) <= 90


def test_an_operation_that_never_ended_is_drawn_open() -> None:
    operation = {
        "worker": 3,
        "operation": 1,
        "version": 5,
        "start_us": 0.0,
        "end_us": None,
        "outcome": "UNKNOWN",
        "sqlstate": None,
    }
    (line, _) = timeline.draw(Anomaly(kind="lost", explanation="", operations=(operation,)), width=80)
    assert "…" in line
    assert line.endswith("UNKNOWN")


@pytest.mark.parametrize("width", [20, 40, 60, 200])
def test_any_width_draws_without_failing(width: int) -> None:
    for finding in all_findings(TWINS).values():
        for witness in finding.witnesses:
            assert timeline.draw(witness, width=width)


def test_what_happened_and_what_to_do_are_said(version_counter: Scenario) -> None:
    result = result_of(version_counter, "naive")
    assert sentences.happened(result) == (
        "1 of 2 rows has a version that another row already has, and the consumer never saw 1 of 2 committed rows"
        " (50%)."
    )
    assert sentences.advice(result).endswith("try `--strategy advisory`.")
    assert sentences.expectation(result) == ", as expected"
    both = replace(result, consumers=(*result.consumers, replace(result.consumers[0], name="lookback")))
    assert sentences.happened(both).endswith(
        ", and of 2 committed rows 'cursor' never saw 1 (50%), 'lookback' never saw 1 (50%)."
    )


def test_a_right_strategy_with_an_anomaly_is_not_as_expected(version_counter: Scenario) -> None:
    result = result_of(version_counter, "advisory")
    assert result.verdict is Verdict.INVALID
    assert sentences.expectation(result) == ", NOT as expected"


def test_an_expected_anomaly_that_did_not_show_is_not_as_expected(version_counter: Scenario) -> None:
    clean = history([Op(1, 0, 5, 1), Op(2, 4, 9, 2)], [Row(1, 1, 1), Row(2, 2, 2)], [Poll((1, 2), 2)])
    result = result_of(version_counter, "sequence", clean)
    assert result.verdict is Verdict.VALID
    assert not result.as_expected
    assert "known to allow missed, which did not show this time" in sentences.advice(result)


def test_nothing_committed_is_unknown_and_says_why(version_counter: Scenario) -> None:
    failed = history([Op(1, 0, 5, outcome=Outcome.FAIL, sqlstate="53100")])
    result = result_of(version_counter, "naive", failed, messages={"53100": "could not extend file"})
    assert result.verdict is Verdict.UNKNOWN
    assert sentences.happened(result) == "No operation was committed (53100 could not extend file)."


def test_a_consumer_that_did_not_finish_is_unknown_but_duplicates_are_still_invalid(version_counter: Scenario) -> None:
    clean = history([Op(1, 0, 5, 1)], [Row(1, 1, 1)], [Poll((1,), 1)], drained=False)
    assert result_of(version_counter, "advisory", clean).verdict is Verdict.UNKNOWN
    guilty = history([Op(1, 0, 5, 1), Op(2, 0, 5, 1)], [Row(1, 1, 1), Row(2, 1, 2)], drained=False)
    assert result_of(version_counter, "advisory", guilty).verdict is Verdict.INVALID


def test_a_document_survives_json(version_counter: Scenario) -> None:
    whole = document.Document(
        environment=ENVIRONMENT, created="2026-01-01T00:00:00Z", runs=(result_of(version_counter, "naive"),)
    )
    assert reading.from_json(document.to_json(whole), "x") == whole


def test_markup_in_names_is_shown_not_run(version_counter: Scenario) -> None:
    hostile = replace(result_of(version_counter, "naive"), strategy="[red]x[/red]<script>")
    assert "[red]x[/red]<script>" in shown(hostile)
    whole = document.Document(environment=ENVIRONMENT, created="", runs=(hostile,))
    picture = formats.render("svg", [Source(path=Path("x.json"), content=whole)], title="<t>&")
    assert "<script>" not in picture


def test_the_schema_of_results_names_every_kind_of_anomaly_and_requires_the_count_of_each() -> None:
    schema = json.loads(document.SCHEMA_FILE.read_text())
    counts = schema["$defs"]["run"]["properties"]["counts"]
    per_consumer = schema["$defs"]["consumer"]["properties"]["counts"]
    assert schema["$defs"]["kind"]["enum"] == list(ANOMALIES)
    of_old = {name for name, kind in ANOMALIES.items() if not kind.added_later}
    assert set(CHECKERS) & of_old <= set(counts["required"])
    assert set(needing(Evidence.CONSUMER)) & of_old <= set(per_consumer["required"])
