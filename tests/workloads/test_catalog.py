"""Scenario folders: what a well-formed one means, and one clear line for each malformed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from racebench.core.anomalies import ANOMALIES
from racebench.core.errors import ScenarioProblem, UsageProblem
from racebench.core.model import Numbering
from racebench.workloads import catalog

MANIFEST = """title = "T"
summary = "S"
schema = "schema.sql"
[rows]
table = "events"
[consumers.cursor]
summary = "polls"
script = "poll.sql"
cursor = { version = "zero" }
[strategies.naive]
summary = "reads, then writes"
script = "naive.sql"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    (made / "scenario.toml").write_text(MANIFEST)
    (made / "schema.sql").write_text("CREATE TABLE events ();")
    (made / "poll.sql").write_text("SELECT id, version FROM events WHERE version > :version;")
    (made / "naive.sql").write_text("BEGIN;\nINSERT INTO events DEFAULT VALUES;\nCOMMIT;")
    return made


def test_a_folder_is_read_with_its_defaults(folder: Path) -> None:
    scenario = catalog.find_scenario(str(folder))
    strategy = scenario.strategies["naive"]
    assert scenario.name == "mine"
    assert (scenario.rows.table, scenario.rows.version) == ("events", "version")
    assert (strategy.retry, strategy.isolation, strategy.numbering) == (None, None, Numbering.TENANT)
    assert strategy.expect == frozenset()
    assert scenario.advise == "naive"


def test_a_retry_rule_can_say_how_often_and_how_patiently(folder: Path) -> None:
    rule = 'retry = { sqlstates = ["40001", "40P01"], tries = 7, backoff_ms = 0.5 }\n'
    (folder / "scenario.toml").write_text(MANIFEST + rule)
    retry = catalog.find_scenario(str(folder)).strategies["naive"].retry
    assert retry is not None
    assert (retry.sqlstates, retry.tries, retry.backoff_ms) == ({"40001", "40P01"}, 7, 0.5)


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("title = ", "tittle = ", 1, "unknown key 'tittle'; did you mean 'title'?"),
        ('summary = "S"\n', "", 1, 'the scenario needs summary = "…"'),
        ('title = "T"', "title = T", 1, "Invalid value"),
        ("[rows]", "[rows", 4, "Expected"),
        ('[rows]\ntable = "events"\n', "", 4, "consumers need [rows]"),
        ('table = "events"', 'tables = "events"', 5, "unknown key 'tables'; did you mean 'table'?"),
        ('script = "naive.sql"', 'script = "other.sql"', 12, "script names 'other.sql', which is not a file in"),
        ('script = "naive.sql"', 'script = "naive.sql"\nisolation = "snapshot"', 13, "isolation 'snapshot' is unknown"),
        ('script = "naive.sql"', 'script = "naive.sql"\nretry = "40001"', 13, "retry takes SQLSTATEs of five"),
        ('script = "naive.sql"', 'script = "naive.sql"\nretry = ["4"]', 13, "retry takes SQLSTATEs of five"),
        ('script = "naive.sql"', 'script = "naive.sql"\nretry = {sqlstates = ["40001"], tries = 0}', 13, "tries is"),
        ('script = "naive.sql"', 'script = "naive.sql"\nretry = {codes = ["40001"]}', 13, "retry has no 'codes'"),
        (
            'script = "naive.sql"',
            'script = "naive.sql"\nretry = {lost = 1}',
            13,
            "retry's lost is true or false, not 1",
        ),
        ('schema = "schema.sql"', 'schema = "schema.sql"\nfaults = "cut:2%"', 4, "faults is a list such as"),
        ('schema = "schema.sql"', 'schema = "schema.sql"\nfaults = ["cut"]', 4, "fault 'cut' cannot be read"),
        ('script = "naive.sql"', 'script = "naive.sql"\nexpect = ["doubles"]', 13, "anomaly 'doubles' is unknown"),
        (
            'script = "naive.sql"',
            'script = "naive.sql"\nnumbers = "row"',
            13,
            "numbers 'row' is unknown; known: none, table, tenant",
        ),
        ('schema = "schema.sql"', 'schema = "schema.sql"\nadvise = "naiv"', 4, "did you mean 'naive'?"),
        (
            '[strategies.naive]\nsummary = "reads, then writes"\nscript = "naive.sql"\n',
            "",
            1,
            "at least one [strategies",
        ),
        ("[strategies.naive]", "[strategies.naive]\nscripts = 1", 11, "unknown key 'scripts'; did you mean 'script'?"),
    ],
)
def test_a_malformed_manifest_is_named_by_file_and_line(
    folder: Path, before: str, after: str, line: int, message: str
) -> None:
    manifest = folder / "scenario.toml"
    assert before in MANIFEST
    manifest.write_text(MANIFEST.replace(before, after))
    with pytest.raises(ScenarioProblem) as caught:
        catalog.find_scenario(str(folder))
    assert str(caught.value).startswith(f"{manifest}:{line}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_script_outside_the_subset_is_named_by_file_and_line(folder: Path) -> None:
    (folder / "naive.sql").write_text("BEGIN;\n\\shell rm -rf /\nCOMMIT;")
    with pytest.raises(ScenarioProblem, match=r"naive\.sql:2: \\shell is not supported"):
        catalog.find_scenario(str(folder))


def test_a_consumer_of_two_steps_is_refused(folder: Path) -> None:
    (folder / "poll.sql").write_text("SELECT 1;\nSELECT 2;")
    with pytest.raises(ScenarioProblem, match=r"poll\.sql:1: a consumer's script is one query, not 2"):
        catalog.find_scenario(str(folder))


def test_a_folder_without_a_manifest_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ScenarioProblem, match=r"scenario\.toml: cannot be read"):
        catalog.find_scenario(str(tmp_path))


def test_a_manifest_that_is_not_text_is_refused(folder: Path) -> None:
    (folder / "scenario.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioProblem, match="is not UTF-8 text"):
        catalog.find_scenario(str(folder))


def test_unknown_names_come_with_a_suggestion() -> None:
    scenario = catalog.find_scenario(None)
    with pytest.raises(UsageProblem, match=r"strategy 'niave' not found in version-counter; did you mean 'naive'\?"):
        catalog.find_strategy(scenario, "niave")
    with pytest.raises(UsageProblem, match=r"did you mean 'version-counter'\?"):
        catalog.find_scenario("version-conter")
    with pytest.raises(UsageProblem, match="does not exist"):
        catalog.find_scenario("./nowhere")


@pytest.mark.parametrize("scenario", catalog.shipped(), ids=lambda scenario: scenario.name)
def test_every_shipped_strategy_says_what_it_is_and_who_says_so(scenario: catalog.Scenario) -> None:
    for strategy in (*scenario.strategies.values(), *scenario.consumers.values()):
        assert strategy.summary
    for strategy in scenario.strategies.values():
        assert strategy.source
        assert strategy.expect <= set(scenario.forbid) <= set(ANOMALIES)
