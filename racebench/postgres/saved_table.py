"""A table of a snapshot: its rows, the statements that restore them, and the marks of changes; a sequence's value."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from racebench.postgres.storage import Storage

#: The number of a table's rows, and the last transaction that wrote one.
Mark = tuple[int, int | None]
#: The last value of a sequence, and whether it was handed out.
Value = tuple[int, bool]


@dataclass(slots=True)
class SavedTable:
    """A table as it was when the snapshot was taken.

    `key`: its schema and name. `rows`: as COPY writes them. `storage`: as the setup left it; None if it was not looked
    at.

    `reading`, `emptying`, `filling`: statements that read its rows, remove them, and take them back. They name the
    columns, so that one more column does not matter.
    """

    oid: int
    key: tuple[str, str]
    name: sql.Identifier
    columns: tuple[str, ...]
    reading: bytes
    emptying: bytes
    filling: bytes
    rows: bytes
    mark: Mark
    triggers: list[tuple[str, str]]
    storage: Storage | None
