"""docs/scenarios.md: its files are written, its commands are run, and mistakes give one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import Command, assert_one_line

PAGE = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text()
FILES = dict(re.findall(r"File\s`([\w/.-]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if line.strip()
]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_page_has_its_files_and_commands() -> None:
    assert set(FILES) == {
        *("seats/scenario.toml", "seats/schema.sql", "seats/mine.sql", "seats/locked.sql"),
        *("orders/scenario.toml", "orders/schema.sql", "orders/insert.sql", "orders/exporter.sql"),
    }
    assert len(COMMANDS) == 3


@pytest.mark.server
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_works(racebench: Command, written: Path, command: str) -> None:
    done = racebench(*command.split()[1:], "-n", "400", "--no-save")
    assert done.returncode == 0, done.stderr


@pytest.mark.server
def test_the_page_names_the_anomalies_that_are_found(racebench: Command, written: Path) -> None:
    said = " ".join(racebench("run", "./seats", "--strategy", "mine", "-n", "400", "--no-save").stdout.split())
    assert "mine is INVALID, as expected. Invariant 'within-quota' is broken by" in said
    assert "try `--strategy locked`" in said
    load = ("-n", "400", "--no-save")
    assert racebench("run", "./seats", "-s", "mine", "--fail-on", "violations", *load).returncode == 3
    orders = " ".join(racebench("run", "./orders", "--hold", "5", *load).stdout.split())
    assert "serial is INVALID, as expected. The consumer never saw" in orders


@pytest.mark.server
@pytest.mark.parametrize(
    "mistake",
    [
        (
            "scenario.toml",
            "count(*) AS seats FROM",
            "count(*) AS seats FORM",
            "toml:5: the server refuses this query: syntax error",
        ),
        ("scenario.toml", "SELECT account, count(*)", "DELETE FROM seats --", "toml:5: the query returns no rows"),
        ("scenario.toml", "[invariants]", "[invariant]", "scenario.toml:4: unknown key 'invariant'; did you mean"),
        ("mine.sql", "\\sleep :think us", "\\shell true", "mine.sql:4: \\shell is not supported"),
        ("mine.sql", "FROM seats", "FROM chairs", 'mine.sql:3: the server refuses this statement: relation "chairs"'),
        (
            "schema.sql",
            "INSERT INTO accounts SELECT generate_series(0, 9999)",
            "COPY accounts FROM stdin",
            "sql:2: the server",
        ),
        ("schema.sql", "REFERENCES accounts", "REFERENCES account", "schema.sql:3: the server refuses this: relation"),
    ],
)
def test_a_mistake_in_it_is_one_line_with_file_and_line(
    racebench: Command, written: Path, mistake: tuple[str, str, str, str]
) -> None:
    file, before, after, message = mistake
    path = written / "seats" / file
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    done = racebench("run", "./seats", "--strategy", "mine", "-w", "2", "-n", "4", "--no-save")
    assert_one_line(done, 2, message)
