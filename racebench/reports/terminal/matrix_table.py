"""The grid of writers × consumers: rows missed, duplicates, and throughput relative to the writer without a consumer.

For a terminal, in blocks of as many consumers as fit, and as Markdown. Every figure is a run's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from racebench.core.results import ConsumerResult, RunResult, Verdict
from racebench.reports.results.document import Document

_NARROWEST_CELL = 10
_NOT_APPLICABLE = "–"


@dataclass(frozen=True, slots=True)
class Cell:
    """One writer with one consumer. `cost` is its throughput over the writer's alone, None if that was not run."""

    run: RunResult
    consumer: ConsumerResult
    cost: float | None

    @property
    def missed(self) -> str:
        """The share of rows missed: "0" only for none."""
        missed, rows = self.consumer.counts["missed"], self.run.counts["rows"]
        if self.consumer.verdict is Verdict.UNKNOWN:
            return "?"
        if not missed:
            return "0"
        share = 100 * missed / rows
        return f"{share:.0f}%" if share >= 1 else f"{share:.2g}%"

    @property
    def surprise(self) -> str:
        """A mark where the pair did not do what is known of it."""
        return "" if self.consumer.as_expected else "!"


@dataclass(frozen=True, slots=True)
class Grid:
    """The runs of a matrix, by writer and consumer. `alone` are the runs without a consumer."""

    writers: Sequence[str]
    consumers: Sequence[str]
    cells: Mapping[tuple[str, str], Cell]
    alone: Mapping[str, RunResult]
    duplicates: Mapping[str, tuple[int, int]]

    def throughput(self, writer: str) -> str:
        run = self.alone.get(writer)
        return _NOT_APPLICABLE if run is None else f"{run.throughput_per_s:,.0f}"

    def twins(self, writer: str) -> str:
        duplicates, rows = self.duplicates[writer]
        share = 100 * duplicates / rows if rows else 0.0
        return "0" if not duplicates else f"{share:.0f}%" if share >= 1 else f"{share:.2g}%"


def grid_of(document: Document) -> Grid:
    """Arrange a document's runs."""
    alone = {run.strategy: run for run in document.runs if not run.consumers}
    cells: dict[tuple[str, str], Cell] = {}
    duplicates: dict[str, tuple[int, int]] = {}
    for run in document.runs:
        before = duplicates.get(run.strategy, (0, 0))
        duplicates[run.strategy] = (before[0] + run.counts["duplicates"], before[1] + run.counts["rows"])
        base = alone.get(run.strategy)
        for consumer in run.consumers:
            single = len(run.consumers) == 1 and base is not None and base.throughput_per_s > 0
            cost = run.throughput_per_s / base.throughput_per_s if single and base else None
            cells[run.strategy, consumer.name] = Cell(run, consumer, cost)
    return Grid(
        writers=list(duplicates),
        consumers=list(dict.fromkeys(name for _, name in cells)),
        cells=cells,
        alone=alone,
        duplicates=duplicates,
    )


def show(console: Console, document: Document) -> None:
    """Print the grid in blocks that fit the width, and what its cells mean."""
    grid = grid_of(document)
    name_width = max((len(writer) for writer in grid.writers), default=8)
    fitting = max(1, (console.width - name_width - 22) // _NARROWEST_CELL)
    for start in range(0, max(len(grid.consumers), 1), fitting):
        console.print(_block(grid, grid.consumers[start : start + fitting]))
        console.print()
    console.print(Text(_LEGEND))


_LEGEND = (
    "Rows missed, and throughput relative to the writers alone. 0: none in this run, an upper bound; ?: not known; "
    "–: the consumer cannot read such numbers; !: not what is known of the pair."
)


def _block(grid: Grid, consumers: Sequence[str]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    made.add_column("writers", no_wrap=True)
    made.add_column("alone\nper s", justify="right", no_wrap=True)
    made.add_column("dupli-\ncates", justify="right", no_wrap=True)
    for name in consumers:
        made.add_column(name.replace("-", "-\n"), justify="right", no_wrap=True)
    for writer in grid.writers:
        cells = [grid.cells.get((writer, name)) for name in consumers]
        twins = grid.twins(writer)
        made.add_row(
            writer,
            grid.throughput(writer),
            Text(twins, style="" if twins == "0" else "bold red"),
            *(_text(cell) for cell in cells),
        )
    return made


def _text(cell: Cell | None) -> Text:
    if cell is None:
        return Text(_NOT_APPLICABLE, style="dim")
    text = Text(f"{cell.missed}{cell.surprise}", style="green" if cell.missed == "0" else "bold red")
    if cell.cost is not None:
        text.append(f" {cell.cost:.2f}", style="not bold dim")
    return text


def markdown(document: Document) -> str:
    """The grid as a Markdown table under a line that says where and how it was measured; a comparison as its own."""
    if document.comparison is not None:
        from racebench.reports.terminal import comparison_table  # which knows what a comparison has

        return f"{_measured(document)}\n\n{comparison_table.markdown(document)}"
    grid = grid_of(document)
    lines = [_measured(document), "", _row(["writers", "alone per s", "duplicates", *grid.consumers])]
    lines.append(_row(["---", *["---:"] * (2 + len(grid.consumers))]))
    for writer in grid.writers:
        cells = [_plain(grid.cells.get((writer, name))) for name in grid.consumers]
        lines.append(_row([f"`{writer}`", grid.throughput(writer), grid.twins(writer), *cells]))
    return "\n".join([*lines, "", _LEGEND, ""])


def _measured(document: Document) -> str:
    if not document.runs:
        return "Nothing was run."
    first, environment = document.runs[0], document.environment
    load = first.load
    parts = [f"{load.workers} workers", f"hold {load.hold_us / 1e3:g} ms"]
    if load.long_percent:
        parts.append(f"{load.long_percent:g} % hold {load.long_us / 1e3:g} ms")
    if load.rollback_percent:
        parts.append(f"{load.rollback_percent:g} % roll back")
    how = f"{load.duration_s:g} s" if load.duration_s is not None else f"{load.operations:,} operations"
    seed, each = load.seed, "a pair"
    if document.comparison is not None:
        seed, each = document.comparison.seed, "a run"
    return (
        f"`{first.scenario}` on PostgreSQL {environment['server_version']} ({environment['target']}), "
        f"{environment['cpu_count']} CPUs, {how} {each}, {', '.join(parts)}, polled every "
        f"{load.poll_interval_ms:g} ms; "
        f"{document.created[:10]}, seed {seed}."
    )


def _plain(cell: Cell | None) -> str:
    if cell is None:
        return _NOT_APPLICABLE
    missed = cell.missed if cell.missed == "0" else f"**{cell.missed}**"
    cost = "" if cell.cost is None else f" ({cell.cost:.2f})"
    return f"{missed}{cell.surprise}{cost}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
