"""A command imports what it needs, and nothing that takes long and is another command's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from racebench.cli import commands
from racebench.cli.main import cli
from racebench.core.target import Target

#: What live views have in common.
LIVE = "racebench.reports.terminal.live_lines"


@pytest.mark.parametrize(
    ("modules", "unneeded"),
    [
        (
            "racebench.cli.main",
            ("numpy", "psycopg", "rich", "racebench.workloads", "racebench.load", "racebench.core.model"),
        ),
        ("racebench.cli.exploring, racebench.cli.replaying, racebench.cli.demonstrating", ("racebench.load",)),
        ("racebench.load.worker, racebench.load.consumer", ("click", "rich", "racebench.analysis")),
    ],
)
def test_a_command_does_not_import_what_it_does_not_need(modules: str, unneeded: tuple[str, ...]) -> None:
    code = f"import sys, {modules}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = run.stdout.split()
    assert modules.split(", ", maxsplit=1)[0] in imported
    assert [name for name in unneeded if name in imported] == []


def test_the_commands_are_those_that_have_a_module() -> None:
    folder = Path(str(commands.__file__)).parent
    assert sorted(cli.commands) == sorted(path.stem for path in folder.glob("[!_]*.py"))
    assert [command.name for command in cli.commands.values()] == [*cli.commands]


def test_a_command_does_without_the_modules_of_the_others(tmp_path: Path) -> None:
    code = (
        "import sys; from racebench.cli.main import cli; cli.main(['list'], standalone_mode=False); "
        "print(*(name for name in sys.modules if name.startswith('racebench.cli.commands.')))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RACEBENCH_")}  # settings
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert run.stdout.splitlines()[-1] == "racebench.cli.commands.list"


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (
            ["run", "-s", "naive", "-w", "2", "-n", "20", "--no-save"],
            [
                "numpy.ma",
                "racebench.analysis.comparison",
                "racebench.analysis.thresholds",
                "racebench.exploration",
                "racebench.load.meter",
                LIVE,
            ],
        ),
        (
            ["explore", "-s", "naive", "--no-save"],
            ["numpy", "racebench.analysis.comparison", "racebench.core.results", "racebench.load", LIVE],
        ),
        (["show", "naive"], ["tempfile", "psycopg", "racebench.reports.results"]),
    ],
    ids=lambda words: words[0],
)
def test_a_whole_command_does_without_what_others_need(
    arguments: list[str], unneeded: list[str], tmp_path: Path, embedded: Target
) -> None:
    assert embedded.server_pid is not None  # there is a template of its data
    code = (
        "import sys; from racebench.cli.main import cli; "
        f"cli.main({arguments!r}, standalone_mode=False); print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    imported = run.stdout.splitlines()[-1].split()
    assert "racebench.cli.main" in imported
    assert [name for name in unneeded if name in imported] == []
