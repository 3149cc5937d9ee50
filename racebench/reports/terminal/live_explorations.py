"""The live view of explorations: a line for each strategy, with the schedules so far, those that are wrong, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration, ExplorationProgress
from racebench.reports import sentences
from racebench.reports.terminal import live_lines
from racebench.reports.terminal.progress import minutes
from racebench.reports.terminal.tables import Column, Grid, amount, verdict_text

#: The columns of a terminal that all but the names and the anomalies need, with the blanks between them.
_FIGURES = 49
_LEAST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """What is shown of one exploration. `state`: its verdict, or what is searched."""

    run: int
    per_s: float
    anomalous: int
    seconds: float
    found: str
    state: Text
    goes_on: bool


class LiveExplorations:
    """A progress.View of explorations, by their strategies."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        #: The one that goes on: it makes a line only when it is drawn, because it is told after each schedule.
        self._now: tuple[ExplorationRequest, ExplorationProgress] | None = None

    def running(self, request: ExplorationRequest, so_far: ExplorationProgress) -> None:
        """Note the progress of an exploration."""
        self._now = request, so_far

    def ended(self, result: Exploration) -> None:
        """Note the result of an exploration."""
        self._now = None
        self._lines[result.strategy] = _Line(
            run=result.run,
            per_s=result.schedules_per_s,
            anomalous=result.anomalous,
            seconds=result.seconds,
            found=_found({kind: result.counts[kind] for kind in result.found}),
            state=verdict_text(result.verdict),
            goes_on=False,
        )

    def parts(self, width: int, lines: int, *, ascii_only: bool) -> Sequence[RenderableType]:
        """The table."""
        shown = dict(self._lines)
        if self._now is not None:
            request, so_far = self._now
            shown[request.strategy.name] = _Line(
                run=so_far.run,
                per_s=so_far.schedules_per_s,
                anomalous=so_far.anomalous,
                seconds=so_far.seconds,
                found=_found(so_far.counts),
                state=Text(f"random, depth {request.depth}" if so_far.drawing else "searching"),
                goes_on=True,
            )
        return live_lines.fitted(
            [(name, line.goes_on) for name, line in shown.items()],
            lambda names: _table({name: shown[name] for name in names}, width, ascii_only=ascii_only),
            "",
            lines,
        )


def _table(lines: Mapping[str, _Line], width: int, *, ascii_only: bool) -> Grid:
    columns = (
        Column(head="strategy"),
        Column(head="sched-\nules", right=True, rank=1),
        Column(head="per s", right=True, rank=3),
        Column(head="wrong", right=True),
        Column(head="time", right=True, rank=4),
        Column(head="verdict"),
        Column(head="anomalies so far", rank=2),
    )
    grid = Grid(columns, ascii_only=ascii_only, says_left_out=False)
    room = width - _FIGURES - max(map(len, lines))
    for name, line in lines.items():
        grid.add_row(
            Text(name, style="bold" if line.goes_on else ""),
            amount(line.run),
            live_lines.rate(line.per_s),
            amount(line.anomalous, bad=True),
            minutes(line.seconds),
            line.state,
            live_lines.cut(Text(line.found), max(room, _LEAST)),
        )
    return grid


def _found(counts: Mapping[str, int]) -> str:
    return ", ".join(sentences.counted(kind, count) for kind, count in counts.items())
