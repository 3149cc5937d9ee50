"""What CI reads: CSV, JUnit XML, GitHub's job summary and tracked figures, from a run or from what it saved."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Command, Start, assert_one_line
from judged import ENVIRONMENT, result_of
from junit_dialect import problems
from measured import rendered
from racebench.core.model import Scenario
from racebench.core.results import Anomaly, RunResult
from racebench.core.verdict import Verdict
from racebench.reports import formats
from racebench.reports.formats import cases, csv_table, job_summary, junit
from racebench.reports.results.document import Document, to_json
from racebench.reports.results.reading import from_json
from racebench.reports.terminal import run_table, tables
from waiting import finish, wait_for


def whole(*runs: RunResult, complete: bool = True) -> Document:
    return Document(environment=ENVIRONMENT, created="2026-01-02T03:04:05Z", runs=runs, complete=complete)


def saved_text(report: str) -> str:
    """A report as it is from what was saved: that has no exit code, which SARIF has from the command."""
    return re.sub(r'^ *"exitCode": \d+,\n', "", report, flags=re.MULTILINE)


def xml_of(*runs: RunResult) -> str:
    return rendered("junit", whole(*runs))


# JUnit XML


def test_the_check_finds_what_is_wrong() -> None:
    good = '<testsuites tests="1" failures="0" errors="0"><testsuite name="a" tests="1" failures="0" errors="0">'
    good += '<testcase name="x" time="1.5"/></testsuite></testsuites>'
    assert problems(good) == []
    assert problems(good.replace("<testcase", "<testcase verdict='x'")) == ["testcase may not have verdict"]
    assert problems(good.replace('name="x" ', "")) == ["testcase lacks name"]
    assert problems(good.replace('time="1.5"', 'time="soon"')) == ["testcase has time soon"]
    assert problems(good.replace('tests="1"', 'tests="2"')) == [
        "testsuites counts tests wrong",
        "testsuite counts tests wrong",
    ]
    assert problems(good.replace("/></", "><properties/></testcase></")) == ["testcase may not hold properties"]


def test_invalid_is_a_failure_with_the_witness_and_valid_passes(version_counter: Scenario) -> None:
    guilty = result_of(version_counter, "naive")
    innocent = replace(guilty, strategy="advisory", verdict=Verdict.VALID, counts=dict.fromkeys(guilty.counts, 0))
    text = xml_of(guilty, innocent)
    assert problems(text) == []
    one, two = ET.fromstring(text).iter("testcase")
    assert (one.get("classname"), one.get("name")) == ("racebench.run.version-counter", "naive")
    failure = one.find("failure")
    assert failure is not None
    assert failure.get("type") == "duplicates,missed"
    assert str(failure.get("message")).startswith("1 of 2 rows has a version that another row already has")
    assert "worker 1 and worker 2 both wrote version 17" in str(failure.text)
    assert "├" in str(failure.text), "the witness is drawn"
    assert "seed 1" in str(failure.text)
    assert two.find("failure") is None
    assert two.find("error") is None


def test_a_broken_invariant_is_said_once(version_counter: Scenario) -> None:
    said = "invariant 'sum-kept' is broken by 2 rows, for example balance = 3"
    guilty = result_of(version_counter, "naive")
    own = replace(
        guilty,
        forbidden=("violations",),
        counts={**dict.fromkeys(guilty.counts, 0), "violations": 2},
        witnesses=(Anomaly(kind="violations", explanation=said),),
        consumers=(),
    )
    failure = ET.fromstring(xml_of(own)).find(".//failure")
    printed = tables.plain(lambda console: run_table.show(console, whole(own)), width=80)
    assert failure is not None
    for text in (str(failure.text), printed):  # JUnit's message is repeated by the text of the failure
        assert " ".join(text.split()).count(f"I{said[1:]}. ") == 1
        assert text.count("balance = 3") == 1


def test_one_of_several_anomalies_is_named_in_english(version_counter: Scenario) -> None:
    guilty = result_of(version_counter, "naive")
    refused = Anomaly(kind="refused", explanation="worker 1 was refused with 23505 after 2 tries")
    own = replace(
        guilty, forbidden=("refused",), counts={**guilty.counts, "refused": 2}, witnesses=(refused,), consumers=()
    )
    assert "One of the refused operations: worker 1 was refused" in xml_of(own)


def test_unknown_is_an_error_not_a_pass(version_counter: Scenario) -> None:
    unknown = replace(result_of(version_counter, "naive"), verdict=Verdict.UNKNOWN)
    text = xml_of(unknown)
    assert problems(text) == []
    (case,) = ET.fromstring(text).iter("testcase")
    error = case.find("error")
    assert error is not None
    assert error.get("type") == "UNKNOWN"
    assert case.find("failure") is None


def test_cases_of_one_strategy_have_names_of_their_own(version_counter: Scenario) -> None:
    result = result_of(version_counter, "naive")
    alone = replace(result, consumers=())
    text = xml_of(result, alone, alone)
    assert problems(text) == []
    assert [case.get("name") for case in ET.fromstring(text).iter("testcase")] == [
        "naive with cursor",
        "naive alone",
        "naive alone #2",
    ]


@given(st.text(st.characters(codec=None)))
def test_any_text_survives_xml(version_counter: Scenario, text: str) -> None:
    hostile = replace(result_of(version_counter, "naive"), strategy=f"x{text}", notes=(text,), scenario=f"s{text}")
    assert problems(xml_of(hostile)) == []


def test_what_xml_cannot_hold_is_escaped(version_counter: Scenario) -> None:
    hostile = replace(result_of(version_counter, "naive"), notes=("\x00 \x1b[31m \ufffe ]]> <b>",))
    read = "".join(ET.fromstring(xml_of(hostile)).itertext())
    assert r"\x00 \x1b[31m \ufffe ]]> <b>" in read


# CSV


def test_csv_has_a_row_a_run_and_the_documented_columns(version_counter: Scenario) -> None:
    result = result_of(version_counter, "naive")
    quoted = replace(result, strategy='a,"b"\nc', latency_us={"p50": None, "p90": None, "p99": None, "max": None})
    text = rendered("csv", whole(result, quoted))
    one, two = csv.DictReader(io.StringIO(text))
    assert one["verdict"] == "INVALID"
    assert (one["duplicates"], one["missed"], one["rows"]) == ("1", "1", "2")
    assert float(one["throughput_per_s"]) == result.throughput_per_s
    assert two["strategy"] == 'a,"b"\nc'
    assert two["p50_us"] == two["p999_us"] == ""
    page = (Path(__file__).parents[2] / "docs" / "ci.md").read_text()
    documented = re.search(r"```csv\n(.*?)```", page, re.DOTALL)
    assert documented is not None
    assert documented.group(1).replace("\n", "").split(",") == list(csv_table.COLUMNS)
    assert set(result.counts) <= set(csv_table.COLUMNS)


# github-action-benchmark


def test_tracked_figures_are_arrays_of_name_unit_value(version_counter: Scenario) -> None:
    result = result_of(version_counter, "naive")
    nothing = dict.fromkeys(result.latency_us)
    silent = replace(result, strategy="silent", latency_us=nothing, throughput_per_s=0.0)
    bigger = json.loads(rendered("bigger-is-better", whole(result, silent)))
    smaller = json.loads(rendered("smaller-is-better", whole(result, silent)))
    for entries in (bigger, smaller):
        for entry in entries:
            assert set(entry) == {"name", "unit", "value", "extra"}
            assert isinstance(entry["value"], int | float)
            assert all(isinstance(entry[key], str) for key in ("name", "unit", "extra"))
        names = [entry["name"] for entry in entries]
        assert len(set(names)) == len(names)
    assert [entry["value"] for entry in bigger] == [result.throughput_per_s, 0.0]
    by_name = {entry["name"]: entry for entry in smaller}
    assert by_name["version-counter/naive: duplicates"]["value"] == 1
    assert by_name["version-counter/naive: p99"]["value"] == (result.latency_us["p99"] or 0) / 1e3
    assert "version-counter/silent: p99" not in by_name


# The job summary


def test_the_summary_has_a_table_and_the_witness_folded_away(version_counter: Scenario) -> None:
    said = rendered("summary", whole(result_of(version_counter, "naive")))
    assert said.startswith("### racebench: version-counter on PostgreSQL 18.4 (embedded)\n")
    assert "| naive | ❌ INVALID | 1 duplicate, 1 missed |" in said
    assert "<details><summary>❌ version-counter: naive is INVALID</summary>" in said
    assert "worker 1 and worker 2 both wrote version 17" in said


def test_names_do_not_break_the_summary(version_counter: Scenario) -> None:
    hostile = replace(result_of(version_counter, "naive"), strategy="a|b`c<img>\nd", notes=("```\n# x",))
    said = rendered("summary", whole(hostile))
    table = [line for line in said.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {9}
    assert "<img>" not in said.split("```")[0]
    assert "\n````text\n" in said, "a fence that what it holds cannot close"


def test_the_summary_keeps_to_githubs_limit_by_whole_sections(version_counter: Scenario) -> None:
    long = replace(result_of(version_counter, "naive"), notes=("ü" * 300_000,))
    said = rendered("summary", whole(*(replace(long, strategy=f"s{number}") for number in range(5))))
    assert len(said.encode()) <= job_summary.LIMIT
    assert said.count("<details>") == said.count("</details>") == 1
    assert said.endswith("The saved results have it._\n")
    assert "| s4 |" in said, "the table comes first"
    assert job_summary.fit(["abc"], 2) == ""
    assert job_summary.fit(["abc"], 3) == "abc"


def test_an_interrupted_run_says_so(version_counter: Scenario) -> None:
    result = result_of(version_counter, "naive")
    assert "Interrupted" in rendered("summary", whole(result, complete=False))
    assert "Made by" not in rendered("summary", whole(result))
    assert 'name="complete" value="false"' in junit.to_xml(cases.suites([whole(result, complete=False)]))


def test_the_command_is_below_the_table_and_is_read_again(version_counter: Scenario) -> None:
    made = replace(whole(result_of(version_counter, "naive")), command="racebench run -D 'note=a`b'")
    assert from_json(to_json(made), "x").command == made.command
    for name in ("summary", "markdown"):
        assert "Made by `` racebench run -D 'note=a`b' `` (racebench " in rendered(name, made)


# From end to end


@pytest.mark.server
def test_a_run_writes_reports_and_the_summary_by_itself(racebench: Command, tmp_path: Path) -> None:
    job = tmp_path / "summary.md"
    job.write_text("before\n")
    every = [f"--report={name}=report.{name}" for name in formats.OF_RUNS]
    done = racebench(
        *("run", "-s", "naive", "-s", "advisory", "-n", "800", *every, "--fail-on", "any"),
        env={job_summary.VARIABLE: str(job)},
    )
    assert done.returncode == 3
    assert done.stderr == ""
    said = job.read_text()
    assert said.startswith("before\n### racebench: version-counter on PostgreSQL")
    assert "naive | ❌ INVALID" in said
    assert "advisory | ✅ VALID" in said
    (saved,) = (tmp_path / "results").glob("*.json")
    for name in formats.OF_RUNS:
        written = (tmp_path / f"report.{name}").read_text()
        assert written
        again = racebench("report", str(saved), "--format", name, "-o", "again")
        assert again.returncode == 0, again.stderr
        assert (tmp_path / "again").read_text() == saved_text(written), f"{name} is the same from what was saved"
    text = (tmp_path / "report.junit").read_text()
    assert problems(text) == []
    assert 'tests="2" failures="1" errors="0"' in text
    assert said == f"before\n{(tmp_path / 'report.summary').read_text()}"


@pytest.mark.server
def test_an_exploration_writes_reports_and_the_summary_too(racebench: Command, tmp_path: Path) -> None:
    job = tmp_path / "summary.md"
    every = [f"--report={name}=report.{name}" for name in formats.OF_EXPLORATIONS]
    done = racebench(
        *("explore", "-s", "naive", "-s", "advisory", *every, "--markdown", "m.md", "--fail-on", "any"),
        env={job_summary.VARIABLE: str(job)},
    )
    assert done.returncode == 3
    assert done.stderr == ""
    (saved,) = (tmp_path / "results").glob("*.json")
    for name in formats.OF_EXPLORATIONS:
        assert racebench("report", str(saved), "--format", name, "-o", "again").returncode == 0
        assert (tmp_path / "again").read_text() == saved_text((tmp_path / f"report.{name}").read_text())
    assert (tmp_path / "m.md").read_text() == (tmp_path / "report.markdown").read_text()
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(saved.read_text())
    text = (tmp_path / "report.junit").read_text()
    assert problems(text) == []
    naive, advisory = ET.fromstring(text).iter("testcase")
    failure = naive.find("failure")
    assert failure is not None
    assert "racebench replay 'v1:version-counter/naive[" in str(failure.text)
    assert advisory.find("failure") is None
    assert "naive is INVALID" in job.read_text()
    for name in sorted(set(formats.OF_RUNS) - set(formats.OF_EXPLORATIONS)):
        refused = racebench("report", str(saved), "--format", name)
        assert refused.returncode == 2
        assert refused.stderr == (
            f"racebench: --format {name} is for runs, and these are explorations; "
            "take table, markdown, json, junit, summary, sarif\n"
        )


@pytest.mark.server
def test_runs_and_explorations_make_one_junit_report(racebench: Command, tmp_path: Path) -> None:
    assert racebench("run", "-s", "upsert", "-n", "80").returncode == 0
    assert racebench("explore", "-s", "upsert").returncode == 0
    saved = sorted(map(str, (tmp_path / "results").glob("*.json")))
    assert len(saved) == 2
    done = racebench("report", *saved, "--format", "junit")
    assert problems(done.stdout) == []
    suites = [suite.get("name") for suite in ET.fromstring(done.stdout).iter("testsuite")]
    assert suites == ["version-counter (run)", "version-counter (explore)"]
    both = racebench("report", *saved, "--format", "json")
    assert both.returncode == 2
    assert both.stderr.count("\n") == 1


@pytest.mark.server
def test_among_other_results_thresholds_and_comparisons_are_not_lost(racebench: Command, tmp_path: Path) -> None:
    few = ("-w", "2", "-n", "20", "--threshold", "rows == 7", "--no-save", "--json")
    assert racebench("run", "-s", "upsert", *few, "run.json").returncode == 4
    assert racebench("compare", "-s", "upsert", "-s", "advisory", "--rounds", "2", *few, "both.json").returncode == 4
    assert racebench("run", "-s", "upsert", "-n", "20", "--no-save", "--json", "plain.json").returncode == 0
    files = ("run.json", "both.json", "plain.json")
    suites = ET.fromstring(racebench("report", *files, "--format", "junit").stdout)
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in suites] == [
        ("version-counter (run)", "1", "0"),
        ("version-counter (run)", "1", "0"),
        ("version-counter (limits)", "1", "1"),
        ("version-counter (compare)", "2", "0"),
        ("version-counter (limits)", "2", "2"),
    ]
    summary = racebench("report", *files, "--format", "summary").stdout
    assert summary.count("✗ crossed") == 3
    assert "2 rounds, in random order" in summary
    rows = racebench("report", *files, "--format", "csv").stdout.splitlines()
    assert len(rows) == 1 + 1 + 4 + 1
    assert len(json.loads(racebench("report", *files, "--format", "json").stdout)["runs"]) == 6


@pytest.mark.server
def test_a_matrix_is_summarized_as_its_table(racebench: Command, tmp_path: Path) -> None:
    job = tmp_path / "summary.md"
    done = racebench(
        *("matrix", "-s", "upsert", "--consumer", "cursor", "-n", "80", "--markdown", "grid.md"),
        *("--report", "junit=j.xml"),
        env={job_summary.VARIABLE: str(job)},
    )
    assert done.returncode == 0
    assert (tmp_path / "grid.md").read_text() in job.read_text()
    assert problems((tmp_path / "j.xml").read_text()) == []


@pytest.mark.server
@pytest.mark.parametrize(("strategy", "code"), [("upsert", 0), ("naive", 3)])
@pytest.mark.parametrize("place", ["/dev/full", ".", "none/summary.md"])
def test_a_summary_that_cannot_be_written_is_a_warning(
    racebench: Command, tmp_path: Path, place: str, strategy: str, code: int
) -> None:
    asked = ("run", "-s", strategy, "-n", "800", "--fail-on", "any")
    done = racebench(*asked, env={job_summary.VARIABLE: place})
    assert done.returncode == code
    assert done.stderr.startswith(
        f"racebench: warning: the job summary {job_summary.VARIABLE} '{place}' cannot be written"
    )
    assert done.stderr.count("\n") == 1
    assert "saved: results/" in done.stdout


@pytest.mark.server
def test_a_full_summary_is_not_made_too_long(racebench: Command, tmp_path: Path) -> None:
    job = tmp_path / "summary.md"
    job.write_text("x" * (job_summary.LIMIT - 20))
    assert racebench("run", "-s", "naive", "-n", "80", env={job_summary.VARIABLE: str(job)}).returncode == 0
    assert job.stat().st_size <= job_summary.LIMIT


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ("junti=x.xml", "--report 'junti=x.xml': format 'junti' is unknown; did you mean 'junit'?"),
        ("junit", "--report is FORMAT=PATH, such as junit=report.xml, not 'junit'"),
        ("junit=", "--report is FORMAT=PATH, such as junit=report.xml, not 'junit='"),
        ("junit=none/x.xml", "--report 'none/x.xml': folder 'none' does not exist; make it first"),
        ("junit=.", "--report '.' is a folder; name a file, or '-' for stdout"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(
    racebench: Command, tmp_path: Path, report: str, said: str
) -> None:
    for command in ("run", "explore", "matrix"):
        done = racebench(command, "-s", "upsert", "--no-save", "--report", report)
        assert (done.returncode, done.stderr, done.stdout) == (2, f"racebench: {said}\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "options", "both"),
    [
        ("run", ("--report", "junit=-", "--json", "-"), "--json - and --report junit=-"),
        ("compare", ("--report", "csv=-", "--report", "json=-"), "--report csv=- and --report json=-"),
        ("matrix", ("--report", "csv=-", "--markdown", "-"), "--markdown - and --report csv=-"),
        ("explore", ("--json", "-", "--markdown", "-"), "--json - and --markdown -"),
    ],
)
def test_two_documents_on_stdout_are_refused(
    racebench: Command, tmp_path: Path, command: str, options: tuple[str, ...], both: str
) -> None:
    done = racebench(command, "-s", "upsert", "-s", "advisory", "--no-save", *options)
    said = f"racebench: {both} both write to stdout; give all but one of them a file\n"
    assert (done.returncode, done.stderr, done.stdout) == (2, said, "")
    shortcuts = racebench("report", "any.json", "--html", "-", "--svg", "-")
    assert (shortcuts.returncode, shortcuts.stdout) == (2, "")
    assert shortcuts.stderr.startswith("racebench: --html - and --svg - both write to stdout;")


@pytest.mark.server
@pytest.mark.parametrize("command", [("run", "-n", "80"), ("explore",)])
def test_a_report_on_stdout_is_alone_there(racebench: Command, command: tuple[str, ...]) -> None:
    done = racebench(*command, "-s", "upsert", "--report", "summary=-", "--report", "junit=j.xml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("### racebench: version-counter on ")
    assert "saved: " not in done.stdout
    assert "page: " not in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema_version": 1, "explorations": 5}', "is not a racebench result: the document has no 'created'"),
        ('{"schema_version": 9, "explorations": []}', "has schema version 9, this racebench reads 1; explore again"),
        ('{"explorations": [', "is not JSON"),
        ('"explorations"', "is not a racebench result"),
    ],
)
def test_a_file_that_holds_no_results_is_one_line(racebench: Command, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.json").write_text(text)
    done = racebench("report", "x.json", "--format", "junit")
    assert_one_line(done, 2, said)


def test_an_empty_document_has_no_cases() -> None:
    assert problems(rendered("junit", whole())) == []
    assert rendered("csv", whole()).count("\n") == 1


@pytest.mark.server
def test_an_interrupted_run_reports_what_was_finished(start: Start, tmp_path: Path) -> None:
    process = start("run", "-s", "upsert", "-s", "advisory", "-d", "3", "--report", "junit=j.xml")
    wait_for(lambda: any((tmp_path / "results").glob("*.json")), "the first run is never saved")
    process.send_signal(signal.SIGINT)
    finish(process)
    assert process.returncode == 130
    text = (tmp_path / "j.xml").read_text()
    assert problems(text) == []
    assert 'name="complete" value="false"' in text
    assert [case.get("name") for case in ET.fromstring(text).iter("testcase")] == ["upsert"]
