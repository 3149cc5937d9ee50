"""Results judged from histories written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from histories import Op, Poll, Row, history
from racebench.analysis.verdicts import judge
from racebench.core.model import Load, Scenario
from racebench.core.results import RunResult, Usage

LOAD = Load(workers=2, duration_s=2.0, operations=None, seed=1)
ENVIRONMENT: Mapping[str, object] = {"server_version": "18.4", "target": "embedded"}
MS = 1_000_000

TWINS = history(
    [Op(1, 0, 4 * MS, 17), Op(2, 1 * MS, 8 * MS, 17)],
    [Row(40, 17, 1), Row(41, 17, 2)],
    [Poll((40,), 17)],
)


def result_of(scenario: Scenario, strategy: str, past: object = TWINS, **changes: object) -> RunResult:
    made = judge(
        scenario=scenario,
        strategy=scenario.strategies[strategy],
        consumers=[scenario.consumers["cursor"]],
        load=LOAD,
        history=past,  # type: ignore[arg-type]
        retried={},
        messages={},
        notes=(),
        schema=None,
        usage=Usage(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]
