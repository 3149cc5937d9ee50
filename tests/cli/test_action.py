"""The action for GitHub: its steps, run as a workflow runs them, are green for the innocent and red for a race."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from check_jsonschema.cli import main as check_jsonschema
from click.testing import CliRunner
from ruamel.yaml import YAML

from junit_dialect import problems
from racebench import __version__

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github" / "actions" / "racebench" / "action.yml"
PARSED: dict[str, Any] = YAML(typ="safe").load(ACTION)
SARIF = json.loads((ROOT / "tests" / "reports" / "sarif.schema.json").read_text())
#: How GitHub's runner starts a step whose shell is bash.
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
APPLICATION = '''"""Orders."""

def create(connection):
    with connection.transaction():
        (number,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()
        connection.execute("INSERT INTO orders (number) VALUES (%s)", [number])

def create_locked(connection):
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        create(connection)
'''
SCHEMA = "CREATE TABLE orders (number int NOT NULL)"
TWINS = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"


@dataclass
class Job:
    """What the steps of the action did: the exit code of the first that failed, outputs, and what they printed."""

    code: int = 0
    printed: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    summary: str = ""


def value(text: Any, names: dict[str, str]) -> str:
    """A value with its expressions replaced, of which the action has only names."""
    return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda name: names[name[1]], str(text))


def holds(condition: str, names: dict[str, str]) -> bool:
    compared = re.fullmatch(r"([\w.-]+) != '(\w*)'", condition)
    assert compared is not None, "the interpreter knows no other condition"
    return names[compared[1]] != compared[2]


def carry_out(workspace: Path, inputs: dict[str, str], path: Path) -> Job:
    """Run the steps of the action in a workspace. `path`: a folder with the programs that come first."""
    defaults = {name: str(given.get("default", "")) for name, given in PARSED["inputs"].items()}
    assert set(inputs) <= set(defaults)
    names = {f"inputs.{name}": given for name, given in (defaults | inputs).items()}
    job = Job()
    for step in PARSED["runs"]["steps"]:
        if "if" in step and not holds(step["if"], names):
            continue
        if "uses" in step:
            job.used.append(f"{step['uses']} {value(step['with']['python-version'], names)}")
            continue
        job.ran.append(step["name"])
        assert step["shell"] == "bash"
        files = {name: workspace.parent / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        script = workspace.parent / "step.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            [*BASH, str(script)],
            cwd=workspace / value(step.get("working-directory", "."), names),
            env={
                **os.environ,
                "PATH": f"{path}:{os.environ['PATH']}",
                "CI": "true",
                "GITHUB_ACTIONS": "true",
                "GITHUB_WORKSPACE": str(workspace),
                "GITHUB_ACTION_PATH": str(ACTION.parent),
                **{name: str(file) for name, file in files.items()},
                **{name: value(given, names) for name, given in step.get("env", {}).items()},
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        job.printed += done.stdout
        for line in files["GITHUB_OUTPUT"].read_text().splitlines():
            name, _, given = line.partition("=")
            names[f"steps.{step['id']}.outputs.{name}"] = given
        job.summary += files["GITHUB_STEP_SUMMARY"].read_text()
        job.code = done.returncode
        if job.code:
            break
    for name, output in PARSED["outputs"].items():
        job.outputs[name] = re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda found: names.get(found[1], ""), output["value"])
    return job


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A checkout of an application."""
    folder = tmp_path / "checkout"
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "orders.py").write_text(APPLICATION)
    (folder / "app" / "schema.sql").write_text(SCHEMA)
    return folder


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A folder whose python3 is this Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "python3").chmod(0o755)
    return folder


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """A folder whose python3 writes its arguments to a file `arguments`, one a line in JSON, and does nothing."""
    folder = tmp_path / "recorder"
    folder.mkdir()
    write = "import json, sys; open(sys.argv[1], 'a').write(json.dumps(sys.argv[2:]) + chr(10))"
    file = tmp_path / "arguments"
    (folder / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{write}" {file} "$@"\n')
    (folder / "python3").chmod(0o755)
    return folder


def recorded(recorder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (recorder.parent / "arguments").read_text().splitlines()]


def test_the_action_follows_the_schema_of_its_host_and_no_script_has_an_expression_in_it(tmp_path: Path) -> None:
    accepted = CliRunner().invoke(check_jsonschema, ["--builtin-schema", "vendor.github-actions", str(ACTION)])
    assert accepted.exit_code == 0, accepted.output
    broken = tmp_path / "action.yml"
    broken.write_text(ACTION.read_text().replace("using: composite", "using: magic"))
    refused = CliRunner().invoke(check_jsonschema, ["--builtin-schema", "vendor.github-actions", str(broken)])
    assert refused.exit_code == 1
    scripts = [step["run"] for step in PARSED["runs"]["steps"] if "run" in step]
    assert len(scripts) == 2
    assert [script for script in scripts if "${{" in script] == []


def test_the_page_describes_every_input_and_output_and_its_example_is_a_workflow(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "ci.md").read_text().partition("## As an action")[2].partition("## Reports")[0]
    named = [*PARSED["inputs"], *PARSED["outputs"]]
    assert len(named) > 15
    assert [name for name in named if f"`{name}`" not in page] == []
    whole, steps = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    workflow = tmp_path / "workflow.yml"
    workflow.write_text(whole[: whole.index("      - run: pip")] + steps)
    for text in (workflow.read_text(), whole):
        workflow.write_text(text)
        checked = CliRunner().invoke(check_jsonschema, ["--builtin-schema", "vendor.github-workflows", str(workflow)])
        assert checked.exit_code == 0, checked.output
        (job,) = YAML(typ="safe").load(text)["jobs"].values()
        (step,) = [step for step in job["steps"] if "/racebench/" in step.get("uses", "")]
        assert set(step["with"]) <= set(PARSED["inputs"])
        assert step["uses"].partition("@")[0].endswith(f"/racebench/{ACTION.parent.relative_to(ROOT)}")
        assert step["uses"].endswith(f"@v{__version__}")


def test_inputs_are_arguments_and_never_a_part_of_a_script(workspace: Path, recorder: Path) -> None:
    hostile = "a\"; touch pwned; $(touch pwned) `touch pwned` '"
    inputs = {
        "install": "none",
        "command": "run",
        "scenario": f"{hostile}\n",
        "call": f"orders:create\r\n\n  \n{hostile}",
        "invariant": TWINS,
        "threshold": "p99_ms < 20\n--threshold=x",
        "fail-on": "none",
        "args": "--workers=2\n--seed\n7",
        "report-folder": "my $(touch pwned) reports",
        "working-directory": "app",
    }
    job = carry_out(workspace, inputs, recorder)
    folder = workspace / "app" / "my $(touch pwned) reports"
    assert (job.code, job.used, job.ran) == (0, [], ["Run racebench"])
    assert recorded(recorder)[0] == [
        *("-P", "-m", "racebench", "run", "--call=orders:create", f"--call={hostile}", f"--invariant={TWINS}"),
        *("--threshold=p99_ms < 20", "--threshold=--threshold=x", "--fail-on=none", "--workers=2", "--seed", "7"),
        *(f"--results={folder.name}", f"--json={folder.name}/racebench-run.json"),
        *(f"--report=sarif={folder.name}/racebench-run.sarif", f"--report=junit={folder.name}/racebench-run.xml"),
        *("--", hostile),
    ]
    assert not list(workspace.rglob("pwned"))
    assert job.outputs == {
        **dict.fromkeys(("verdict", "json", "sarif", "junit"), ""),
        "exit-code": "0",
        "results": str(folder),
    }


def test_the_report_folder_is_the_one_that_was_named(
    workspace: Path, recorder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLDPWD", "/")
    monkeypatch.setenv("CDPATH", "/")
    for name in ("-", "tmp", "--help", "a=b"):
        job = carry_out(workspace, {"install": "none", "report-folder": name}, recorder)
        assert (job.code, job.outputs["results"]) == (0, str(workspace / name))


@pytest.mark.parametrize(
    ("inputs", "installed"),
    [
        ({}, str(ACTION.parent / "../../..")),
        ({"install": "racebench==0.2.0", "python-version": "3.13"}, "racebench==0.2.0"),
        ({"install": "--index-url=x"}, "--index-url=x"),
    ],
)
def test_the_version_of_the_action_is_installed_unless_another_is_asked_for(
    workspace: Path, recorder: Path, inputs: dict[str, str], installed: str
) -> None:
    job = carry_out(workspace, inputs, recorder)
    assert job.ran == ["Install racebench", "Run racebench"]
    assert recorded(recorder)[0][-2:] == ["--", installed]
    assert job.used == (["actions/setup-python@v5 3.13"] if "python-version" in inputs else [])
    assert (ACTION.parent / "../../.." / "pyproject.toml").resolve() == ROOT / "pyproject.toml"


@pytest.mark.parametrize("inputs", [{"command": "server"}, {"command": ""}, {"report-folder": "a\nverdict=VALID"}])
def test_an_input_that_cannot_be_is_an_error_before_anything_runs(
    workspace: Path, recorder: Path, inputs: dict[str, str]
) -> None:
    job = carry_out(workspace, {"install": "none", **inputs}, recorder)
    assert job.code == 2
    assert job.printed.startswith("::error title=racebench::The input ")
    assert job.printed.count("\n") == 1
    assert not (recorder.parent / "arguments").exists()


@pytest.mark.parametrize(
    ("verdicts", "complete", "worst", "uploaded"),
    [
        (["VALID", "VALID"], True, "VALID", True),
        (["VALID", "INVALID"], True, "INVALID", True),
        (["VALID", "UNKNOWN"], True, "UNKNOWN", False),
        (["INVALID", "UNKNOWN"], True, "INVALID", False),
        (["VALID"], False, "VALID", False),
        ([], True, "", True),
    ],
)
def test_a_result_without_a_verdict_is_not_to_be_uploaded(
    workspace: Path, tmp_path: Path, verdicts: list[str], complete: bool, worst: str, uploaded: bool
) -> None:
    document = {"complete": complete, "runs": [{"verdict": verdict} for verdict in verdicts]}
    folder = tmp_path / "fake"
    folder.mkdir()
    (folder / "python3").write_text(
        f"""#!/bin/bash
if [ "$2" = - ]; then exec {sys.executable} "$@"; fi
for argument in "$@"; do
  case "$argument" in
    --json=*) echo '{json.dumps(document)}' >"${{argument#--json=}}" ;;
    --report=*) echo >"${{argument#--report=*=}}" ;;
  esac
done
exit 5
"""
    )
    (folder / "python3").chmod(0o755)
    (workspace / "json.py").write_text(
        "raise ImportError('a module of the application with the name of one of Python')"
    )
    job = carry_out(workspace, {"install": "none", "command": "run"}, folder)
    assert (job.code, job.outputs["exit-code"], job.outputs["verdict"]) == (5, "5", worst)
    assert (job.outputs["sarif"] != "") == uploaded
    assert job.outputs["junit"].endswith("racebench-run.xml")


OWN_CODE = {"install": "none", "working-directory": "app", "setup": "schema.sql", "invariant": TWINS}


@pytest.mark.server
def test_the_action_is_green_for_a_function_that_locks(workspace: Path, python: Path) -> None:
    job = carry_out(workspace, {**OWN_CODE, "call": "orders:create_locked"}, python)
    assert job.code == 0, job.printed
    assert "::" not in job.printed.replace("pg_advisory_xact_lock(1)", "")
    assert (job.outputs["verdict"], job.outputs["exit-code"]) == ("VALID", "0")
    log = json.loads(Path(job.outputs["sarif"]).read_text())
    assert log["runs"][0]["results"] == []
    assert "✅" in job.summary or "VALID" in job.summary


@pytest.mark.server
def test_the_action_is_red_for_a_race_and_shows_the_line(workspace: Path, python: Path) -> None:
    job = carry_out(workspace, {**OWN_CODE, "call": "orders:create"}, python)
    assert job.code == 3, job.printed
    (annotation,) = [line for line in job.printed.splitlines() if line.startswith("::")]
    assert annotation.startswith(
        "::error file=app/orders.py,line=6,title=racebench%3A violations in orders%3A create::"
    )
    assert (job.outputs["verdict"], job.outputs["exit-code"]) == ("INVALID", "3")
    log = json.loads(Path(job.outputs["sarif"]).read_text())
    jsonschema.Draft202012Validator(SARIF).validate(log)
    (result,) = log["runs"][0]["results"]
    physical = result["locations"][0]["physicalLocation"]
    assert (physical["artifactLocation"]["uri"], physical["region"]["startLine"]) == ("app/orders.py", 6)
    assert log["runs"][0]["invocations"][0]["exitCode"] == 3
    assert problems(Path(job.outputs["junit"]).read_text()) == []
    assert ET.parse(job.outputs["junit"]).getroot().get("failures") == "1"
    assert "orders: create is INVALID" in job.summary
    assert str(workspace) not in job.summary
    assert json.loads(Path(job.outputs["json"]).read_text())["explorations"][0]["witness"] is not None
