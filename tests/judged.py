"""Results judged from histories written by hand; documents, kept histories and excerpts of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from histories import Op, Poll, Row, history
from racebench.analysis.verdicts import judge
from racebench.core.model import Load, Scenario
from racebench.core.results import RunResult, Usage
from racebench.history import History, archive
from racebench.history.recorded import About, Recorded
from racebench.history.spill import Scratch
from racebench.reports.excerpts import Excerpt
from racebench.reports.excerpts.history import of_history
from racebench.reports.results import document, sources

LOAD = Load(workers=2, duration_s=2.0, operations=None, seed=1)
ENVIRONMENT: Mapping[str, object] = {
    "racebench": "1",
    "target": "embedded",
    "server_version": "18.4",
    "server_settings": {"fsync": "on"},
    "cpu_count": 2,
    "machine": "x86_64",
    "system": "Linux",
    "python": "3.11.7",
    "psycopg": "3.2",
    "libpq": 170000,
}
MS = 1_000_000
FORBIDDEN = ("duplicates", "missed", "redelivered", "lost", "unexpected", "refused", "unnumbered")
REFERENCE = Path(__file__).parents[1] / "results" / "reference"
#: Text that would be markup, a script, a template, a control sequence or no Unicode.
HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>'\"&{{7*7}}{%x%}\x00\x1b[31m\u202e\ud800"

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


def saved(folder: Path, *results: RunResult, name: str = "result.json") -> sources.Source:
    whole = document.Document(environment=ENVIRONMENT, created="2026-01-01T00:00:00Z", runs=results)
    (folder / name).write_text(document.to_json(whole))
    return sources.read(folder / name)


def kept(folder: Path, result: RunResult, past: History, strategy: str = "naive") -> Path:
    archive.write(
        folder / str(result.history),
        Recorded(history=past, about=About(scenario="version-counter", strategy=strategy, forbidden=FORBIDDEN)),
    )
    return folder / "result.json"


def excerpt_of(scenario: Scenario, past: History, *, most: int = 1000, result: RunResult | None = None) -> Excerpt:
    with Scratch() as scratch:
        found = of_history(past, result or result_of(scenario, "naive", past), scratch, most=most)
    assert found is not None
    return found
