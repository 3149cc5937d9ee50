"""What an application sends by itself: known by its text, and named if a session would have waited with it."""

from __future__ import annotations

from racebench.exploration.wire.background import Background, is_frame
from racebench.exploration.wire.stream import Kind, Piece, Stream

NAMED = ["the application sends 'SELECT 1' by itself: it passed, and is no step"]


def piece(text: str, kind: Kind = Kind.QUERY) -> Piece:
    stream = Stream(lambda _: None, lambda _: None, lambda _: False)
    return Piece(stream=stream, kind=kind, text=text)


def test_a_statement_is_named_also_if_its_parse_comes_first() -> None:
    background = Background()
    background.add(piece("SELECT  1"), waits=True)
    assert piece("SELECT  1") in background
    background.has_started()
    assert not background.notes
    background.add(piece("SELECT  1", Kind.PARSE), waits=False)
    assert not background.notes
    for _ in range(2):
        background.add(piece("SELECT  1"), waits=True)
    assert background.notes == NAMED


def test_an_operation_gets_what_the_application_sent_only_while_it_started() -> None:
    background = Background()
    background.add(piece("SELECT 1"), waits=True)
    background.has_started()
    assert background.give_up(piece("SELECT 1"))
    assert piece("SELECT 1") not in background


def test_an_operation_does_not_get_what_was_sent_after_the_start_too() -> None:
    background = Background()
    background.add(piece("SELECT 1"), waits=True)
    background.has_started()
    background.add(piece("SELECT 1"), waits=True)
    assert not background.give_up(piece("SELECT 1"))
    assert piece("SELECT 1") in background


def test_what_begins_or_ends_a_transaction_says_nothing() -> None:
    assert all(is_frame(piece(text)) for text in ("BEGIN", "COMMIT", "ROLLBACK"))
    assert not any(is_frame(piece(text)) for text in ("SELECT 1", "BEGIN; SELECT 1", ""))
