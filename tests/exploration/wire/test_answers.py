"""Values of the wire as text: parameters in their SQL, and rows, in both formats. No server."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from racebench.exploration.wire import answers
from racebench.exploration.wire.stream import Piece, Stream
from racebench.postgres.proxy import messages

INT4, TEXT, BOOL = 23, 25, 16


def piece(sql: str, values: Sequence[bytes | None], *, types: Sequence[int] = (), formats: Sequence[int] = ()) -> Piece:
    """The piece of a statement with parameters."""
    stream = Stream(lambda _: None, lambda _: None, lambda _: True)
    packets = messages.parse(b"", sql.encode(), types) + messages.bind(values=values, formats=formats)
    stream.from_client(messages.split(bytearray(packets + messages.execute() + messages.SYNC)))
    assert stream.piece is not None
    return stream.piece


@pytest.mark.parametrize(
    ("sql", "values", "types", "expected"),
    [
        ("SELECT $1", [b"7"], [INT4], "SELECT 7"),
        ("SELECT $1", [b"7"], [], "SELECT '7'"),  # the server decides which type it is
        ("SELECT $2, $1", [b"a", None], [TEXT, TEXT], "SELECT NULL, 'a'"),
        ("SELECT $1", [b"it's"], [TEXT], "SELECT 'it''s'"),
        ("SELECT '$1', \"$1\", $1", [b"7"], [INT4], "SELECT '$1', \"$1\", 7"),
        ("SELECT $3", [b"7"], [INT4], "SELECT $3"),  # the server refuses it
        ("SELECT $1", [b"1; DROP TABLE t"], [INT4], "SELECT '1; DROP TABLE t'"),
    ],
)
def test_the_sql_of_a_step_has_its_values_in_it(
    sql: str, values: list[bytes | None], types: list[int], expected: str
) -> None:
    assert answers.literal(piece(sql, values, types=types)) == expected


def test_binary_values_are_shown_as_what_they_are() -> None:
    sent = piece("SELECT $1, $2, $3", [b"\0\0\0\7", b"\1", b"\xff"], types=[INT4, BOOL, 0], formats=[1])
    assert answers.short_parameters(sent) == ("7", "true", "\\xff")


def test_formats_that_do_not_fit_the_values_are_the_servers_to_refuse() -> None:
    sent = piece("SELECT $1, $2, $3", [b"1", b"2", b"3"], formats=[0, 0])
    assert answers.parameters(sent) == ("1", "2", "3")


def test_the_rows_of_an_answer_are_shown_in_the_formats_that_were_asked_for() -> None:
    """asyncpg asks for binary rows, of a statement that was described before they were."""
    sent = piece("SELECT n FROM t", [])
    assert sent.bind is not None
    sent.bind = sent.bind._replace(result_formats=(1,))
    sent.columns = [messages.Column(b"n", 0, 0, INT4, 4, -1, 0)]
    sent.last, sent.count = (b"\0\0\0\5",), 2
    assert answers.summary(sent) == "n = 5 (2 rows)"
