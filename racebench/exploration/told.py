"""What the server answers to the statements of a session: whole, to be compared, and short, to be shown."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from psycopg import pq

#: The values of a row as texts, None for NULL.
_Row = tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An answer: the rows as texts, None for NULL, and the command tag. `statement` is the text without its values."""

    statement: str
    columns: tuple[str, ...]
    rows: tuple[_Row, ...]
    tag: str


class Answers:
    """The answers to a session's statements in a schedule, those of a transaction once it is over and was not undone.

    `kept`: these. `wanted`: they are compared; a session adds none otherwise.
    """

    def __init__(self, *, wanted: bool = False) -> None:
        self.wanted = wanted
        self.kept: list[Told] = []
        self._open: dict[Hashable, list[Told]] = {}

    def begin(self) -> None:
        """Another schedule begins."""
        self.kept, self._open = [], {}

    def add(self, answer: Told, connection: Hashable = None) -> None:
        """Add an answer of the transaction that is open on a connection."""
        self._open.setdefault(connection, []).append(answer)

    def settle(self, connection: Hashable = None, *, undone: bool) -> None:
        """Keep the answers of a transaction that is over, unless it was undone."""
        answers = self._open.pop(connection, [])
        self.kept += [] if undone else answers


def columns_of(result: pq.abc.PGresult) -> tuple[str, ...]:
    """The names of a result's columns."""
    return tuple((result.fname(column) or b"").decode() for column in range(result.nfields))


def rows_of(result: pq.abc.PGresult) -> tuple[_Row, ...]:
    """The rows of a result."""
    columns = range(result.nfields)
    return tuple(texts([result.get_value(row, column) for column in columns]) for row in range(result.ntuples))


def texts(values: Sequence[bytes | None]) -> _Row:
    """The values of a row as texts."""
    return tuple(None if value is None else value.decode(errors="replace") for value in values)


def shown(columns: Sequence[str], last: _Row, rows: int) -> str:
    """An answer in short: the last of its rows, and how many there are."""
    values = ("NULL" if value is None else value for value in last)
    pairs = ", ".join(f"{name} = {value}" for name, value in zip(columns, values, strict=False))
    return pairs + (f" ({rows} rows)" if rows > 1 else "")
