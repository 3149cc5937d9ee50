"""docs/isolation.md agrees with results/reference. What its benchmarks count is tested in tests/benchmarks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.page import render

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "isolation.md").read_text(encoding="utf-8")
NAMES = ("hermitage", "indexes")


def test_the_tables_of_the_page_agree_with_their_figures() -> None:
    assert tuple(re.findall(r"<!-- table: (\S+) -->", PAGE)) == NAMES
    assert render(PAGE) == PAGE, "make it again: python -m benchmarks.page"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_names_the_command_of_each_table(name: str) -> None:
    assert f"python -m benchmarks.{name} " in PAGE
    assert (ROOT / "benchmarks" / f"{name}.py").exists()
