"""`racebench init ci`: files that the published schemas accept, whose commands are green and red as they should."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from in_process import run
from ruamel.yaml import YAML

from conftest import Command, assert_one_line
from junit_dialect import problems
from racebench.workloads import catalog

GITHUB = ".github/workflows/racebench.yml"
GITLAB = ".gitlab-ci.yml"


def schema_says(path: Path) -> subprocess.CompletedProcess[str]:
    """Check a file against the schema of its service, as check-jsonschema ships it."""
    gitlab = ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]
    kind = gitlab if "gitlab" in str(path) else ["vendor.github-workflows"]
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", *kind, str(path)]
    return subprocess.run(command, capture_output=True, text=True)


def load(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def scripts(folder: Path, service: str) -> Iterator[str]:
    """The shell commands of a written file, in order, without the installation of racebench."""
    if service == "github":
        (job,) = load(folder / GITHUB)["jobs"].values()
        lines = [step["run"] for step in job["steps"] if "run" in step]
    else:
        jobs = load(folder / GITLAB)
        lines = [
            *jobs["racebench-explore"]["before_script"],
            *(line for job in jobs.values() for line in job["script"]),
        ]
    assert lines[0] == "pip install racebench"
    yield from lines[1:]


def carried_out(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script as the services do, but a shorter load: by a shell that stops at the first failure, with CI set."""
    assert ("racebench run" in script) == ("--duration 2" in script)
    script = script.replace("--duration 2", "--duration 0.3")
    shim = folder / "bin"
    shim.mkdir(exist_ok=True)
    (shim / "racebench").write_text(f'#!/bin/sh\nexec {sys.executable} -m racebench "$@"\n')
    (shim / "racebench").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{shim}:{os.environ['PATH']}",
        "CI": "true",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_both_files_are_what_the_services_accept(racebench: Command, tmp_path: Path) -> None:
    done = racebench("init", "ci")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"wrote {GITHUB}\nwrote {GITLAB}\n"
    for name in (GITHUB, GITLAB):
        accepted = schema_says(tmp_path / name)
        assert accepted.returncode == 0, accepted.stdout
    broken = tmp_path / GITHUB
    broken.write_text(broken.read_text().replace("runs-on:", "runs-in:"))
    assert schema_says(broken).returncode == 1
    broken = tmp_path / GITLAB
    broken.write_text(broken.read_text().replace("when: always", "when: sometimes"))
    assert schema_says(broken).returncode == 1


@pytest.mark.server
@pytest.mark.parametrize("service", ["github", "gitlab"])
def test_the_commands_are_green_for_a_right_strategy(racebench: Command, tmp_path: Path, service: str) -> None:
    assert racebench("init", "ci", "--strategy", "advisory", "--strategy", "upsert").returncode == 0
    found = list(scripts(tmp_path, service))
    assert len(found) == 2
    for script in found:
        done = carried_out(tmp_path, script)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    reports = sorted(tmp_path.glob("racebench-*.xml"))
    assert [report.name for report in reports] == ["racebench-explore.xml", "racebench-run.xml"]
    for report in reports:
        assert problems(report.read_text()) == []
        assert ET.parse(report).getroot().attrib.items() >= {"tests": "2", "failures": "0", "errors": "0"}.items()
    assert len(list((tmp_path / "results").glob("*.json"))) == 2
    assert (tmp_path / "summary.md").read_text().count("### racebench: version-counter") == 2


@pytest.mark.server
def test_the_commands_are_red_for_a_race(racebench: Command, tmp_path: Path) -> None:
    assert racebench("init", "ci", "--gitlab", "-s", "naive").returncode == 0
    for script in scripts(tmp_path, "gitlab"):
        assert carried_out(tmp_path, script).returncode == 3
    reports = [ET.parse(report).getroot() for report in tmp_path.glob("racebench-*.xml")]
    assert [report.get("failures") for report in reports] == ["1", "1"]
    assert (tmp_path / "summary.md").read_text().count("naive is INVALID") == 2


@pytest.mark.server
def test_a_scenario_of_ones_own_is_named_with_care(racebench: Command, tmp_path: Path) -> None:
    folder = tmp_path / "my #1 scenario: orders"
    folder.mkdir()
    shipped = Path(__file__).parents[2] / "scenarios" / "oversell"
    for file in shipped.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert racebench("init", "ci", f"./{folder.name}", "-s", "naive").returncode == 0
    for name in (GITHUB, GITLAB):
        assert schema_says(tmp_path / name).returncode == 0
    for service in ("github", "gitlab"):
        explore, _ = scripts(tmp_path, service)
        done = carried_out(tmp_path, explore)
        assert done.returncode == 3, done.stderr


@pytest.mark.server
def test_the_replay_command_of_a_scenario_of_ones_own_runs_as_it_is_printed(racebench: Command, tmp_path: Path) -> None:
    shutil.copytree(catalog.find_scenario("lost-update").folder, tmp_path / "db" / "my orders")
    done = racebench("explore", "./db/my orders", "-s", "naive", "--no-save", "--report", "junit=x.xml")
    (command,) = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("racebench replay")]
    assert command in (tmp_path / "x.xml").read_text()
    program, *arguments = shlex.split(command)
    assert program == "racebench"
    again = racebench(*arguments, "--fail-on", "any")
    assert again.returncode == 3, again.stderr


def test_nothing_is_overwritten_unless_asked(racebench: Command, tmp_path: Path) -> None:
    assert racebench("init", "ci", "--github").returncode == 0
    assert not (tmp_path / GITLAB).exists()
    (tmp_path / GITHUB).write_text("mine")
    done = racebench("init", "ci")
    assert done.returncode == 2
    assert done.stderr == f"racebench: {GITHUB} exists; give --force to overwrite it, or move it away\n"
    assert (tmp_path / GITHUB).read_text() == "mine"
    assert not (tmp_path / GITLAB).exists(), "all or nothing"
    assert racebench("init", "ci", "--force").returncode == 0
    assert (tmp_path / GITHUB).read_text() != "mine"
    assert racebench("init", "ci", "--gitlab").returncode == 2


SERVICE = ("--serve", "node shop.js {port}", "--ready", "/health", "--http", 'POST /orders {"sku": 1}', "-H", "A: b")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--exec 'node pay.js'"),
        (SERVICE, "--serve 'node shop.js {port}' --ready /health --http 'POST /orders {\"sku\": 1}' --header 'A: b'"),
        ((*SERVICE, "--restart"), "--header 'A: b' --restart"),
        (("--call", "shop:pay"), "--call shop:pay"),
        (("version-counter", "-s", "naive"), "version-counter --strategy naive"),
    ],
)
def test_the_command_line_replaces_the_program_of_the_settings(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "racebench.toml").write_text('exec = "node pay.js"\n')
    done = run("init", "ci", "--github", *arguments, cwd=tmp_path)
    assert (done.code, done.errors) == (0, "")
    for command in ("explore", "run"):
        text = (tmp_path / GITHUB).read_text()
        (line,) = [line for line in text.splitlines() if line.strip().startswith(f"racebench {command}")]
        assert f" {words} --" in line
        assert "pay.js" not in line or not arguments


def test_a_gitlab_file_of_ones_own_is_left_and_told_what_to_include(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / GITLAB).write_text("test:\n  script: [pytest]\n")
    done = racebench("init", "ci", "--gitlab", "--force")
    assert done.returncode == 0
    assert done.stdout == (
        "wrote .gitlab/racebench.yml\nadd to .gitlab-ci.yml:  include: [{local: .gitlab/racebench.yml}]\n"
    )
    assert (tmp_path / GITLAB).read_text() == "test:\n  script: [pytest]\n"
    assert schema_says(tmp_path / ".gitlab" / "racebench.yml").returncode == 0
    with (tmp_path / GITLAB).open("a") as file:
        file.write(done.stdout.splitlines()[1].partition(":  ")[2] + "\n")
    assert schema_says(tmp_path / GITLAB).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-s", "niave"], "strategy 'niave' not found in version-counter; did you mean 'naive'?"),
        (["./nowhere"], "scenario folder './nowhere' does not exist"),
        (["--git-hub"], "No such option: --git-hub"),
    ],
)
def test_trouble_is_one_line_and_writes_nothing(
    racebench: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = racebench("init", "ci", *arguments)
    assert_one_line(done, 2, said.split(":", maxsplit=1)[0])
    assert list(tmp_path.iterdir()) == []


def test_only_a_repositorys_root_is_written_to(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    below = tmp_path / "below"
    below.mkdir()
    done = racebench("init", "ci", cwd=below)
    assert done.returncode == 2
    assert done.stderr == (
        f"racebench: {below} is inside the repository {tmp_path}, where CI would not look; go there first\n"
    )
    assert racebench("init", "ci").returncode == 0


def test_a_place_that_cannot_be_written_is_one_line(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / ".github").write_text("a file")
    done = racebench("init", "ci", "--github")
    assert done.returncode == 1
    assert done.stderr.startswith("racebench: cannot make .github/workflows: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.server
def test_ones_own_code_goes_into_the_files_as_it_is(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text(
        "def create(connection):\n"
        "    (number,) = connection.execute('SELECT coalesce(max(number), 0) + 1 FROM orders').fetchone()\n"
        "    connection.execute('INSERT INTO orders VALUES (%s)', [number])\n"
        "    connection.commit()\n"
    )
    invariant = """SELECT number, '
      "it''s" : # twice' FROM orders
GROUP BY number HAVING count(*) > 1"""
    own = ("--call", "orders:create", "--setup", "CREATE TABLE orders (number int)", "--invariant", invariant)
    django = {"DJANGO_SETTINGS_MODULE": "shop.settings"}
    done = racebench("init", "ci", *own, env=django)
    assert (done.returncode, done.stderr) == (0, "")
    assert load(tmp_path / GITHUB)["jobs"]["racebench"]["env"] == django
    assert load(tmp_path / GITLAB)["racebench-explore"]["variables"] == django
    for service, name in (("github", GITHUB), ("gitlab", GITLAB)):
        assert schema_says(tmp_path / name).returncode == 0
        explore, run = scripts(tmp_path, service)
        assert shlex.split(explore)[2:8] == list(own)
        assert shlex.split(run)[2:8] == list(own)
        assert "--hold" not in run, "it has no effect on Python"
        done = carried_out(tmp_path, explore)
        assert done.returncode == 3, done.stderr
