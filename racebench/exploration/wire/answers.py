"""Values as they travel on the wire, as text: those of parameters, and those of rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import pq

from racebench.core.plain_text import shortened
from racebench.exploration.told import Told, shown
from racebench.exploration.wire.stream import Piece
from racebench.postgres.proxy import messages

_LONGEST = 60
#: A quoted text or name, or a parameter.
_PARAMETER = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\d+)""")
#: Types whose values stand in SQL without quotes: int8, int2, int4, oid, float4, float8, numeric.
_NUMBERS = frozenset({20, 21, 23, 26, 700, 701, 1700})
_A_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@lru_cache(maxsize=256)
def _loader(oid: int) -> Any:
    return psycopg.adapters.get_loader(oid, pq.Format.BINARY)


def text_of(value: bytes | None, *, binary: bool, oid: int) -> str | None:
    """A value as text; None for NULL. One that is binary and of a type that is not known is shown as its bytes."""
    if value is None:
        return None
    if not binary:
        return value.decode(errors="replace")
    kind = _loader(oid) if oid else None
    if kind is not None:
        try:
            loaded = kind(oid, None).load(value)
        except (ValueError, psycopg.Error):
            loaded = None
        if loaded is not None:
            return str(loaded).lower() if isinstance(loaded, bool) else str(loaded)
    return "\\x" + value.hex()


def parameters(piece: Piece) -> tuple[str | None, ...]:
    """The values of a piece's parameters, as texts."""
    bind, prepared = piece.bind, piece.prepared
    if bind is None:
        return ()
    types = (*(prepared.types if prepared is not None else ()), *[0] * len(bind.values))
    return tuple(
        text_of(value, binary=bool(_format(bind.formats, place)), oid=types[place])
        for place, value in enumerate(bind.values)
    )


def _format(formats: Sequence[int], place: int) -> int:
    """The format of a value: none given is text, one is for all. The server refuses another number of them."""
    if len(formats) == 1:
        return formats[0]
    return formats[place] if place < len(formats) else 0


def literal(piece: Piece) -> str:
    """The SQL of a piece with the values of its parameters in it."""
    values = parameters(piece)
    types = piece.prepared.types if piece.prepared is not None else ()

    def put(match: re.Match[str]) -> str:
        if match[1] is None or not 0 < int(match[1]) <= len(values):
            return match[0]
        place = int(match[1]) - 1
        value = values[place]
        if value is None:
            return "NULL"
        plain = place < len(types) and types[place] in _NUMBERS and _A_NUMBER.fullmatch(value)
        return value if plain else "'" + value.replace("'", "''") + "'"

    return _PARAMETER.sub(put, piece.text)


def short_parameters(piece: Piece) -> tuple[str, ...]:
    """The values of a piece's parameters, as short texts."""
    return tuple("NULL" if value is None else shortened(value, _LONGEST) for value in parameters(piece))


def _columns(piece: Piece) -> Sequence[messages.Column]:
    return piece.columns or (piece.prepared.columns if piece.prepared is not None else ())


def _row(piece: Piece, row: messages.Values) -> tuple[str | None, ...]:
    columns = _columns(piece)
    formats = piece.bind.result_formats if piece.bind is not None else ()
    return tuple(
        text_of(
            value,
            # A description of a statement does not know the formats: those are asked for when it is bound.
            binary=bool(_format(formats, place)),
            oid=columns[place].type if place < len(columns) else 0,
        )
        for place, value in enumerate(row)
    )


def _names(piece: Piece) -> tuple[str, ...]:
    columns = _columns(piece)
    if columns:
        return tuple(column.name.decode(errors="replace") for column in columns)
    return tuple(f"column {place}" for place in range(1, len(piece.last) + 1))


def summary(piece: Piece) -> str:
    """What the server answered, in short."""
    if piece.sqlstate:
        return f"ERROR {piece.sqlstate}: {piece.message}"
    if piece.count:
        return shown(_names(piece), _row(piece, piece.last), piece.count)
    return piece.tag or "…"


def told(piece: Piece, text: str) -> Told:
    """What the server answered, whole; `text`: the statement without its values."""
    return Told(
        statement=text,
        columns=_names(piece) if piece.count else (),
        rows=tuple(_row(piece, row) for row in piece.rows),
        tag=piece.tag,
    )
