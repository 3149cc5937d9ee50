"""Signals while the command is still importing: one line, exit code 130; a signal that is ignored stays ignored."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from waiting import LIMIT_S

#: Runs the command; when a module is about to be imported, the process sends itself signals.
PROGRAM = """
import os, signal, sys
module, numbers, ignored = sys.argv[1], sys.argv[2].split(","), sys.argv[3]
sys.argv = ["racebench", *sys.argv[4:]]
if ignored:
    signal.signal(getattr(signal, ignored), signal.SIG_IGN)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            for number in numbers:
                os.kill(os.getpid(), getattr(signal, number))

sys.meta_path.insert(0, Finder())
from racebench.__main__ import main
main()
"""
RUN = ("run", "-s", "advisory", "-w", "1", "-n", "1", "--no-save")


def run(
    folder: Path, module: str, numbers: str, *arguments: str, ignored: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, module, numbers, ignored, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


@pytest.mark.parametrize("numbers", ["SIGINT", "SIGTERM", "SIGHUP", "SIGINT,SIGINT,SIGTERM"])
@pytest.mark.parametrize("module", ["racebench.cli.main", "click.core", "racebench.cli.commands.list"])
def test_a_signal_during_the_first_imports_is_one_line(tmp_path: Path, module: str, numbers: str) -> None:
    done = run(tmp_path, module, numbers, "list")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "racebench: interrupted; no server, worker or schema is left\n"


@pytest.mark.parametrize("numbers", ["SIGINT", "SIGTERM,SIGHUP"])
@pytest.mark.parametrize("module", ["rich.live", "numpy", "psycopg", "psycopg.pq", "racebench.load.campaign"])
def test_a_signal_during_the_imports_of_a_command_is_one_line(tmp_path: Path, module: str, numbers: str) -> None:
    done = run(tmp_path, module, numbers, *RUN)
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert done.stderr == "racebench: interrupted; no server, worker or schema is left\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("module", ["click.core", "racebench.workloads.catalog"])
def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path, module: str, number: signal.Signals) -> None:
    """nohup ignores SIGHUP, and a shell without job control the SIGINT of its background jobs."""
    done = run(tmp_path, module, number.name, "list", ignored=number.name)
    assert (done.returncode, done.stderr) == (0, "")
    assert "version-counter" in done.stdout


#: Runs the command; when it makes the first data class of a command, the process sends itself a signal.
CLASS_PROGRAM = """
import dataclasses, os, signal, sys
sys.argv[0] = "racebench"

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("racebench.cli.commands."):
            sys.meta_path.remove(self)
            dataclasses.Field.__set_name__ = set_name

def set_name(field, owner, name, before=dataclasses.Field.__set_name__):
    dataclasses.Field.__set_name__ = before
    os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Finder())
from racebench.__main__ import main
main()
"""


def test_a_signal_while_a_class_is_made_is_one_line(tmp_path: Path) -> None:
    """Python 3.11 replaces the interruption by a RuntimeError there."""
    done = subprocess.run(
        [sys.executable, "-c", CLASS_PROGRAM, *RUN], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert (done.returncode, done.stderr.count("\n")) == (130, 1), done.stderr
    assert "interrupted" in done.stderr
