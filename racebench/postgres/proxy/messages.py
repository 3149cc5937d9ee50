"""PostgreSQL's messages between a client and a server: takes a stream of bytes apart, reads a message, builds one.

Knows no socket. The packets before the first message (start-up, TLS, cancellation) are in startup.py; the messages that
racebench itself sends as a client are in racebench.postgres.wire. Text stays bytes, because its encoding is the
client's. Source: PostgreSQL's manual, "Message Formats".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_HEADER = struct.Struct("!ci")
_HEADER_SIZE = 5
_INT = struct.Struct("!i")
_SHORT = struct.Struct("!h")
#: How many of something follow: up to 65,535 values of a Bind.
_COUNT = struct.Struct("!H")
_PARAMETER = struct.Struct("!I")
_COLUMN = struct.Struct("!IhIhih")
_NULL = _INT.pack(-1)
_LARGE = 0x3FFFFFFF
_SMALL = 10_000

Values = tuple[bytes | None, ...]


class Malformed(ValueError):  # noqa: N818 - as the server says it
    """A message that is not what its kind has."""


class Message(NamedTuple):
    """A whole message: its kind (one byte; none for bytes that are no message) and all its bytes."""

    kind: bytes
    raw: bytes


#: The kinds of messages that a client sends, and the greatest length that the server takes (its postgres.c).
CLIENT_KINDS: Mapping[bytes, int] = {
    **dict.fromkeys((b"Q", b"P", b"B", b"F", b"d"), _LARGE),
    **dict.fromkeys((b"C", b"D", b"E", b"H", b"S", b"X", b"c", b"f"), _SMALL),
    b"p": 65_535,
}


def split(buffer: bytearray, kinds: Mapping[bytes, int] | None = None) -> list[Message]:
    """Take the complete messages off a buffer; the beginning of another stays in it.

    `kinds`: the known kinds with their greatest length. What is none of them is one Message without a kind, as is all
    that follows it: the server refuses it without waiting for its end.
    """
    messages: list[Message] = []
    size = len(buffer)
    if size < _HEADER_SIZE or (kinds is None and _INT.unpack_from(buffer, 1)[0] >= size):
        return messages
    data = bytes(buffer)
    at = 0
    unpack, append, message = _HEADER.unpack_from, messages.append, Message
    while at + _HEADER_SIZE <= size:
        kind, length = unpack(data, at)
        if length < 4 or (kinds is not None and length > kinds.get(kind, 0)):
            append(message(b"", data[at:]))
            at = size
            break
        end = at + 1 + length
        if end > size:
            break
        append(message(kind, data[at:end]))
        at = end
    if at:
        del buffer[:at]
    return messages


def build(kind: bytes, body: bytes = b"") -> bytes:
    """A message of a kind with this body."""
    return kind + _INT.pack(len(body) + 4) + body


# What a client sends.

FLUSH = build(b"H")
SYNC = build(b"S")
TERMINATE = build(b"X")


def query(sql: bytes) -> bytes:
    """A simple Query."""
    return build(b"Q", sql + b"\x00")


def parse(name: bytes, sql: bytes, types: Sequence[int] = ()) -> bytes:
    """A Parse of a statement (the unnamed one: b""), with the OIDs of its parameters' types."""
    oids = b"".join(_PARAMETER.pack(oid) for oid in types)
    return build(b"P", name + b"\x00" + sql + b"\x00" + _COUNT.pack(len(types)) + oids)


def bind(
    portal: bytes = b"",
    statement: bytes = b"",
    values: Sequence[bytes | None] = (),
    formats: Sequence[int] = (),
    result_formats: Sequence[int] = (),
) -> bytes:
    """A Bind; formats: 0 is text, 1 binary; none means all text, one means all alike."""
    parts = [portal, b"\x00", statement, b"\x00", _COUNT.pack(len(formats)), *map(_SHORT.pack, formats)]
    parts.append(_COUNT.pack(len(values)))
    for value in values:
        parts += [_NULL] if value is None else [_INT.pack(len(value)), value]
    parts += [_COUNT.pack(len(result_formats)), *map(_SHORT.pack, result_formats)]
    return build(b"B", b"".join(parts))


def describe_statement(name: bytes = b"") -> bytes:
    """A Describe of a prepared statement."""
    return build(b"D", b"S" + name + b"\x00")


def describe_portal(name: bytes = b"") -> bytes:
    """A Describe of a portal."""
    return build(b"D", b"P" + name + b"\x00")


def close_statement(name: bytes = b"") -> bytes:
    """A Close of a prepared statement."""
    return build(b"C", b"S" + name + b"\x00")


def close_portal(name: bytes = b"") -> bytes:
    """A Close of a portal."""
    return build(b"C", b"P" + name + b"\x00")


def execute(portal: bytes = b"", rows: int = 0) -> bytes:
    """An Execute of a portal; 0 rows: all of them."""
    return build(b"E", portal + b"\x00" + _INT.pack(rows))


def copy_data(data: bytes) -> bytes:
    """A part of a COPY; client and server send it alike."""
    return build(b"d", data)


COPY_DONE = build(b"c")


def copy_fail(reason: bytes) -> bytes:
    """The end of a COPY FROM STDIN that fails for this reason."""
    return build(b"f", reason + b"\x00")


class Parse(NamedTuple):
    """What a Parse asks for."""

    name: bytes
    sql: bytes
    types: tuple[int, ...]


class Bind(NamedTuple):
    """What a Bind asks for; a NULL is None."""

    portal: bytes
    statement: bytes
    formats: tuple[int, ...]
    values: Values
    result_formats: tuple[int, ...]


class Execute(NamedTuple):
    """What an Execute asks for."""

    portal: bytes
    rows: int


class Named(NamedTuple):
    """What a Describe or a Close is about: a statement (b"S") or a portal (b"P"), and its name."""

    kind: bytes
    name: bytes


def read_query(raw: bytes) -> bytes:
    """The SQL of a simple Query. Raises Malformed."""
    sql, at = _text(raw, _HEADER_SIZE)
    if at != len(raw):
        raise Malformed(raw)
    return sql


def read_parse(raw: bytes) -> Parse:
    """What a Parse asks for. Raises Malformed."""
    name, at = _text(raw, _HEADER_SIZE)
    sql, at = _text(raw, at)
    return Parse(name, sql, _unpack(f"!{_count(raw, at)}I", raw, at + 2))


def read_bind(raw: bytes) -> Bind:
    """What a Bind asks for. Raises Malformed."""
    portal, at = _text(raw, _HEADER_SIZE)
    statement, at = _text(raw, at)
    formats, at = _shorts(raw, at)
    values, at = _values(raw, at)
    result_formats, at = _shorts(raw, at)
    return Bind(portal, statement, formats, values, result_formats)


def read_execute(raw: bytes) -> Execute:
    """What an Execute asks for. Raises Malformed."""
    portal, at = _text(raw, _HEADER_SIZE)
    return Execute(portal, _unpack("!i", raw, at)[0])


def read_named(raw: bytes) -> Named:
    """What a Describe or a Close is about."""
    return Named(raw[5:6], raw[6:-1])


# What a server sends.


class ErrorFields(NamedTuple):
    """An ErrorResponse or a NoticeResponse; the severity is not translated. `fields` has all, by their letters."""

    severity: bytes
    sqlstate: str
    message: bytes
    fields: Mapping[bytes, bytes]


class Column(NamedTuple):
    """A column of a RowDescription."""

    name: bytes
    table: int
    attribute: int
    type: int
    size: int
    modifier: int
    format: int


def error_response(sqlstate: str, message: str, *, severity: str = "ERROR") -> bytes:
    """An ErrorResponse as a server sends it."""
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": message}
    return build(b"E", b"".join(f"{letter}{value}\0".encode() for letter, value in fields.items()) + b"\x00")


def ready_for_query(status: bytes = b"I") -> bytes:
    """A ReadyForQuery; b"I" idle, b"T" in a transaction, b"E" in a failed one."""
    return build(b"Z", status)


def command_complete(tag: bytes) -> bytes:
    """A CommandComplete."""
    return build(b"C", tag + b"\x00")


def read_error(raw: bytes) -> ErrorFields:
    """The fields of an ErrorResponse or a NoticeResponse."""
    fields = {part[:1]: part[1:] for part in raw[_HEADER_SIZE:].split(b"\x00") if part}
    severity = fields.get(b"V", fields.get(b"S", b""))
    return ErrorFields(severity, fields.get(b"C", b"").decode(), fields.get(b"M", b""), fields)


def read_tag(raw: bytes) -> bytes:
    """The command tag of a CommandComplete, such as b"INSERT 0 1"."""
    return raw[_HEADER_SIZE:-1]


def read_status(raw: bytes) -> bytes:
    """The transaction's status of a ReadyForQuery."""
    return raw[_HEADER_SIZE:]


def read_row(raw: bytes) -> Values:
    """The values of a DataRow; a NULL is None."""
    return _values(raw, _HEADER_SIZE)[0]


def read_columns(raw: bytes) -> list[Column]:
    """The columns of a RowDescription."""
    (count,) = _COUNT.unpack_from(raw, _HEADER_SIZE)
    at = _HEADER_SIZE + 2
    columns = []
    for _ in range(count):
        name, at = _text(raw, at)
        columns.append(Column(name, *_COLUMN.unpack_from(raw, at)))
        at += _COLUMN.size
    return columns


def read_parameter_types(raw: bytes) -> tuple[int, ...]:
    """The OIDs of a ParameterDescription."""
    (count,) = _COUNT.unpack_from(raw, _HEADER_SIZE)
    return struct.unpack_from(f"!{count}I", raw, _HEADER_SIZE + 2)


def _text(raw: bytes, at: int) -> tuple[bytes, int]:
    """The text that begins there, and where what follows it begins."""
    end = raw.find(0, at)
    if end < 0:
        raise Malformed(raw)
    return raw[at:end], end + 1


def _unpack(layout: str, raw: bytes, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, raw, at)
    except struct.error:
        raise Malformed(raw) from None


def _count(raw: bytes, at: int) -> int:
    """How many of something follow."""
    (count,) = _unpack("!H", raw, at)
    return count


def _shorts(raw: bytes, at: int) -> tuple[tuple[int, ...], int]:
    count = _count(raw, at)
    return _unpack(f"!{count}h", raw, at + 2), at + 2 + 2 * count


def _values(raw: bytes, at: int) -> tuple[Values, int]:
    count = _count(raw, at)
    at += 2
    values: list[bytes | None] = []
    unpack, size = _INT.unpack_from, len(raw)
    for _ in range(count):
        if at + 4 > size:
            raise Malformed(raw)
        (length,) = unpack(raw, at)
        at += 4
        if length < 0:
            values.append(None)
        else:
            values.append(raw[at : at + length])
            at += length
    return tuple(values), at
