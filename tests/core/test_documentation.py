"""Messages and help name a page of the documentation by its address, if the package has one, else by its file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from racebench.cli.main import cli
from racebench.core import documentation

ROOT = Path(__file__).parents[2]


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As installed from a package whose `[project.urls]` has an address of the documentation."""
    metadata = tmp_path / "racebench-0.2.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(
        "Metadata-Version: 2.4\nName: racebench\nVersion: 0.2.0\n"
        "Project-URL: Repository, https://git.example/racebench\nProject-URL: Documentation, https://docs.example/en/\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    documentation.address.cache_clear()
    yield
    documentation.address.cache_clear()


@pytest.fixture
def unpublished(published: None, tmp_path: Path) -> None:
    (tmp_path / "racebench-0.2.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: racebench\nVersion: 0.2.0\n"
    )


def check_of_a_file_without_operations(tmp_path: Path) -> str:
    (tmp_path / "empty.jsonl").write_text("")
    return str(CliRunner().invoke(cli, ["check", str(tmp_path / "empty.jsonl")]).exception)


def test_with_an_address_messages_and_help_name_it(published: None, tmp_path: Path) -> None:
    assert documentation.page("history") == "https://docs.example/en/history.html"
    assert (
        documentation.with_addresses("docs/ci.md#csv, other/docs/x")
        == "https://docs.example/en/ci.html#csv, other/docs/x"
    )
    assert check_of_a_file_without_operations(tmp_path).endswith("see https://docs.example/en/history.html")
    assert "See https://docs.example/en/history.html." in " ".join(
        CliRunner().invoke(cli, ["check", "--help"]).output.split()
    )


def test_without_an_address_they_name_the_page_in_the_repository(unpublished: None, tmp_path: Path) -> None:
    assert documentation.page("history") == "docs/history.md"
    assert check_of_a_file_without_operations(tmp_path).endswith("see docs/history.md")
    assert "See docs/history.md." in " ".join(CliRunner().invoke(cli, ["check", "--help"]).output.split())


def test_every_page_that_the_package_names_exists() -> None:
    code = "".join(path.read_text() for path in (ROOT / "racebench").rglob("*.py"))
    named = set(re.findall(r"""(?:documentation\.page\(|\bpage=)["']([\w/-]+)["']""", code))
    named |= set(re.findall(r"\bdocs/([\w/-]+)\.md", code))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / "docs" / f"{name}.md").is_file()] == []
