"""The live view of runs under load: a line for each strategy, with its figures while it runs and its counts at the end.

Which runs there are, and when they are looked at, is the caller's; when it is drawn, progress.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.reports import sentences
from racebench.reports.terminal import live_lines
from racebench.reports.terminal.tables import Column, Grid, amount, verdict_text

if TYPE_CHECKING:
    from racebench.analysis.streaming.pace import Figures

_DUPLICATES = "duplicates"
#: What is said below the table while a run goes on.
_NOTE = "Other anomalies, such as missed rows, are known at the end of a run."
_WORST = (Verdict.INVALID, Verdict.UNKNOWN, Verdict.VALID)
#: The columns of a terminal that all but the names and the verdicts need, with the blanks between them.
_FIGURES = 51
#: The columns that a verdict and what was found get at least: "INVALID 12,345 missed". Others are left out for them.
_LEAST = 21


@dataclass(slots=True)
class _Runs:
    """The runs of one label: those that have ended, and the figures of one that goes on, None if none does."""

    results: list[RunResult] = field(default_factory=list)
    figures: Figures | None = None

    @property
    def duplicates(self) -> int | None:
        """The duplicates of all runs so far; None if there are none but in one that goes on, of which it is not known.

        What a run has at its end takes the place of what was counted meanwhile.
        """
        ended = sum(result.counts[_DUPLICATES] for result in self.results)
        if self.figures is None:
            return ended
        return None if self.figures.duplicates is None and not ended else ended + (self.figures.duplicates or 0)

    @property
    def errors(self) -> int:
        """The errors of all runs so far."""
        ended = sum(sum(result.errors.values()) for result in self.results)
        return ended + (0 if self.figures is None else self.figures.errors)

    @property
    def verdict(self) -> Text:
        """The worst verdict of the runs that have ended, with the other anomalies that were found in them."""
        if not self.results:
            return Text("running")
        said = verdict_text(min((result.verdict for result in self.results), key=_WORST.index))
        kinds = dict.fromkeys(kind for result in self.results for kind in result.found if kind != _DUPLICATES)
        found = [sentences.counted(kind, sum(result.counts[kind] for result in self.results)) for kind in kinds]
        return Text.assemble(said, f" {', '.join(found)}" if found else "")


class LiveRuns:
    """A progress.View of runs, by their labels. `forbidden`: the kinds of anomaly that make a run INVALID."""

    def __init__(self, forbidden: Sequence[str]) -> None:
        self._forbidden = forbidden
        self._runs: dict[str, _Runs] = {}

    def running(self, label: str, figures: Figures) -> None:
        """Note the figures of a run that goes on."""
        self._runs.setdefault(label, _Runs()).figures = figures

    def ended(self, label: str, result: RunResult) -> None:
        """Note the result of a run."""
        runs = self._runs.setdefault(label, _Runs())
        runs.figures = None
        runs.results.append(result)

    def parts(self, width: int, lines: int, *, ascii_only: bool) -> Sequence[RenderableType]:
        """The table, and what is not in it before the end of a run."""
        return live_lines.fitted(
            [(label, runs.figures is not None) for label, runs in self._runs.items()],
            lambda labels: self._table(labels, width, ascii_only=ascii_only),
            _NOTE if any(runs.figures is not None for runs in self._runs.values()) else "",
            lines,
        )

    def _table(self, labels: Sequence[str], width: int, *, ascii_only: bool) -> Grid:
        several = any(len(self._runs[label].results) > 1 for label in labels)
        columns = (
            Column(head="strategy"),
            *([Column(head="runs", right=True, rank=5)] if several else ()),
            Column(head="per s\nnow", right=True, rank=3),
            Column(head="per s\nso far", right=True, rank=1),
            Column(head="p50/p99\nms", right=True, rank=4),
            Column(head="errors", right=True, rank=5),
            Column(head="dupli-\ncates", right=True),
            Column(head="verdict"),
        )
        grid = Grid(columns, ascii_only=ascii_only, says_left_out=False)
        room = width - _FIGURES - max(map(len, labels))
        for label in labels:
            runs = self._runs[label]
            count = runs.duplicates
            grid.add_row(
                Text(label, style="bold" if runs.figures is not None else ""),
                *([f"{len(runs.results)}"] if several else ()),
                *_pace(runs),
                amount(runs.errors),
                live_lines.UNKNOWN if count is None else amount(count, bad=_DUPLICATES in self._forbidden),
                live_lines.cut(runs.verdict, max(room, _LEAST)),
            )
        return grid


def _pace(runs: _Runs) -> tuple[str, str, str]:
    """Throughput now and so far, and latency; of runs that have ended the median throughput, and the last latency."""
    if (figures := runs.figures) is not None:
        latency = live_lines.latency_ms(figures.p50_us, figures.p99_us)
        return live_lines.rate(figures.now_per_s), live_lines.rate(figures.so_far_per_s), latency
    latency_us = runs.results[-1].latency_us
    return "", live_lines.rate(_median(runs.results)), live_lines.latency_ms(latency_us["p50"], latency_us["p99"])


def _median(results: Sequence[RunResult]) -> float:
    """The median throughput. The module statistics takes longer to import than four pictures to draw."""
    rates = sorted(result.throughput_per_s for result in results)
    return (rates[(len(rates) - 1) // 2] + rates[len(rates) // 2]) / 2
