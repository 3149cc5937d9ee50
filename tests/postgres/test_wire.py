"""The wire protocol: a reply is whole when it is, however it arrives; what is recognized is what it was."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from racebench.postgres import wire


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def row(*fields: bytes | None) -> bytes:
    parts = [struct.pack("!i", -1) if f is None else struct.pack("!i", len(f)) + f for f in fields]
    return message(b"D", struct.pack("!h", len(fields)) + b"".join(parts))


BOUND, READY = message(b"2", b""), message(b"Z", b"T")
SELECTED = BOUND + row(b"42") + message(b"C", b"SELECT 1\0") + READY
FIELDS = b"SERROR\0VERROR\0C23505\0Mduplicate key\0\0"
NOTICE = message(b"N", b"SWARNING\0VWARNING\0C01000\0Mcareful\0\0")


@given(st.lists(st.integers(1, len(SELECTED)), max_size=6))
def test_a_reply_is_whole_when_its_last_byte_is_here_and_not_before(cuts: list[int]) -> None:
    assembler = wire.Assembler()
    edges = [0, *sorted(set(cuts) - {len(SELECTED)}), len(SELECTED)]
    pieces = [SELECTED[low:high] for low, high in pairwise(edges)]
    assert [assembler.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert assembler.take() == SELECTED
    assert not assembler.feed(SELECTED[:3])


def test_a_message_cut_off_after_ready_is_waited_for() -> None:
    assembler = wire.Assembler()
    assert not assembler.feed(SELECTED + NOTICE[:-1])
    assert assembler.feed(NOTICE[-1:])


def test_a_reply_is_taken_apart_statement_by_statement() -> None:
    two = BOUND + message(b"C", b"BEGIN\0") + BOUND + row(b"1", None) + row(b"2", b"") + message(b"C", b"SELECT 2\0")
    reply = wire.parse(two + READY)
    assert [(r.tag, r.rows, r.last) for r in reply.results] == [(b"BEGIN", 0, ()), (b"SELECT 2", 2, (b"2", b""))]
    assert (reply.status, reply.plain, reply.sqlstate) == (b"T", True, "")
    begin, end = reply.results[1].place
    assert (two + READY)[begin:end] == row(b"2", b"")


def test_an_error_has_its_sqlstate_and_a_fatal_one_ends_the_connection() -> None:
    refused = wire.parse(message(b"E", FIELDS) + message(b"Z", b"E"))
    assert (refused.sqlstate, refused.message, refused.status) == ("23505", "duplicate key", b"E")
    lost = wire.parse(message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0"))
    assert (lost.sqlstate, lost.status) == ("57P01", b"")


def test_an_answer_followed_by_the_end_of_the_connection_counts() -> None:
    reply = wire.parse(SELECTED + message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0"))
    assert (reply.sqlstate, reply.status, reply.plain) == ("", b"T", False)


def test_a_notice_makes_a_reply_one_that_is_not_remembered() -> None:
    assert not wire.parse(NOTICE + SELECTED).plain


def test_a_remembered_reply_matches_only_replies_of_its_shape() -> None:
    shape = wire.Shape()
    reply = wire.parse(SELECTED)
    shape.learn(SELECTED, reply.results[0].place)

    def value(data: bytes) -> bytes | None:
        size = len(data) - shape.fixed
        known = size >= 0 and data.endswith(shape.after) and data.startswith(shape[size])
        return data[shape.at : shape.at + size] if known else None

    def selected(*fields: bytes | None, tag: bytes = b"SELECT 1", status: bytes = b"T") -> bytes:
        return BOUND + row(*fields) + message(b"C", tag + b"\0") + message(b"Z", status)

    assert [value(selected(v)) for v in (b"42", b"7", b"", b"x" * 300)] == [b"42", b"7", b"", b"x" * 300]
    others = [selected(None), selected(b"4", b"2"), selected(b"42", status=b"I"), selected(b"42", tag=b"SELECT 2")]
    others += [NOTICE + SELECTED, BOUND + message(b"C", b"SELECT 0\0") + READY, message(b"E", FIELDS) + READY, b""]
    assert [value(data) for data in others] == [None] * len(others)


@given(st.lists(st.one_of(st.none(), st.binary(max_size=40)), max_size=4), st.binary(max_size=8))
def test_a_bind_message_has_every_value_at_its_length(values: list[bytes | None], name: bytes) -> None:
    name = name.replace(b"\0", b"")
    lengths = tuple(value and len(value) for value in values)
    data = wire.Message(((name, len(values)),))[lengths] % tuple(value or b"" for value in values)
    kind, length = struct.unpack_from("!ci", data)
    assert kind == b"B"
    at = 5
    assert data[at : at + len(name) + 2] == b"\0" + name + b"\0"
    at += len(name) + 2
    formats, count = struct.unpack_from("!hh", data, at)
    assert (formats, count) == (0, len(values))
    at += 4
    for value in values:
        (size,) = struct.unpack_from("!i", data, at)
        at += 4
        assert (None if size < 0 else data[at : at + size]) == value
        at += max(size, 0)
    assert data[at : at + 2] == b"\0\0"
    assert at + 2 == 1 + length
    assert data[at + 2 :] == b"E\0\0\0\x09\0\0\0\0\0" + b"S\0\0\0\4"
