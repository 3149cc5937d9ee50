"""What a test says that fails because of a result."""

from __future__ import annotations

from dataclasses import replace

from judged import REFERENCE
from measured import run_of
from racebench.core.verdict import Verdict
from racebench.reports.results import reading
from racebench.reports.terminal import failures


def test_a_failure_under_load_advises_what_a_test_can_do() -> None:
    run = replace(run_of("create_order", refused=5, errors={"23505": 5}), as_expected=None)
    of = replace(reading.read(REFERENCE / "run.json"), runs=(run,))
    said = failures.of_runs(of, {"create_order": Verdict.INVALID}, width=60)
    assert "Left out: " in said
    assert "| cat" not in said
    assert "\nfix: each refusal is an error your user sees; " in said
    assert "if the code is SQL or uses psycopg 3" in " ".join(said.split())
