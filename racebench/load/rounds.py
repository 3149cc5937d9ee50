"""What follows from a campaign's rounds: the reference, the state of the machine meanwhile, and the comparison.

The order of the runs belongs to the campaign, the statistics to racebench.analysis.comparison.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from racebench.analysis.comparison import MARGIN, Asked, Comparison, Conditions, compare
from racebench.core.model import Scenario, Strategy
from racebench.core.results import RunResult
from racebench.load.campaign import Campaign
from racebench.postgres import cpu_time
from racebench.workloads.digests import digest, frame


def default_reference(scenario: Scenario, strategies: Sequence[Strategy]) -> str:
    """The strategy that the scenario advises, else the first correct one, else the first; of those compared."""
    names = [strategy.name for strategy in strategies]
    if scenario.advise in names:
        return str(scenario.advise)
    return next((strategy.name for strategy in strategies if strategy.right), names[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """A comparison that has begun: what is compared, and the state of the machine before the first run.

    `ticks`: the CPU time that the hypervisor took, and all CPU time, in clock ticks since the machine started.
    """

    asked: Asked
    load_average: float | None
    ticks: tuple[int, int] | None

    def comparison(self, results: Sequence[RunResult]) -> Comparison:
        """What follows from the results so far, in the order of their runs."""
        conditions = Conditions(load_average=self.load_average, stolen=self._stolen())
        return compare(results, self.asked, conditions, os.cpu_count() or 1)

    def _stolen(self) -> float | None:
        """The share of CPU time that the hypervisor took since the first run began."""
        now = cpu_time.machine_ticks()
        if now is None or self.ticks is None or now[1] <= self.ticks[1]:
            return None
        return (now[0] - self.ticks[0]) / (now[1] - self.ticks[1])


def begin(campaign: Campaign, reference: str, *, margin: float = MARGIN) -> Rounds:
    """Note the state of the machine, right before the first run of a campaign in rounds.

    If the server is too old for the reference, another strategy takes its place.
    """
    request = campaign.request
    assert request.rounds is not None
    strategies = [cell.strategy for cell in campaign.cells]
    if strategies and reference not in [strategy.name for strategy in strategies]:
        reference = default_reference(request.scenario, strategies)
    return Rounds(
        asked=Asked(
            reference=reference,
            rounds=request.rounds,
            seed=request.load.seed,
            digests={strategy.name: digest(strategy, None) for strategy in strategies},
            frame=frame(request.scenario, request.consumers),
            margin=margin,
        ),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        ticks=cpu_time.machine_ticks(),
    )
