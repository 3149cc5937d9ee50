"""Which statements wait for their turn, and which pass with the step before them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from racebench.core.target import Target
from racebench.exploration.sessions.connections import Connections
from racebench.exploration.wire.policy import Policy
from racebench.exploration.wire.stream import Piece, Stream
from racebench.postgres.connection import connect
from racebench.postgres.proxy import messages
from racebench.postgres.proxy.messages import Message

SCHEMA = "racebench_policy"


@pytest.fixture(scope="module")
def monitor(embedded: Target) -> Iterator[psycopg.Connection[Any]]:
    with connect(embedded, schema=SCHEMA) as connection:
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
        connection.execute("CREATE TABLE orders (n int)")
        connection.execute("CREATE SEQUENCE numbers")
        yield connection
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


def held(policy: Policy, *texts: str, snapshot: bool = False) -> bool:
    """Whether the last of some queries of a connection is held, the transaction block of the first ones open."""
    pieces: list[Piece] = []

    def holds(piece: Piece) -> bool:
        pieces.append(piece)
        return policy.holds(piece)

    stream = Stream(lambda _: None, lambda _: None, holds)
    stream.snapshots = snapshot
    for text in texts:
        stream.from_client([Message(b"Q", messages.query(text.encode()))])
        if text is not texts[-1]:
            tag = messages.command_complete(text.split()[0].encode())
            stream.from_server([Message(b"C", tag), Message(b"Z", messages.ready_for_query(b"T"))])
    return stream.piece is not None


@pytest.fixture
def policy(monitor: psycopg.Connection[Any]) -> Policy:
    return Policy(monitor, Connections(monitor, SCHEMA, "the server", frozenset()))


def test_what_looks_about_passes_and_what_others_may_see_or_make_waits(policy: Policy) -> None:
    passes = ["SELECT 1", "SET x.y = 1", "SHOW ALL", "SELECT count(*) FROM pg_catalog.pg_class", "BEGIN", "COMMIT", ""]
    passes += ["SELECT set_config('x.y', '1', false)", "DISCARD ALL", "SELECT pg_advisory_unlock_all()"]
    passes += ["SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;"]
    waits = ["SELECT n FROM orders", "SELECT nextval('numbers')", "INSERT INTO orders VALUES (1)", "NOTIFY c"]
    waits += ["SELECT pg_notify('c', '')", "SELECT set_config('x.y', (SELECT max(n) FROM orders)::text, false)"]
    waits += ["BEGIN; INSERT INTO orders VALUES (1); COMMIT", "SELECT pg_advisory_lock(1)"]
    assert [text for text in passes if held(policy, text)] == []
    assert [text for text in waits if not held(policy, text)] == []
    # A lock that a session keeps may be held from here on.
    assert held(policy, "DISCARD ALL")
    assert held(policy, "SELECT pg_advisory_unlock_all()")


def test_even_a_select_of_a_constant_waits_where_it_takes_the_snapshot_of_a_transaction(policy: Policy) -> None:
    assert held(policy, "BEGIN", "SELECT 1", snapshot=True)
    assert held(policy, "BEGIN", "SELECT set_config('x.y', '1', true)", snapshot=True)
    assert not held(policy, "BEGIN", "SET x.y = 1", snapshot=True)
    assert not held(policy, "SELECT 1", snapshot=True)  # its transaction ends with it
    assert not held(policy, "BEGIN", "SELECT 1")


def test_begin_waits_where_its_time_is_seen(policy: Policy) -> None:
    policy.begin_is_seen = True
    assert held(policy, "BEGIN")
