"""Shell completion, in the shells themselves: bash, and zsh and fish where they are installed (see .ci/run)."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Command
from racebench.cli.completion import SHELLS
from racebench.demo.walkthroughs import WALKTHROUGHS
from racebench.workloads import catalog
from waiting import wait_for

INSTALLED = [shell for shell in SHELLS if shutil.which(shell)]
LOADS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(racebench completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -Uz compinit; compinit -u -D; eval "$(racebench completion zsh)"'),
}


@pytest.fixture
def program(tmp_path: Path) -> dict[str, str]:
    """An environment in which `racebench` is this checkout's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "racebench").write_text(f'#!/bin/sh\nexec {sys.executable} -m racebench "$@"\n')
    (folder / "racebench").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "TERM": "dumb", "HOME": str(tmp_path)}


def candidates(racebench: Command, *words: str) -> list[str]:
    """What is offered for the last word of a line, asked as bash does."""
    done = racebench(
        env={
            "_RACEBENCH_COMPLETE": "bash_complete",
            "COMP_WORDS": "\n".join(["racebench", *words]),
            "COMP_CWORD": str(len(words)),
        }
    )
    assert done.stderr == ""
    return [line.split(",", 1)[1] for line in done.stdout.splitlines() if line.startswith("plain,")]


def test_bash_is_installed() -> None:
    assert "bash" in INSTALLED


@pytest.mark.parametrize("shell", [shell for shell in INSTALLED if shell in LOADS])
def test_a_real_shell_completes_a_strategy_at_a_tab(shell: str, program: dict[str, str], tmp_path: Path) -> None:
    start, load = LOADS[shell]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        start,
        cwd=tmp_path,
        env=program,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = ""

    def read_until(pattern: str) -> None:
        nonlocal said

        def is_there() -> bool:
            nonlocal said
            if select.select([ours], [], [], 0.02)[0]:
                said += os.read(ours, 65536).decode(errors="replace")
            return re.search(pattern, said) is not None

        wait_for(is_there, lambda: f"no {pattern}:\n{said}")
        said = ""

    try:
        os.write(ours, f"{load}; echo re''ady\r".encode())
        read_until(r"(?m)^(.*[^'])?ready")
        os.write(ours, b"racebench explore lost-update --strategy subs\t")
        read_until("elect-update")
        os.write(ours, b"\x15racebench demo slow\t")
        read_until("-commit")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("shell", [shell for shell in INSTALLED if shell == "fish"])
def test_fish_is_offered_the_strategies(shell: str, program: dict[str, str], tmp_path: Path) -> None:
    asked = "racebench completion fish | source; complete -C 'racebench explore lost-update --strategy subs'"
    done = subprocess.run([shell, "-c", asked], cwd=tmp_path, env=program, capture_output=True, text=True)
    assert done.stdout.startswith("subselect-update")
    asked = "racebench completion fish | source; complete -C 'racebench demo slow'"
    done = subprocess.run([shell, "-c", asked], cwd=tmp_path, env=program, capture_output=True, text=True)
    assert done.stdout.startswith("slow-commit")


@pytest.mark.parametrize("shell", INSTALLED)
def test_the_completion_script_is_valid_in_its_shell(racebench: Command, shell: str, tmp_path: Path) -> None:
    done = racebench("completion", shell)
    assert done.returncode == 0
    assert done.stderr == ""
    (tmp_path / "script").write_text(done.stdout)
    checked = subprocess.run([shell, "-n", "script"], cwd=tmp_path, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_names_are_those_of_the_catalog(racebench: Command) -> None:
    shipped = {scenario.name: scenario for scenario in catalog.shipped()}
    counter, quota = shipped["version-counter"], shipped["quota"]
    assert candidates(racebench, "run", "") == sorted(shipped)
    assert candidates(racebench, "run", "-s", "") == [*counter.strategies, *catalog.GROUPS]
    assert candidates(racebench, "run", "quota", "--strategy", "") == [*quota.strategies, *catalog.GROUPS]
    assert candidates(racebench, "run", "quota", "-s", "naive", "-s", "") == [*quota.strategies, *catalog.GROUPS]
    assert candidates(racebench, "matrix", "--consumer", "") == [*counter.consumers, "none", "all"]
    assert candidates(racebench, "explore", "--consumer", "") == [*counter.consumers, "none"]
    assert candidates(racebench, "show", "advisory-n") == ["advisory-nextval"]
    assert candidates(racebench, "list", "ov") == ["oversell"]
    assert candidates(racebench, "demo", "") == [*WALKTHROUGHS, *counter.strategies]
    assert candidates(racebench, "demo", "slow") == ["slow-commit"]
    assert candidates(racebench, "demo", "--scenario", "quota", "") == [*quota.strategies]
    assert candidates(racebench, "completion", "") == list(SHELLS)
    assert candidates(racebench, "report", "--format", "j") == ["json", "junit"]
    assert "--report" in candidates(racebench, "explore", "--re")


def test_the_settings_scenario_is_the_one_completed(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "racebench.toml").write_text("scenario = 'oversell'")
    assert "write-back" in candidates(racebench, "run", "-s", "")
    assert candidates(racebench, "run", "quota", "-s", "write") == []


def test_errors_yield_no_completions_and_no_message(racebench: Command, tmp_path: Path) -> None:
    assert candidates(racebench, "run", "no-such-scenario", "-s", "na") == []
    (tmp_path / "racebench.toml").write_text("this is not TOML")
    assert candidates(racebench, "run", "-s", "nai") == ["naive"]


def test_an_unknown_shell_is_refused(racebench: Command) -> None:
    done = racebench("completion", "powershell")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "'bash', 'zsh', 'fish'" in done.stderr
