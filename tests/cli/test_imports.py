"""A command imports what it needs, and nothing that takes long and is another command's."""

from __future__ import annotations

import subprocess
import sys

import pytest


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
