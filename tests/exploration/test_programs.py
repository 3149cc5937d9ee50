"""Twenty kinds of programs, each with its race and without."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from exploration import programs
from racebench.api import Bench
from racebench.core.results import Verdict


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    with Bench() as server:
        yield server


@pytest.mark.parametrize("name", [name for name in programs.NAMES if name != "voucher"])
def test_a_race_is_found_and_its_fix_proved(bench: Bench, name: str) -> None:
    program = programs.load(name)
    buggy = bench.explore(*program.buggy, setup=program.schema, invariant=program.invariant, stop_at_first=True)
    assert buggy.counts["violations"] == 1
    setup = program.schema + program.fixed_schema
    fixed = bench.explore(*program.fixed, setup=setup, invariant=program.invariant, budget=math.inf)
    assert (fixed.verdict, fixed.complete, fixed.anomalous) == (Verdict.VALID, True, 0)
