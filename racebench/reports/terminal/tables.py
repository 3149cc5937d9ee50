"""What every table of the terminal is made of: columns that fit the width there is, a count, a verdict, plain text.

No name is ever broken in two. Where a table is wider than the terminal, its heads are hyphenated first; then the least
important columns are left out, and a line below names them. A pipe or a file has no width: there a table is whole.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from racebench.core.verdict import Verdict
from racebench.reports.terminal.plain_console import UNLIMITED, PlainConsole, without_controls

_STYLES = {Verdict.VALID: "bold green", Verdict.INVALID: "bold red", Verdict.UNKNOWN: "bold yellow"}
_LEAST_WRAPPED = 24  # columns that a column of sentences gets at least, if it has so much
_NARROWEST = 12  # columns of such a column on the narrowest terminal
DRAWING_WIDTH = 100  # of what is drawn to a width, where there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column. `head`: one line or several; a hyphen at the end of a line is dropped where there is room.

    `rank`: 0 is always shown; of the others the highest is left out first. `wraps`: its cells are sentences, which
    become several lines where they have to.
    """

    head: str = ""
    right: bool = False
    rank: int = 0
    wraps: bool = False

    @property
    def name(self) -> str:
        """The head in one line."""
        return " ".join(self.head.replace("-\n", "").split())

    def lines(self, *, hyphenated: bool) -> list[str]:
        return (self.head if hyphenated else self.head.replace("-\n", "")).split("\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """The columns of a table that are shown, by their number, and how wide each is."""

    columns: tuple[int, ...]
    widths: tuple[int, ...]
    hyphenated: bool


class Grid:
    """A table as lines of text without trailing blanks, laid out when it is printed.

    `gap`: the blanks between two columns; `indent`: those before the first. `widest`: its width where there is no
    limit, for columns that wrap. `says_left_out`: a line below names the columns that were left out.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        ascii_only: bool,
        headed: bool = True,
        gap: int = 1,
        indent: int = 0,
        widest: int = UNLIMITED,
        says_left_out: bool = True,
    ) -> None:
        self._columns = tuple(columns)
        self._rows: list[tuple[Text, ...]] = []
        self._rule = "-" if ascii_only else "─"
        self._headed = headed
        self._gap, self._indent, self._widest = gap, indent, widest
        self._says_left_out = says_left_out

    def add_row(self, *cells: str | Text) -> None:
        """Add a row, with a cell for each column."""
        assert len(cells) == len(self._columns)
        self._rows.append(tuple(without_controls(Text(cell) if isinstance(cell, str) else cell) for cell in cells))

    @property
    def least_width(self) -> int:
        """The width in which the table is whole, with hyphenated heads."""
        return self._total(range(len(self._columns)), hyphenated=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        layout = self._fitted(options.max_width)
        lines = [line for row in self._rows for line in self._lines(row, layout, console)]
        if self._headed:
            heads = tuple(Text("\n".join(column.lines(hyphenated=layout.hyphenated))) for column in self._columns)
            tallest = max(heads[number].plain.count("\n") for number in layout.columns)
            heads = tuple(Text("\n" * (tallest - head.plain.count("\n")) + head.plain, style="bold") for head in heads)
            rule = self._rule * (sum(layout.widths) + self._gap * (len(layout.widths) - 1))
            lines = [*self._lines(heads, layout, console), Text(f"{'':{self._indent}}{rule}"), *lines]
        for line in lines:
            line.no_wrap, line.overflow = True, "ignore"
            yield line
        left_out = [column.name for number, column in enumerate(self._columns) if number not in layout.columns]
        if left_out and self._says_left_out:
            needed = f"Left out: {', '.join(left_out)}. The table needs {self.least_width} columns"
            if options.is_terminal:
                needed += f" and the terminal has {options.max_width}; a pipe (| cat) gets all of it."
            else:  # a test's failure, or COLUMNS is set
                needed += f" and has {options.max_width}."
            yield Paragraph(Text(needed, style="dim"))

    def _natural(self, number: int, *, hyphenated: bool) -> int:
        """How wide a column is if nothing wraps."""
        column = self._columns[number]
        head = max(map(len, column.lines(hyphenated=hyphenated))) if self._headed else 0
        return max([head, *(line.cell_len for row in self._rows for line in row[number].split("\n", allow_blank=True))])

    def _total(self, columns: Iterable[int], *, hyphenated: bool) -> int:
        """The least width of some columns together."""
        widths = [self._natural(number, hyphenated=hyphenated) for number in columns]
        wrapped = [self._columns[number].wraps for number in columns]
        least = [min(width, _LEAST_WRAPPED) if wraps else width for width, wraps in zip(widths, wrapped, strict=True)]
        return self._indent + sum(least) + self._gap * max(0, len(least) - 1)

    def _fitted(self, width: int) -> _Layout:
        columns = list(range(len(self._columns)))
        while self._total(columns, hyphenated=True) > width:
            last = max(reversed(columns), key=lambda number: self._columns[number].rank)
            if self._columns[last].rank == 0:
                break
            columns.remove(last)
        hyphenated = self._total(columns, hyphenated=False) > width
        widths = {number: self._natural(number, hyphenated=hyphenated) for number in columns}
        wrapping = [number for number in columns if self._columns[number].wraps]
        room = min(width, self._widest if wrapping else width) - self._indent - self._gap * (len(columns) - 1)
        room -= sum(widths[number] for number in columns if number not in wrapping)
        for done, number in enumerate(sorted(wrapping, key=lambda number: widths[number])):
            share = max(room // (len(wrapping) - done), _NARROWEST)
            widths[number] = max(1, min(widths[number], share))
            room -= widths[number]
        return _Layout(
            columns=tuple(columns), widths=tuple(widths[number] for number in columns), hyphenated=hyphenated
        )

    def _lines(self, row: tuple[Text, ...], layout: _Layout, console: Console) -> Iterator[Text]:
        cells = []
        for number, width in zip(layout.columns, layout.widths, strict=True):
            cell = row[number]
            wraps = self._columns[number].wraps
            cells.append(list(cell.wrap(console, width) if wraps else cell.split("\n", allow_blank=True)))
        for index in range(max(map(len, cells))):
            line = Text(" " * self._indent)
            for place, (number, width) in enumerate(zip(layout.columns, layout.widths, strict=True)):
                text = cells[place][index] if index < len(cells[place]) else Text()
                text.rstrip()
                blanks = " " * (width - text.cell_len)
                line.append(" " * self._gap if place else "")
                line.append(blanks if self._columns[number].right else "")
                line.append_text(text)
                line.append("" if self._columns[number].right else blanks)
            line.rstrip()
            yield line


class Paragraph:
    """A text in lines without trailing blanks: each after `indent` blanks, all but the first after `hanging` more."""

    def __init__(self, text: Text, *, indent: int = 0, hanging: int = 0) -> None:
        self._text = without_controls(text)
        self._indent, self._hanging = indent, hanging

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = max(1, options.max_width - self._indent - self._hanging)
        for number, line in enumerate(self._text.wrap(console, width, no_wrap=self._text.no_wrap)):
            line.rstrip()
            blanks = self._indent + (self._hanging if number else 0)
            yield Text.assemble(" " * blanks, line, no_wrap=True, overflow="ignore")


def indented(text: Text) -> Paragraph:
    """A text that belongs to what is above it."""
    return Paragraph(text, indent=2)


def show(console: Console, parts: Iterable[RenderableType]) -> None:
    """Print the parts of a report, one below the other. A text that must not wrap is one line, however long."""
    for part in parts:
        if not isinstance(part, Text):
            console.print(part, crop=False)
        elif part.no_wrap:
            console.print(part, soft_wrap=True)
        else:
            console.print(Paragraph(part, hanging=2), crop=False)


def plain(shows: Callable[[Console], None], *, width: int = UNLIMITED) -> str:
    """What a report shows, as text without color."""
    console = PlainConsole(width=width, file=io.StringIO(), color_system=None, force_terminal=False)
    with console.capture() as capture:
        shows(console)
    return capture.get()


def drawing_width(width: int) -> int:
    """How wide a drawing is on a console of some width."""
    return width if width < UNLIMITED else DRAWING_WIDTH


def verdict_text(verdict: Verdict) -> Text:
    return Text(verdict.value, style=_STYLES[verdict])


def amount(count: int, *, bad: bool = False) -> Text:
    """A count; from a million on in millions, so that the table keeps its width (the JSON is exact)."""
    text = f"{count}" if count < 1_000_000 else f"{count / 1e6:.1f}M"
    return Text(text, style="bold red" if bad and count else "")
