"""The catalog without its invariants: the reference has every strategy, and some are judged again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from racebench.core.target import Target
from racebench.workloads import catalog

ROOT = Path(__file__).parents[2]
#: Of each reason one, and a right and a wrong strategy that are judged alike.
JUDGED = (
    ("version-counter", "sequence", "same"),
    ("version-counter", "commit-stamp", "same"),
    ("version-counter", "unique", "refused alone"),
    ("version-counter", "sequence-cache", "one after the other too"),
    ("get-or-create", "on-conflict-returning", "one after the other too"),
    ("double-booking", "serializable-retry", "same"),
    ("quota", "naive", "same"),
)


@pytest.fixture(autouse=True)
def from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)


@pytest.fixture(scope="module")
def cells() -> dict[tuple[str, str], dict[str, Any]]:
    reference = json.loads((ROOT / "results" / "reference" / "serial_orders.json").read_text())
    return {(cell["scenario"], cell["strategy"]): cell for cell in reference["cells"]}


def test_the_reference_has_every_strategy_and_says_why_one_is_judged_otherwise(
    cells: dict[tuple[str, str], dict[str, Any]],
) -> None:
    known = {(scenario.name, name) for scenario in catalog.shipped() for name in scenario.strategies}
    assert cells.keys() == known
    reasons = {cell["why"] for cell in cells.values()}
    assert {"same"} < reasons <= {"same", "refused alone", "one after the other too", "not forbidden"}
    for cell in cells.values():
        assert (cell["why"] == "same") == (bool(cell["wrong"]) == bool(cell["non_serializable"])), cell
        assert cell["schedule"] or not cell["wrong"], cell


@pytest.mark.parametrize(("scenario", "name", "why"), JUDGED)
def test_a_strategy_is_judged_as_in_the_reference(
    embedded: Target, cells: dict[tuple[str, str], dict[str, Any]], scenario: str, name: str, why: str
) -> None:
    from benchmarks.serial_orders import judge, requests

    (request,) = (one for one in requests(catalog.find_scenario(scenario)) if one.strategy.name == name)
    judged = judge(embedded, request)
    assert judged["why"] == why == cells[scenario, name]["why"]
    assert (judged["wrong"] > 0, judged["kinds"]) == (
        cells[scenario, name]["wrong"] > 0,
        cells[scenario, name]["kinds"],
    )
