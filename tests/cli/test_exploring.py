"""What explore says while it runs: which strategy of how many, its schedules so far, the time that is left at most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from racebench.cli import exploring
from racebench.exploration.request import ExplorationRequest, with_default_limits
from racebench.exploration.result import ExplorationProgress
from racebench.workloads import catalog

SO_FAR = ExplorationProgress(run=1234, anomalous=2, seconds=15.0)


class Said:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float, str]] = []

    def __call__(self, label: str, fraction: float, *, left: str = "") -> None:
        self.calls.append((label, fraction, left))

    def ended(self, row: str) -> None:
        raise AssertionError(row)


@pytest.mark.parametrize(
    ("budget_s", "before", "of", "expected"),
    [
        (None, 0, 1, ("naive, 1,234 schedules (82/s), 2 wrong", 0.25, "at most 0:45 left")),
        (None, 1, 4, ("2 of 4: naive, 1,234 schedules (82/s), 2 wrong", 1.25 / 4, "at most 2:45 left")),
        (float("inf"), 1, 4, ("2 of 4: naive, 1,234 schedules (82/s), 2 wrong", 1 / 4, "")),
    ],
    ids=["one", "several", "unlimited"],
)
def test_progress_has_the_place_the_schedules_and_the_rest_of_the_budget(
    budget_s: float | None, before: int, of: int, expected: tuple[str, float, str]
) -> None:
    scenario = catalog.find_scenario("version-counter")
    request = ExplorationRequest(scenario=scenario, strategy=scenario.strategies["naive"])
    said = Said()
    exploring._tell(said, with_default_limits(replace(request, budget_s=budget_s)), before, of, SO_FAR)
    assert said.calls == [expected]
