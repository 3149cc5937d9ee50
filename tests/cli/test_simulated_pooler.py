"""--pooler of explore and replay: what it refuses, in a line, and what its document and its witness have."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import assert_one_line
from racebench.reports.results import explorations

Command = Callable[..., Any]
SETUP = "CREATE TABLE t (who text, wanted text)"
INVARIANT = "SELECT * FROM t WHERE who <> wanted"
LEAKS = """SELECT set_config('app.who', (:client_id)::text, false);
INSERT INTO t VALUES (current_setting('app.who'), (:client_id)::text);
"""
BLOCK = f"BEGIN;\n{LEAKS}COMMIT;\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "leaks.sql"
    path.write_text(LEAKS)
    (tmp_path / "block.sql").write_text(BLOCK)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pool-size", "2"], "--pool-size needs --pooler"),
        (["--pooler", "transaction", "--crash"], "give one of them"),
        (["--pooler", "transaction", "--call", "shop:order"], "not for --call"),
        (["--pooler", "transaction", "--exec", "true"], "not for --exec"),
    ],
)
def test_what_cannot_be_explored_behind_a_pooler_is_refused(
    racebench: Command, script: Path, arguments: list[str], message: str
) -> None:
    own_code = "--call" in arguments or "--exec" in arguments
    if own_code:
        (script.parent / "shop.py").write_text("def order(connection): ...\n")
    done = racebench("explore", *([] if own_code else [script.name]), *arguments, "--setup", SETUP, "--no-save")
    assert_one_line(done, 2, message)


@pytest.mark.server
def test_a_transaction_block_is_refused_in_statement_mode(racebench: Command, script: Path) -> None:
    done = racebench("explore", "block.sql", "--pooler", "statement", "--setup", SETUP, "--no-save")
    assert_one_line(done, 2, "a pooler in statement mode refuses its transaction block")


@pytest.mark.server
def test_a_leak_is_found_documented_and_replayed(racebench: Command, script: Path) -> None:
    judged = ["--setup", SETUP, "--invariant", INVARIANT]
    done = racebench(
        *(
            "explore",
            script.name,
            "--pooler",
            "transaction",
            "--pool-size",
            "1",
            "--stop-at-first",
            "--json",
            "it.json",
        ),
        *judged,
    )
    assert done.returncode == 3, done.stderr
    assert "2 sessions behind a pooler in transaction mode with 1 server session" in " ".join(done.stdout.split())
    assert "if nothing goes wrong there, keep nothing in the session" in " ".join(done.stdout.split())
    data = json.loads((script.parent / "it.json").read_text())
    read = explorations.from_data(data, "it.json")
    (exploration,) = read.explorations
    assert explorations.published(exploration) == data["explorations"][0]
    assert data["explorations"][0]["pooler"] == {"mode": "transaction", "size": 1}
    assert exploration.witness is not None
    assert {step.backend for step in exploration.witness.steps} <= {1, None}
    command = exploration.witness.command
    assert command is not None
    assert command.endswith("--pooler transaction --pool-size 1")
    again = racebench(*shlex.split(command)[1:])
    assert again.returncode == 3, again.stderr
    assert "is broken by" in again.stdout
    assert " on 1" in again.stdout
