"""Old spellings of options go on working, with one line of warning, and help hides them (docs/decisions/0010)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Command

SPEC = """
setup { CREATE TABLE t (id int); }
teardown { DROP TABLE t; }
session one
step a { INSERT INTO t VALUES (1); }
session two
step b { SELECT count(*) FROM t; }
permutation a b
"""


def warning(old: str, new: str) -> str:
    return f"racebench: warning: {old} is the old spelling of {new}; write {new}\n"


@pytest.mark.parametrize(("command", "old"), [("explore", "--expected"), ("explore", "-n,"), ("run", "--schema")])
def test_help_hides_the_old_spelling(racebench: Command, command: str, old: str) -> None:
    assert old not in racebench(command, "--help").stdout


@pytest.mark.server
def test_n_is_the_number_of_sessions_in_explore(racebench: Command) -> None:
    done = racebench("explore", "-s", "upsert", "-n", "3", "--no-save", "--json", "-")
    assert (done.returncode, done.stderr) == (0, warning("-n", "--sessions"))
    assert json.loads(done.stdout)["explorations"][0]["sessions"] == 3
    twice = racebench("explore", "-n", "3", "--sessions", "2")
    assert twice.returncode == 2
    assert "-n and --sessions are the same option; give it once" in twice.stderr


@pytest.mark.server
def test_schema_is_setup_and_both_add_up(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "insert.sql").write_text("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1);\n")
    setups = ("--schema", "CREATE TABLE t (id int)", "--setup", "CREATE TABLE u (id int)")
    done = racebench("run", "insert.sql", *setups, "-w", "2", "-n", "20", "--no-save", "--json", "-")
    assert (done.returncode, done.stderr) == (0, warning("--schema", "--setup"))
    assert json.loads(done.stdout)["runs"][0]["counts"]["committed"] == 20


@pytest.mark.server
def test_expected_is_diff_on_the_command_line_in_files_and_in_variables(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "small.spec").write_text(SPEC)
    (tmp_path / "small.out").write_text(racebench("explore", "small.spec").stdout)
    (tmp_path / "other.out").write_text("other\n")
    done = racebench("explore", "small.spec", "--expected", "small.out")
    assert (done.returncode, done.stderr) == (0, warning("--expected", "--diff"))
    assert racebench("explore", "small.spec", "--expected", "other.out").returncode == 3
    for variable, new in (
        ("RACEBENCH_EXPECTED", "RACEBENCH_DIFF"),
        ("RACEBENCH_EXPLORE_EXPECTED", "RACEBENCH_EXPLORE_DIFF"),
    ):
        done = racebench("explore", "small.spec", env={variable: "other.out"})
        assert done.returncode == 3
        assert done.stderr == f"racebench: warning: {variable} is the old spelling of {new}; set {new}\n"
    both = racebench("explore", "small.spec", env={"RACEBENCH_EXPECTED": "other.out", "RACEBENCH_DIFF": "small.out"})
    assert both.returncode == 0
    (tmp_path / "racebench.toml").write_text('[explore]\nexpected = "other.out"\n')
    done = racebench("explore", "small.spec")
    assert done.returncode == 3
    assert (
        done.stderr == "racebench: warning: racebench.toml: explore.expected is the old spelling of diff; write diff\n"
    )


@pytest.mark.server
def test_the_format_grid_is_matrix(racebench: Command, tmp_path: Path) -> None:
    load = ("matrix", "-s", "upsert", "--consumer", "cursor", "-n", "80", "--no-save", "--json", "m.json")
    done = racebench(*load, "--report", "grid=old.txt", "--report", "matrix=new.txt")
    assert (done.returncode, done.stderr) == (0, warning("--report grid", "--report matrix"))
    assert (tmp_path / "old.txt").read_text() == (tmp_path / "new.txt").read_text()
    done = racebench("report", "m.json", "--format", "grid", "-o", "old.txt")
    assert (done.returncode, done.stderr) == (0, warning("--format grid", "--format matrix"))
    assert (tmp_path / "old.txt").read_text() == (tmp_path / "new.txt").read_text()
    done = racebench("report", "m.json", env={"RACEBENCH_FORMAT": "grid"})
    assert (done.returncode, done.stderr) == (0, warning("--format grid", "--format matrix"))
    assert "grid" not in racebench("report", "--help").stdout


def test_an_export_has_its_format_in_another_option(racebench: Command, tmp_path: Path) -> None:
    history = tmp_path / "h.jsonl"
    history.write_text(
        '{"type": "op", "process": 1, "start_ns": 0, "end_ns": 100, "outcome": "ok", "version": 1}\n'
        '{"type": "row", "id": 1, "tenant": 1, "version": 1, "process": 1, "index": 0}\n'
    )
    new = racebench("check", "h.jsonl", "--export", "edn")
    assert (new.returncode, new.stderr) == (0, "")
    for arguments in (("h.jsonl", "--export", "--format", "edn"), ("--export", "h.jsonl", "--format", "edn")):
        old = racebench("check", *arguments)
        assert (old.returncode, old.stderr) == (0, warning("--export --format edn", "--export edn"))
        assert old.stdout == new.stdout
