"""The README and the docs are true: links, pictures, quoted figures, options."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
from click.testing import CliRunner

from racebench.cli.main import cli
from racebench.reports.results.document import SCHEMA_FILE

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / ".github").rglob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_every_relative_link_leads_somewhere() -> None:
    links = [(page, target) for page in PAGES for target in re.findall(r"\]\(([^)#]+)\)", page.read_text())]
    relative = [(page, target) for page, target in links if "://" not in target]
    assert len(relative) > 50
    assert [f"{page.name} links to {target}" for page, target in relative if not (page.parent / target).exists()] == []


def test_the_matrix_excerpt_of_the_readme_is_that_of_the_reference() -> None:
    excerpt = README.split("<!-- excerpt of results/reference/matrix.md -->")[1].split("<!-- end of excerpt -->")[0]
    quoted = [cells(line) for line in excerpt.splitlines() if line.startswith("|")]
    reference = [cells(x) for x in (ROOT / "results/reference/matrix.md").read_text().splitlines() if x.startswith("|")]
    columns = {name: reference[0].index(name) for name in quoted[0]}
    rows = {row[0]: row for row in reference}
    assert len(quoted) > 8
    for row in quoted[2:]:
        for name, cell in zip(quoted[0], row, strict=True):
            assert cell == rows[row[0]][columns[name]], (row[0], name)


def test_the_reference_results_follow_the_published_schema() -> None:
    schema = json.loads(SCHEMA_FILE.read_text())
    documents = [json.loads(path.read_text()) for path in (ROOT / "results" / "reference").glob("*.json")]
    runs = [document for document in documents if "runs" in document]  # the others are benchmarks and explorations
    assert len(runs) >= 2
    for document in runs:
        jsonschema.validate(document, schema)


def test_pictures_open_offline() -> None:
    pictures = sorted((ROOT / "docs" / "pictures").glob("*.svg"))
    assert len(pictures) >= 3
    for picture in pictures:
        text = picture.read_text()
        assert set(re.findall(r"https?://[^\"' )<]+", text)) == {"http://www.w3.org/2000/svg"}, picture.name
        assert "@import" not in text, picture.name
        assert "@font-face" not in text, picture.name


def test_every_file_of_the_package_that_a_page_names_exists() -> None:
    named = {
        (page.name, path)
        for page in PAGES
        for path in re.findall(r"`((?:racebench|tests|benchmarks)/[\w./-]+)`", page.read_text())
        if "NAME" not in path
    }
    assert len(named) > 10
    assert [(page, path) for page, path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_option_the_readme_names_exists() -> None:
    commands = (["run"], ["compare"], ["matrix"], ["report"], ["demo"])
    helps = "".join(CliRunner().invoke(cli, [*command, "--help"]).output for command in commands)
    own = "".join(line for line in README.splitlines(keepends=True) if "pip install" not in line)
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", own))
    assert len(options) > 20
    assert [option for option in sorted(options) if option not in helps] == []
