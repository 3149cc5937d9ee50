"""What a connection's messages say of its transactions: which message commits, and which answer says so."""

from __future__ import annotations

import pytest

from racebench.load.faults.transactions import Role, Transactions
from racebench.postgres.proxy.messages import (
    SYNC,
    Message,
    bind,
    command_complete,
    error_response,
    execute,
    parse,
    query,
    ready_for_query,
)


#: The messages of one statement in the extended protocol, without the Sync.
def _extended(sql: bytes) -> list[bytes]:
    return [parse(b"s", sql), bind(b"", b"s", ()), execute()]


def _message(raw: bytes) -> Message:
    return Message(raw[:1], raw)


def _roles(transactions: Transactions, *messages: bytes) -> list[Role]:
    return [role for raw in messages if (role := transactions.sent(_message(raw))) is not Role.OTHER]


def _answer(transactions: Transactions, *messages: bytes) -> list[bool]:
    return [transactions.answered(_message(raw)) for raw in messages]


BEGIN, INSERT, COMMIT = b"BEGIN", b"INSERT INTO t VALUES (1)", b"/* done */ commit"
DONE = {BEGIN: b"BEGIN", INSERT: b"INSERT 0 1", COMMIT: b"COMMIT"}


def test_a_commit_of_simple_queries_is_the_commit_alone_and_its_tag_says_so() -> None:
    transactions = Transactions()
    for sql, status, role in (
        (BEGIN, b"T", Role.STATEMENT),
        (INSERT, b"T", Role.STATEMENT),
        (COMMIT, b"I", Role.COMMIT),
    ):
        assert _roles(transactions, query(sql)) == [role]
        said = _answer(transactions, command_complete(DONE[sql]), ready_for_query(status))
        assert said == [role is Role.COMMIT, False]


def test_a_statement_outside_a_transaction_is_a_commit_which_its_end_says() -> None:
    transactions = Transactions()
    assert _roles(transactions, query(INSERT)) == [Role.COMMIT]
    assert _answer(transactions, command_complete(DONE[INSERT])) == [False]
    assert transactions.commit_is_near
    assert _answer(transactions, ready_for_query(b"I")) == [True]


def test_in_the_extended_protocol_the_sync_commits_what_no_transaction_is_around() -> None:
    transactions = Transactions()
    assert _roles(transactions, *_extended(INSERT)) == [Role.STATEMENT]
    assert _answer(transactions, command_complete(DONE[INSERT])) == [False]
    assert not transactions.commit_is_near, "the client may wait for this before it sends its Sync"
    assert _roles(transactions, SYNC) == [Role.SYNC_COMMIT]
    assert _answer(transactions, ready_for_query(b"I")) == [True]


def test_a_pipeline_with_a_transaction_commits_at_its_commit() -> None:
    transactions = Transactions()
    messages = [raw for sql in (BEGIN, INSERT, COMMIT) for raw in _extended(sql)]
    assert _roles(transactions, *messages, SYNC) == [Role.STATEMENT, Role.STATEMENT, Role.COMMIT]
    tags = [command_complete(DONE[sql]) for sql in (BEGIN, INSERT, COMMIT)]
    assert _answer(transactions, *tags, ready_for_query(b"I")) == [False, False, True, False]


@pytest.mark.parametrize(
    "sql", [b"SET a = 1", b"SHOW a", b"EXPLAIN EXECUTE x", b"BEGIN", b"DEALLOCATE ALL", b"ROLLBACK", b"COMMIT", b""]
)
def test_what_leaves_nothing_behind_is_no_commit(sql: bytes) -> None:
    assert _roles(Transactions(), query(sql)) == [Role.STATEMENT]


def test_several_statements_in_a_query_commit_if_one_of_them_does() -> None:
    transactions = Transactions()
    assert _roles(transactions, query(b"BEGIN; INSERT INTO t VALUES (1); COMMIT")) == [Role.COMMIT]
    said = _answer(transactions, *map(command_complete, DONE.values()), ready_for_query(b"I"))
    assert said == [False, False, True, False]
    assert _roles(transactions, query(b"BEGIN; INSERT INTO t VALUES (1)")) == [Role.STATEMENT]


def test_a_refused_statement_and_a_rollback_commit_nothing() -> None:
    transactions = Transactions()
    assert _roles(transactions, query(INSERT)) == [Role.COMMIT]
    assert _answer(transactions, error_response("23505", "no"), ready_for_query(b"I")) == [False, False]
    assert _roles(transactions, query(BEGIN)) == [Role.STATEMENT]
    assert _answer(transactions, command_complete(b"BEGIN"), ready_for_query(b"T")) == [False, False]
    assert _roles(transactions, query(b"ROLLBACK TO SAVEPOINT a")) == [Role.STATEMENT]
    assert _answer(transactions, command_complete(b"ROLLBACK"), ready_for_query(b"T")) == [False, False]
    assert _roles(transactions, query(INSERT)) == [Role.STATEMENT]
    assert _answer(transactions, command_complete(b"INSERT 0 1"), ready_for_query(b"T")) == [False, False]
    assert _roles(transactions, query(b"ROLLBACK")) == [Role.STATEMENT]
    assert _answer(transactions, command_complete(b"ROLLBACK"), ready_for_query(b"I")) == [False, False]


@pytest.mark.parametrize("raw", [b"", b"P\0\0\0\x05x", b"B\0\0\0\x04", b"E\0\0\0\x04", b"\x99\0\0\0\x04"])
def test_a_message_that_is_none_is_left_to_the_server(raw: bytes) -> None:
    assert Transactions().sent(Message(raw[:1], raw)) is Role.OTHER
