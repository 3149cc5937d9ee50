"""The applications of benchmarks/stacks that CI can run: the verdict and the number of schedules of each.

`python -m benchmarks.stacks` runs all of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import in_process
import pytest

from benchmarks.stacks.cases import CASES, Case
from benchmarks.stacks.judging import judge, missing
from racebench.exploration import explorer
from waiting import LIMIT_S

#: Of each stack that .ci/run installs, what is explored here.
CHOSEN = {
    "pg": ("autocommit", "unique", "simple protocol", "transaction in one query", "two queries at once"),
    "pg-client": ("one Client, shared",),
    "postgres.js": ("shared, pipelined",),
    "asyncpg": ("Parse apart under REPEATABLE READ", "after the response, shared"),
    "hikari": ("unique",),
    "ruby-pg": ("locked",),
}


def chosen() -> list[Case]:
    return [CASES[f"{stack}, {name}"] for stack, names in CHOSEN.items() for name in names]


@pytest.mark.server
@pytest.mark.parametrize("case", chosen(), ids=str)
def test_an_application_is_explored_unchanged(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (
        case.verdict == "INVALID"
    ):  # whether a burst shows a race is chance, and a busy machine has few in the usual time
        monkeypatch.setattr(explorer, "_BURSTS", 10_000)
        monkeypatch.setattr(explorer, "_BURSTING_S", LIMIT_S)
    absent = missing(case)
    if absent and os.environ.get("TEST_STACKS") != "required":
        pytest.skip(f"not installed: {absent}")

    def command(words: Sequence[str]) -> str:
        done = in_process.run(*words, cwd=tmp_path)
        return done.output + done.errors

    judged = judge(case, tmp_path, command)
    assert judged.wrong == (), judged.report
