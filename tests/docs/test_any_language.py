"""docs/any-language.md by the letter: its files are written as they stand there, and its commands run beside them."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import in_process
import pytest

from benchmarks.stacks.stack import STACKS

PAGE = (Path(__file__).parents[2] / "docs" / "any-language.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))
#: The sections that lead from nothing to a verdict, with the stack that needs the same.
FROM_NOTHING = {
    "Node": "pg",
    "FastAPI over asyncpg": "asyncpg",
    "Django under gunicorn": "django",
    "Java with HikariCP": "hikari",
}


def blocks(text: str) -> list[str]:
    """The indented blocks of a text, without their indentation."""
    found = re.findall(r"(?:^    .*\n(?:\n(?=    |\n))*)+", text, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]


def write(text: str, folder: Path) -> list[str]:
    """Write the files of a text into a folder; return the lines of its other blocks."""
    lines: list[str] = []
    for block in blocks(text):
        name = re.match(r"(?:--|//|#) (\S+\.\w+)\n", block)
        if name:
            (folder / name[1]).write_text(block)
        else:
            lines += block.splitlines()
    return lines


@pytest.mark.server
@pytest.mark.parametrize("section", FROM_NOTHING)
def test_a_race_is_found_and_the_fix_is_valid(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = STACKS[FROM_NOTHING[section]].missing
    if absent and os.environ.get("TEST_STACKS") != "required":
        pytest.skip(f"not installed: {absent}")
    write(PAGE.split("\n## ")[0], tmp_path)
    verdicts = []
    for line in write(SECTIONS[section], tmp_path):
        words = shlex.split(line)
        if words[0] == "export":
            monkeypatch.setenv(*words[1].split("=", 1))
            continue
        done = in_process.run(*words[1:], "--no-save", cwd=tmp_path)
        verdicts += re.findall(r"^post-orders\S* is (\w+)", done.output, re.MULTILINE) or [done.output + done.errors]
    assert verdicts == ["INVALID", "VALID"]
