"""docs/any-language.md by the letter: its files are written as they stand there, and its commands run in their folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import in_process
from benchmarks.stacks.stack import absent

PAGE = (Path(__file__).parents[2] / "docs" / "any-language.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))
#: The sections whose commands run, with the stack that needs the same.
RUN = {
    "Node": "pg",
    "FastAPI over asyncpg": "asyncpg",
    "Django under gunicorn": "django",
    "Java with HikariCP": "hikari",
}


def blocks(text: str) -> list[str]:
    """The indented blocks of a text, without their indentation."""
    found = re.findall(r"(?:^    .*\n(?:\s*\n(?=    ))*)+", text, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]


def write(text: str, folder: Path) -> list[str]:
    """Write the files of a text into a folder; returns its blocks that are no files."""
    others = []
    for block in blocks(text):
        name = re.match(r"(?:--|//|#) (\S+\.\w+)\n", block)
        if name:
            (folder / name[1]).write_text(block)
        else:
            others.append(block)
    return others
