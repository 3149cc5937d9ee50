"""What the repository's hosts and tools read: issue forms, pre-commit's hooks, the pages for contributors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from check_jsonschema.cli import main as check_jsonschema
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_issue_forms_follow_the_schema_of_their_host(form: Path) -> None:
    schema = "vendor.github-issue-config" if form.stem == "config" else "vendor.github-issue-forms"
    result = CliRunner().invoke(check_jsonschema, ["--builtin-schema", schema, str(form)])
    assert result.exit_code == 0, result.output


def test_a_form_with_an_unknown_field_would_be_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text().replace("type: input", "type: entry"))
    result = CliRunner().invoke(check_jsonschema, ["--builtin-schema", "vendor.github-issue-forms", str(bad)])
    assert result.exit_code == 1


def test_pre_commit_runs_what_continuous_integration_checks_before_the_tests() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    checks = re.findall(r"^(ruff .+|mypy.*)$", script, re.MULTILINE)
    assert len(checks) == 3
    assert re.findall(r"entry: (.+)", (ROOT / ".pre-commit-config.yaml").read_text()) == checks


def test_the_template_of_pull_requests_names_the_same_checks() -> None:
    text = (ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md").read_text()
    checks = re.findall(r"entry: (.+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert [check for check in checks if f"`{check}`" not in text] == []
