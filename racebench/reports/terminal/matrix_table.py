"""A matrix of strategies × consumers: rows missed, duplicates, and throughput relative to the strategy alone.

For a terminal, in blocks of as many consumers as fit, and as Markdown.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from racebench.analysis.matrix import Matrix, Pair, arrange
from racebench.core.quantity import quantity
from racebench.core.verdict import Verdict
from racebench.reports import escape
from racebench.reports.results.document import Document
from racebench.reports.server import server_of
from racebench.reports.terminal import tables
from racebench.reports.terminal.tables import Column, Grid

_NOT_APPLICABLE = "–"
_LEGEND = (
    "Rows missed, and throughput relative to the strategy alone. 0: none in this run, an upper bound; ?: not known; "
    "–: the consumer cannot read such numbers; !: not what is known of the pair."
)


def show(console: Console, document: Document) -> None:
    """Print the matrix in blocks that fit the width, and what its cells mean."""
    matrix = arrange(document.runs)
    ascii_only = console.options.ascii_only
    left = matrix.consumers
    while True:
        fitting = len(left)
        while fitting > 1 and _block(matrix, left[:fitting], ascii_only=ascii_only).least_width > console.width:
            fitting -= 1
        tables.show(console, [_block(matrix, left[:fitting], ascii_only=ascii_only), Text()])
        left = left[fitting:]
        if not left:
            break
    tables.show(console, [Text(_LEGEND)])


def _block(matrix: Matrix, consumers: Sequence[str], *, ascii_only: bool) -> Grid:
    columns = (
        Column(head="strategy"),
        Column(head="alone\nper s", right=True, rank=2),
        Column(head="dupli-\ncates", right=True, rank=1),
        *(Column(head=name, right=True) for name in consumers),
    )
    table = Grid(columns, ascii_only=ascii_only, gap=2)
    for strategy in matrix.strategies:
        duplicates = share(matrix.duplicates[strategy])
        table.add_row(
            strategy,
            alone(matrix, strategy),
            Text(duplicates, style="" if duplicates == "0" else "bold red"),
            *(_text(matrix.pairs.get((strategy, name))) for name in consumers),
        )
    return table


def _text(pair: Pair | None) -> Text:
    if pair is None:
        return Text(_NOT_APPLICABLE, style="dim")
    text = Text(f"{missed(pair)}{surprise(pair)}", style="green" if missed(pair) == "0" else "bold red")
    if pair.relative is not None:
        text.append(f" {pair.relative:.2f}", style="not bold dim")
    return text


def alone(matrix: Matrix, strategy: str) -> str:
    """A strategy's throughput without a consumer, in commits a second."""
    return f"{matrix.alone[strategy]:,.0f}" if strategy in matrix.alone else _NOT_APPLICABLE


def missed(pair: Pair) -> str:
    """The share of rows missed; "?" where the consumer did not read to the end."""
    return "?" if pair.consumer.verdict is Verdict.UNKNOWN else share(pair.missed)


def surprise(pair: Pair) -> str:
    """A mark where the pair did not do what is known of it."""
    return "" if pair.consumer.as_expected else "!"


def share(part: float) -> str:
    """A share in percent; "0" only for none."""
    percent = 100 * part
    return "0" if not part else f"{percent:.0f}%" if percent >= 1 else f"{percent:.2g}%"


def markdown(document: Document) -> str:
    """The matrix as a Markdown table under a line that says where and how it was measured; a comparison as its own."""
    if document.comparison is not None:
        from racebench.reports.terminal import comparison_table  # which knows what a comparison has

        return f"{_measured(document)}\n\n{comparison_table.markdown(document)}"
    matrix = arrange(document.runs)
    lines = [
        _measured(document),
        "",
        _row(["strategy", "alone per s", "duplicates", *map(escape.markdown, matrix.consumers)]),
    ]
    lines.append(_row(["---", *["---:"] * (2 + len(matrix.consumers))]))
    for strategy in matrix.strategies:
        cells = [_plain(matrix.pairs.get((strategy, name))) for name in matrix.consumers]
        lines.append(_row([escape.code(strategy), alone(matrix, strategy), share(matrix.duplicates[strategy]), *cells]))
    return "\n".join([*lines, "", _LEGEND, ""])


def _measured(document: Document) -> str:
    if not document.runs:
        return "Nothing was run."
    first, environment = document.runs[0], document.environment
    load = first.load
    parts = [quantity(load.workers, "worker"), f"hold {load.hold_us / 1e3:g} ms"]
    if load.long_percent:
        parts.append(f"{load.long_percent:g} % hold {load.long_us / 1e3:g} ms")
    if load.rollback_percent:
        parts.append(f"{load.rollback_percent:g} % roll back")
    how = f"{load.duration_s:g} s" if load.duration_s is not None else quantity(load.operations or 0, "operation")
    seed, unit = load.seed, "a pair"
    if document.comparison is not None:
        seed, unit = document.comparison.seed, "a run"
    return (
        f"{escape.code(first.scenario)} on {escape.markdown(server_of(document))}, "
        f"{environment['cpu_count']} CPUs, {how} {unit}, {', '.join(parts)}, polled every "
        f"{load.poll_interval_ms:g} ms; "
        f"{document.created[:10]}, seed {seed}."
    )


def _plain(pair: Pair | None) -> str:
    if pair is None:
        return _NOT_APPLICABLE
    relative = "" if pair.relative is None else f" ({pair.relative:.2f})"
    rows = missed(pair)
    return f"{rows if rows == '0' else f'**{rows}**'}{surprise(pair)}{relative}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
