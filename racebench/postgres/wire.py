"""PostgreSQL's wire protocol, version 3, as far as running a script needs it: messages out as bytes, replies in.

Knows no socket and no script: transport.py sends and receives, the compiler says what belongs together. Replies that
are the same as last time are recognized by comparing bytes; only others are taken apart.
Source: PostgreSQL's documentation, "Frontend/Backend Protocol", "Message Formats".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

_LENGTH = struct.Struct("!i").pack
_COUNT = struct.Struct("!h").pack
_HEADER = struct.Struct("!ci")
_HEADER_SIZE = 5
_SYNC = b"S\x00\x00\x00\x04"
_EXECUTE = b"E\x00\x00\x00\x09\x00\x00\x00\x00\x00"  # the unnamed portal, all rows
_NULL = _LENGTH(-1)
_SEVERITIES_THAT_END = frozenset({b"FATAL", b"PANIC"})

Values = tuple[bytes | None, ...]


def query(sql: bytes) -> bytes:
    """A simple query; it needs no Sync."""
    return b"Q" + _LENGTH(len(sql) + 5) + sql + b"\x00"


def bind_head(name: bytes, count: int) -> bytes:
    """What stands in a Bind message before its `count` values: no portal's name, the statement's, no formats (text)."""
    return b"\x00" + name + b"\x00\x00\x00" + _COUNT(count)


class Message(dict[tuple[object, ...], bytes]):
    """The message of an exchange, as %-templates by the lengths of its values; a missing template is made.

    `parts` are (prepared statement's name, number of values); the key has a length for each value, or None for NULL.
    One Sync ends it, so that all of it is one round trip.
    """

    def __init__(self, parts: tuple[tuple[bytes, int], ...]) -> None:
        super().__init__()
        self._parts = parts

    def __missing__(self, lengths: tuple[object, ...]) -> bytes:
        # `b"" and len(b"")` is b"" itself: an empty value has length 0.
        sizes = [None if length is None else int(length or 0) for length in lengths]  # type: ignore[call-overload]
        whole = b""
        for name, count in self._parts:
            mine, sizes = sizes[:count], sizes[count:]
            head = bind_head(name, count)  # behind the values: no result formats (all text)
            values = b"".join(_NULL + b"%b" if size is None else _escape(_LENGTH(size)) + b"%b" for size in mine)
            length = 4 + len(head) + sum(4 + (size or 0) for size in mine) + 2
            whole += b"B" + _escape(_LENGTH(length)) + _escape(head) + values + b"\x00\x00" + _EXECUTE
        self[lengths] = message = whole + _SYNC
        return message


def _escape(raw: bytes) -> bytes:
    return raw.replace(b"%", b"%%")


@dataclass(slots=True)
class Result:
    """What one statement returned: its command tag, how many rows, and the last of them; `all`: if they are wanted.

    `place`: where in the reply the last row begins and ends.
    """

    tag: bytes = b""
    rows: int = 0
    last: Values = ()
    place: tuple[int, int] = (0, 0)
    all: list[Values] = field(default_factory=list)


@dataclass(slots=True)
class Reply:
    """The whole answer to an exchange. `status`: b"I" idle, b"T" in a transaction, b"E" in a failed one, b"" if lost.

    `plain`: nothing but the answer was in it (no notice, no changed setting).
    """

    results: list[Result] = field(default_factory=list)
    status: bytes = b""
    sqlstate: str = ""
    message: str = ""
    fatal: bool = False
    plain: bool = True


class Assembler:
    """Collects what arrives until a reply is whole: ReadyForQuery, and no message cut off after it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._at = 0
        self._ready = False

    def feed(self, more: bytes) -> bool:
        """Take bytes as they arrive; True once the reply is whole."""
        self.data += more
        data, at = self.data, self._at
        while at + _HEADER_SIZE <= len(data):
            kind, length = _HEADER.unpack_from(data, at)
            if at + 1 + length > len(data):
                break
            self._ready = self._ready or kind == b"Z"
            at += 1 + length
        self._at = at
        return self._ready and at == len(data)

    def take(self) -> bytes:
        """The reply; the assembler is empty afterwards."""
        data = bytes(self.data)
        self.data, self._at, self._ready = bytearray(), 0, False
        return data


def parse(data: bytes, *, every_row: bool = False) -> Reply:
    """Take a reply apart; one that is cut short (the connection was lost) has what arrived whole, and no status.

    `every_row`: keep all rows, not only the last.
    """
    reply = Reply()
    result = Result()
    at = 0
    while at + _HEADER_SIZE <= len(data):
        kind, length = _HEADER.unpack_from(data, at)
        body, end = at + _HEADER_SIZE, at + 1 + length
        if end > len(data):
            break
        if kind == b"D":
            result.rows += 1
            result.last = _fields(data, body)
            if every_row:
                result.all.append(result.last)
            result.place = at, end
        elif kind in b"CI":  # CommandComplete, EmptyQueryResponse
            result.tag = data[body : end - 1]
            reply.results.append(result)
            result = Result()
        elif kind == b"Z":
            reply.status = data[body:end]
        elif kind == b"E" and reply.status:
            reply.plain = False  # the server ends the session; the answer before it stands
        elif kind == b"E":
            parts = {part[:1]: part[1:] for part in data[body:end].split(b"\x00") if part}
            reply.sqlstate = parts.get(b"C", b"").decode()
            reply.message = parts.get(b"M", b"").decode(errors="replace")
            reply.fatal = parts.get(b"V", parts.get(b"S", b"")) in _SEVERITIES_THAT_END
        elif kind not in b"12Tn":  # ParseComplete, BindComplete, RowDescription, NoData
            reply.plain = False
        at = end
    return reply


def _fields(data: bytes, at: int) -> Values:
    (count,) = struct.unpack_from("!h", data, at)
    at += 2
    fields: list[bytes | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", data, at)
        at += 4
        fields.append(None if length < 0 else data[at : at + length])
        at += max(length, 0)
    return tuple(fields)


class Shape(dict[int, bytes]):
    """A reply with a row of one column that is stored, as it was last time: recognized by what stands around the value.

    As a mapping: what must stand before a value of a length; a missing one is made. A reply of that shape is `fixed`
    bytes longer than its value, which begins `at`, and ends with `after`.
    """

    __slots__ = ("_before", "after", "at", "fixed")

    def __init__(self) -> None:
        super().__init__()
        self._before = self.after = b""
        self.at, self.fixed = 0, 1 << 62

    def learn(self, data: bytes, row: tuple[int, int]) -> None:
        """Remember a reply; the DataRow that is stored, of one column, is at `row`."""
        self.clear()
        self._before, self.after = data[: row[0]], data[row[1] :]
        self.at = len(self._before) + 11  # D, length, one field, its length
        self.fixed = self.at + len(self.after)

    def __missing__(self, size: int) -> bytes:
        self[size] = before = self._before + b"D" + _LENGTH(10 + size) + _COUNT(1) + _LENGTH(size)
        return before
