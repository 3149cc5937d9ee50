"""The order in which a schedule's rows were stored, given to the rows of a serial order.

`LIMIT` without ORDER BY returns the rows that are stored first, and an UPDATE of several rows meets a unique constraint
or not by which row it comes to first. Rows that sessions inserted by turns are stored so in no serial order, but might
be: the server puts a row where there is room. So a serial order is also run with the rows stored as in the schedule:
before each operation they are put in that order, with room between them for those that the operation inserts. A row is
known again by its values other than those that were made up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from racebench.exploration.oracle.labels import Labels, shown
from racebench.postgres.copied_rows import Row, rows_of
from racebench.postgres.placement import Layout, Place, placed

_Name = tuple[str, str]
#: What tells a row of a table from others, without what was made up.
_Known = tuple[str | None, ...]


@dataclass(slots=True)
class _Table:
    """The rows of a table that the schedule began with, by their lines, and those that sessions wrote.

    `last`: what was read last.
    """

    columns: tuple[str, ...]
    of_setup: dict[bytes, list[Place]]
    written: dict[tuple[Place, bytes], int]
    last: bytes


class StoredOrder:
    """The places of the rows of a schedule. `several`: a table had several rows at one time."""

    def __init__(self, labels: Labels) -> None:
        self.several = False
        self._labels = labels
        self._tables: dict[_Name, _Table] = {}

    def note(self, name: _Name, columns: tuple[str, ...], copied: bytes, *, writer: int) -> None:
        """Note where the committed rows of a table are (placement.placed); `writer`: the session that wrote the rows
        that were not there before, 0 at the begin.
        """
        known = self._tables.get(name)
        if known is not None and known.last == copied:
            return  # the setup may have made many rows
        rows = placed(copied)
        self.several |= len(rows) > 1
        if known is None:
            known = self._tables[name] = _Table(columns, defaultdict(list), {}, copied)
            if not writer:
                for place, line in reversed(rows):
                    known.of_setup[line].append(place)
                return
        before = set(placed(known.last))
        known.last = copied
        for row in rows:
            if row not in before:
                known.written.setdefault(row, writer)

    def concerns(self, name: _Name) -> bool:
        """Whether sessions have written rows of a table."""
        return name in self._tables and bool(self._tables[name].written)

    def layout(self, name: _Name, columns: tuple[str, ...], lines: Sequence[bytes], session: int) -> Layout:
        """The present rows in the order in which the schedule had stored them, with room for those of a session.

        Rows that the schedule did not have come last.
        """
        if not self.concerns(name) or self._tables[name].columns != columns:
            return range(len(lines))
        table = self._tables[name]
        places: dict[_Known, list[Place]] = defaultdict(list)
        written = sorted(table.written, reverse=True)
        for (place, _), known in zip(written, self._known(name, columns, [line for _, line in written]), strict=True):
            places[known].append(place)
        # Rows of the setup hold nothing that was made up.
        of_setup = {line: [*found] for line, found in table.of_setup.items()}
        stored: dict[Place, int | bytes] = {}
        others: list[int] = []
        for number, line in enumerate(lines):
            if of_setup.get(line):
                stored[of_setup[line].pop()] = number
            else:
                others.append(number)
        unknown: list[int] = []
        for number, known in zip(others, self._known(name, columns, [lines[one] for one in others]), strict=True):
            if places[known] and places[known][-1] not in stored:
                stored[places[known].pop()] = number
            else:
                unknown.append(number)
        last = max(stored, default=(0, 0))
        for (place, line), writer in table.written.items():
            if writer == session and place < last:
                stored.setdefault(place, line)
        return [*(stored[place] for place in sorted(stored)), *unknown]

    def _known(self, name: _Name, columns: tuple[str, ...], lines: Sequence[bytes]) -> list[_Known]:
        return [self._without_labels(name, columns, row) for row in rows_of(columns, lines)]

    def _without_labels(self, name: _Name, columns: tuple[str, ...], row: Row) -> _Known:
        terms = (self._labels.term((*name, column), text) for column, text in zip(columns, row, strict=True))
        return tuple(shown(term, "\0") for term in terms)
