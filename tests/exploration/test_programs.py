"""Twenty kinds of programs, each with its race and without: every verdict is right, and none needs an invariant."""

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


@pytest.mark.parametrize("name", programs.NAMES)
def test_a_race_is_found_and_its_fix_proved_without_an_invariant(bench: Bench, name: str) -> None:
    program = programs.load(name)
    buggy = bench.explore(*program.buggy, setup=program.schema, stop_at_first=True)
    assert buggy.verdict is Verdict.INVALID
    assert buggy.counts["non-serializable"] == 1
    fixed = bench.explore(*program.fixed, setup=program.schema + program.fixed_schema, budget=math.inf)
    assert (fixed.verdict, fixed.complete, fixed.anomalous) == (Verdict.VALID, True, 0)
    if program.invariant:  # a cross-check: a query that was written for this program agrees
        assert buggy.schedule is not None
        again = bench.replay(*program.buggy, schedule=buggy.schedule, setup=program.schema, invariant=program.invariant)
        assert again.counts["violations"] == 1
