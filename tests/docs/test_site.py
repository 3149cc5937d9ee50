"""The documentation's site (docs/site): contents, links, reference, checks. Sphinx is not needed; .ci/run builds it."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import click
import pytest

import racebench
from docs.site import checks, contents, library, links, llms, reference, staging
from racebench.cli.main import cli

ROOT = Path(__file__).parents[2]


def test_every_page_of_the_docs_is_in_one_section_and_every_listed_page_exists() -> None:
    pages = [page for section in contents.sections() for page in section.pages]
    assert len(pages) > 40
    assert len(pages) == len(set(pages))
    assert contents.unlisted() == []
    assert [page for page in pages if page not in contents.GENERATED and not (ROOT / page).is_file()] == []


def test_a_page_in_no_section_is_found(tmp_path: Path) -> None:
    (tmp_path / "docs" / "findings").mkdir(parents=True)
    for name in ("own-code.md", "forgotten.md", "findings/new.md"):
        (tmp_path / "docs" / name).write_text("# A page\n")
    assert contents.unlisted(tmp_path) == ["docs/forgotten.md"]


def test_links_are_replaced_in_text_and_not_in_code() -> None:
    text = (
        "[a](b.md#c) ![p](p.svg) `[x](y.md)` [web](https://example.org/z) [in](#here)\n"
        "```\n[k](l.md)\n```\n[gone](../m)"
    )
    seen: list[links.Link] = []

    def where(link: links.Link) -> str | None:
        seen.append(link)
        return None if link.path == "m" else f"<{link.path}>"

    replaced = links.replaced(text, "docs/page.md", where)
    assert [(link.path, link.fragment, link.picture) for link in seen] == [
        ("docs/b.md", "c", False),
        ("docs/p.svg", "", True),
        ("m", "", False),
    ]
    assert replaced == (
        "[a](<docs/b.md>) ![p](<docs/p.svg>) `[x](y.md)` [web](https://example.org/z) [in](#here)\n"
        "```\n[k](l.md)\n```\ngone"
    )


def relative(text: str) -> list[str]:
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


def test_the_readme_of_a_package_has_no_relative_link_with_and_without_a_repository() -> None:
    assert len(relative((ROOT / "README.md").read_text())) > 20
    without = links.package_readme(ROOT, "")
    assert relative(without) == []
    assert "Seven strategies with eight workers" in without  # a picture's description stays
    public = links.package_readme(ROOT, "https://git.example/racebench/")
    assert relative(public) == []
    tag = rf"v{re.escape(version())}"
    assert re.search(rf"!\[[^\]]+\]\(https://git\.example/racebench/raw/{tag}/docs/pictures/run\.svg\)", public)
    assert re.search(rf"\]\(https://git\.example/racebench/blob/{tag}/docs/performance\.md#load\)", public)


def version() -> str:
    found = re.search(r'^__version__ = "(.+)"', (ROOT / "racebench/__init__.py").read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_the_changelog_has_an_unreleased_part_and_begins_its_versions_with_that_of_the_package() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(version())} \(\d{{4}}-\d\d-\d\d\)", headings[1])


def test_the_sources_of_the_site_lead_to_each_other_and_to_copies_of_other_files(tmp_path: Path) -> None:
    staging.Staging(folder=tmp_path, addresses=staging.Addresses()).lay_out()
    pages = sorted(tmp_path.rglob("*.md"))
    targets = [(page, target.partition("#")[0]) for page in pages for target in relative(page.read_text())]
    assert len(targets) > 200
    missing = [(page.name, target) for page, target in targets if target and not (page.parent / target).exists()]
    assert missing == []
    assert (tmp_path / "schemas" / "run.schema.json").is_file()
    assert "workers" in json.loads((tmp_path / "schemas" / "settings.schema.json").read_text())["properties"]


def test_a_link_to_a_file_that_does_not_exist_is_found(tmp_path: Path) -> None:
    for folder in ("docs", "racebench"):
        (tmp_path / folder).mkdir()
    (tmp_path / "docs" / "demo.md").write_text("# Demo\n\n[gone](gone.md) [report](report.md) [away](../away/)\n")
    for page in {page for section in contents.sections(tmp_path) for page in section.pages} | {contents.START}:
        if page not in contents.GENERATED and page != "docs/demo.md":
            (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / page).write_text("# A page\n")
    laid_out = staging.Staging(folder=tmp_path / "sources", addresses=staging.Addresses(), root=tmp_path)
    laid_out.lay_out()
    assert laid_out.problems == [
        "docs/demo.md links to docs/gone.md, which does not exist",
        "docs/demo.md links to away, which does not exist",
    ]


def test_with_a_repository_links_to_its_files_are_addresses(tmp_path: Path) -> None:
    public = staging.Addresses(repository="https://git.example/racebench")
    staging.Staging(folder=tmp_path, addresses=public).lay_out()
    assert (
        f"https://git.example/racebench/blob/v{version()}/examples/node" in (tmp_path / "any-language.md").read_text()
    )
    assert not (tmp_path / "files").exists() or all(path.suffix != ".py" for path in (tmp_path / "files").rglob("*"))


def test_the_reference_has_every_command_and_option_in_well_formed_tables() -> None:
    page = reference.commands_page()
    names = [name for name, command in cli.commands.items() if not isinstance(command, click.Group)]
    assert len(names) > 10
    assert [name for name in names if f"\n## {name}\n" not in page] == []
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) > 200
    assert [row for row in rows if len(re.findall(r"(?<!\\)\|", row)) != 3] == []
    for name in names:
        part = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        options = (option for option in cli.commands[name].params if isinstance(option, click.Option))
        shown = [max(option.opts, key=len) for option in options if not option.hidden]
        assert [option for option in shown if option not in part] == [], name


def test_the_reference_has_every_public_name_of_the_library_with_its_signature() -> None:
    page = library.page()
    names = [name for name in racebench.__all__ if inspect.isfunction(getattr(racebench, name))]
    assert len(names) > 5
    for name in racebench.__all__:
        assert f"\n### {name}{'()' if name in names else ''}\n" in page
    for name in names:
        block = re.search(rf"```python\nracebench\.{name}\((.+?)\n```", page, re.DOTALL)
        assert block, name
        parameters = inspect.signature(getattr(racebench, name)).parameters
        assert [parameter for parameter in parameters if not re.search(rf"\b{parameter}\b", block[1])] == [], name


def test_the_reference_has_every_schema_of_the_package() -> None:
    page = reference.schemas_page(ROOT)
    schemas = sorted((ROOT / "racebench").rglob("*.schema.json"))
    assert len(schemas) > 2
    assert [path.name for path in schemas if f"## {path.name}" not in page] == []
    assert "(../schemas/settings.schema.json)" in page, "which is made of the options"


@pytest.mark.parametrize(
    ("page", "loads"),
    [
        ('<a href="https://example.org">x</a><link rel="canonical" href="https://example.org/x.html">', False),
        ('<link rel="stylesheet" href="site.css"><img src="x.svg"><script src="x.js"></script>', False),
        ('<script src="https://example.org/x.js"></script>', True),
        ('<link rel="stylesheet" href="//example.org/x.css">', True),
        ('<img alt="a" src="https://example.org/x.svg">', True),
    ],
)
def test_a_page_that_loads_something_from_the_network_is_found(page: str, loads: bool, tmp_path: Path) -> None:
    (tmp_path / "x.html").write_text(page)
    assert checks.loaded_from_elsewhere(tmp_path) == (["x.html loads a file from the network"] if loads else [])


def test_an_entry_of_llms_txt_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "here.md").write_text("# Here\n")
    (tmp_path / "llms.txt").write_text("- [a](https://d.example/here.md): A.\n- [b](https://d.example/not.md): B.\n")
    assert checks.missing(tmp_path, "https://d.example") == ["llms.txt leads to not.md, which is not there"]


def test_llms_txt_describes_a_page_by_its_first_sentence() -> None:
    page = "# A `run`\n\n1. first\n\n    code\n\nIt does [this](x.md), and **more**. Then it ends.\n"
    assert llms.described(page) == ("A run", "It does this, and more.")
