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


#: The classical names of the races that have one.
RACES = {
    "booking_overlap": "phantom",
    "counter_with_f": "lost update",
    "follower_count": "phantom",
    "get_or_create": "phantom",
    "invoice_number": "duplicate number",
    "job_locks": "write skew",
    "lock_in_a_pooler": "phantom",
    "lock_never_taken": "lost update",
    "lock_on_missing_rows": "phantom",
    "lock_on_the_wrong_key": "phantom",
    "status_machine": "lost update",
    "version_column": "lost update",
    "voucher": "lost update",
}
#: What the sentence about a schedule says of some.
DIFFERENCES = {
    "get_or_create": "2 rows of repositories have name docs; one after the other there is 1",
    "invoice_number": "2 rows of invoices have number 1; one after the other they have 1 and 2",
    "seats": "taken of seats is t (name A1) and f (A2); one after the other it is t and t",
    "upsert": "number of the new row of visits is 1; one after the other it is 2",
    "voucher": "both calls return True; one after the other they return False and True",
}


@pytest.mark.parametrize("name", programs.NAMES)
def test_a_race_is_found_and_its_fix_proved_without_an_invariant(bench: Bench, name: str) -> None:
    program = programs.load(name)
    buggy = bench.explore(*program.buggy, setup=program.schema, stop_at_first=True)
    assert buggy.verdict is Verdict.INVALID
    assert buggy.counts["non-serializable"] == 1
    witness = buggy.result.witness
    assert witness is not None
    assert witness.named == RACES.get(name, "")
    assert witness.difference == DIFFERENCES.get(name, witness.difference) != ""
    fixed = bench.explore(*program.fixed, setup=program.schema + program.fixed_schema, budget=math.inf)
    assert (fixed.verdict, fixed.complete, fixed.anomalous) == (Verdict.VALID, True, 0)
    if program.invariant:  # a cross-check: a query that was written for this program agrees
        assert buggy.schedule is not None
        again = bench.replay(*program.buggy, schedule=buggy.schedule, setup=program.schema, invariant=program.invariant)
        assert again.counts["violations"] == 1
