"""Rows of tables as COPY writes them, and what has changed between two states of a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

#: A row: the text of each of its values, None for NULL.
Row = tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChange:
    """The rows that a table has more, and those that it has no more, since a snapshot; an updated row is in both.

    `table`: its schema and name. The columns that are generated from others are left out.
    """

    table: tuple[str, str]
    columns: tuple[str, ...]
    added: tuple[Row, ...]
    removed: tuple[Row, ...]


def change_of(key: tuple[str, str], columns: tuple[str, ...], before: bytes, now: bytes) -> TableChange | None:
    """The change of a table's rows, in COPY's text format; None if it has the same rows as before."""
    was, has = Counter(before.splitlines()), Counter(now.splitlines())
    added, removed = has - was, was - has
    if not added and not removed:
        return None
    return TableChange(
        table=key,
        columns=columns,
        added=rows_of(columns, sorted(added.elements())),
        removed=rows_of(columns, sorted(removed.elements())),
    )


def rows_of(columns: tuple[str, ...], lines: Iterable[bytes]) -> tuple[Row, ...]:
    """Rows in COPY's text format. Escapes are left as they are: equal values have equal texts."""
    if not columns:
        return tuple(() for _ in lines)
    texts = (line.decode(errors="replace").split("\t") for line in lines)
    return tuple(tuple(None if text == "\\N" else text for text in row) for row in texts)
