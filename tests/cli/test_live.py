"""--live: a view on a terminal, which leaves nothing there; elsewhere the command is as without it."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import pytest

from conftest import Command
from demos import DemoTerminal

SHOWN = {"RACEBENCH_PROGRESS": "auto", "CI": ""}


@pytest.mark.server
def test_the_count_rises_on_a_terminal_and_ctrl_c_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    asked = ("-s", "naive", "-w", "2", "-d", "600", "--no-save", "--live")
    with contextlib.closing(DemoTerminal(tmp_path, *asked, command="run", **SHOWN)) as terminal:
        first = duplicates(terminal.until("duplicates", "running"))
        while duplicates(terminal.until("running")) <= max(first, 0):
            pass
        terminal.press("\x03")
        assert terminal.end() == 130
        terminal.assert_as_before()
        assert [line.rstrip() for line in terminal.screen.display if line.strip()] == [
            "racebench: interrupted; no server, worker or schema is left"
        ]


def duplicates(screen: str) -> int:
    """The duplicates of naive so far; −1 if the line is not there."""
    found = re.search(r"^naive.* (\d+) running", screen, re.MULTILINE)
    return -1 if found is None else int(found[1])


@pytest.mark.server
def test_without_a_terminal_live_changes_nothing(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "racebench.toml").write_text("live = true\n")
    done = racebench("run", "-s", "naive", "-w", "2", "-n", "40", "--no-save", "--json", "-", env=SHOWN)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["runs"][0]["strategy"] == "naive"
    assert re.search(r"^ *live +true", racebench("config", "explore").stdout, re.MULTILINE)
