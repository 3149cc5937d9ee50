"""Results made by hand: runs with the figures a test is about, and comparisons of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from racebench.analysis.comparison import Asked, Comparison, Conditions, compare
from racebench.core.anomalies import ANOMALIES
from racebench.core.model import Load
from racebench.core.results import ConsumerResult, RunResult
from racebench.core.verdict import Verdict
from racebench.reports import formats
from racebench.reports.results.document import Document
from racebench.reports.results.explorations import Explorations
from racebench.reports.results.sources import Source

_COUNTS = ("attempts", "committed", "failed", "rolled_back", "unknown", "retries", "rows", *ANOMALIES)
LOAD = Load(workers=8, duration_s=1.0, operations=None, seed=1)


def run_of(
    strategy: str,
    rate: float = 1000.0,
    *,
    committed: int = 5000,
    p99_ms: float | None = 5.0,
    load: Load = LOAD,
    drained: bool = True,
    expected: tuple[str, ...] = (),
    errors: Mapping[str, int] | None = None,
    **counts: int,
) -> RunResult:
    """A run of version-counter; what is counted of anomalies makes it INVALID."""
    counted = {**dict.fromkeys(_COUNTS, 0), "attempts": committed, "committed": committed, "rows": committed, **counts}
    forbidden = ("duplicates", "missed", "redelivered", "lost", "unexpected", "refused", "unnumbered")
    wrong = any(counted[kind] for kind in forbidden)
    complete = drained and committed > 0
    verdict = Verdict.INVALID if wrong else Verdict.VALID if complete else Verdict.UNKNOWN
    reader = ConsumerResult(
        name="cursor",
        verdict=verdict if drained else Verdict.UNKNOWN,
        expected="never",
        as_expected=True,
        counts={"delivered": committed, "missed": counted["missed"], "redelivered": 0},
        late_us={"p50": 1.0, "p99": 2.0, "max": 3.0},
        longest_poll_us=4.0 if drained else None,
    )
    us = None if p99_ms is None else 1e3 * p99_ms
    return RunResult(
        scenario="version-counter",
        strategy=strategy,
        summary="",
        consumers=(reader,),
        load=load,
        seconds=1.0,
        verdict=verdict,
        expected=expected,
        possible=(),
        advice="advisory",
        forbidden=forbidden,
        as_expected=True,
        source="",
        counts=counted,
        measures={},
        errors=errors or {},
        retried={},
        upper_bound=None,
        throughput_per_s=rate,
        latency_us={"p50": us, "p90": us, "p99": us, "p999": None, "max": us},
        pace=None,
        witnesses=(),
    )


def rounds_of(**rates: Sequence[float]) -> list[RunResult]:
    """Runs of strategies with the throughputs of their rounds, round by round; an underscore stands for a dash."""
    longest = max(len(of) for of in rates.values())
    return [
        run_of(name.replace("_", "-"), of[number])
        for number in range(longest)
        for name, of in rates.items()
        if number < len(of)
    ]


def compared(
    runs: Sequence[RunResult],
    *,
    reference: str = "advisory",
    rounds: int = 7,
    margin: float = 0.05,
    frame: str = "f",
    digests: Mapping[str, str] | None = None,
    conditions: Conditions = Conditions(),  # noqa: B008 - a frozen value
) -> Comparison:
    """Compare runs made by hand."""
    names = dict.fromkeys(run.strategy for run in runs)
    asked = Asked(
        reference=reference,
        rounds=rounds,
        seed=1,
        digests=digests or dict.fromkeys(names, "d"),
        frame=frame,
        margin=margin,
    )
    return compare(runs, asked, conditions, cpus=2)


def rendered(name: str, *contents: Document | Explorations) -> str:
    """Results in a format, as `racebench report` writes them."""
    return formats.render(name, [Source(path=Path("results.json"), content=content) for content in contents])
