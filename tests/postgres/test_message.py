"""Several statements in one message, with the data of COPY in both directions."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import pq, sql

from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.message import send


def test_each_statement_is_answered_and_data_is_copied_in_both_directions(embedded: Target) -> None:
    with connect(embedded) as connection:
        rows = b"".join(b"%d\n" % number for number in range(200_000))  # more than a socket takes at once
        answers = send(
            connection,
            [
                b"BEGIN",
                b"CREATE TEMP TABLE numbers (n int) ON COMMIT DROP",
                b"COPY numbers FROM STDIN -- these",
                sql.SQL("COPY numbers TO STDOUT"),
                b"SELECT count(*), NULL FROM numbers",
                b"COMMIT",
            ],
            [rows],
        )
        assert answers[3].copied == rows
        assert answers[4].rows == [("200000", None)]
        assert connection.info.transaction_status is pq.TransactionStatus.IDLE


@pytest.mark.parametrize("refused", [b"SELECT 1 / 0", b"SELECT 1; SELECT 2", b"COPY numbers FROM STDIN", b"BEGIN"])
def test_what_was_not_committed_before_a_refusal_is_rolled_back(embedded: Target, refused: bytes) -> None:
    with connect(embedded) as connection:
        connection.execute("CREATE TEMP TABLE numbers (n int); INSERT INTO numbers VALUES (1)")
        with pytest.raises(psycopg.Error):
            send(connection, [b"BEGIN", b"DELETE FROM numbers", refused, b"SELECT 'not a number'::int"], [b"x\n"])
        assert connection.info.transaction_status is pq.TransactionStatus.IDLE
        assert connection.execute("SELECT count(*) FROM numbers").fetchone() == (1,)
