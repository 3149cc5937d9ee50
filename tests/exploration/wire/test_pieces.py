"""Which pieces wait at the gate, and which of them have a commit of their own. No server is needed."""

from __future__ import annotations

from typing import Any

import pytest

from racebench.exploration.wire.policy import Policy
from racebench.exploration.wire.stream import Stream
from racebench.postgres.proxy import messages
from racebench.postgres.proxy.messages import Message

UNASKED: Any = None  # the policy asks no connection about such statements


def arrived(stream: Stream, raw: bytes) -> None:
    stream.from_client([Message(raw[:1], raw)])


@pytest.mark.parametrize(
    ("sql", "waits"),
    [
        (b"SET CONSTRAINTS ALL IMMEDIATE", True),  # it runs deferred triggers, and may wait for a unique key
        (b"set constraints orders_key\nimmediate", True),
        (b"SET CONSTRAINTS ALL DEFERRED", False),
        (b"SET LOCAL lock_timeout = '1s'", False),
    ],
)
def test_a_setting_that_runs_triggers_waits_for_its_turn(sql: bytes, waits: bool) -> None:
    stream = Stream(lambda _: None, lambda _: None, Policy(UNASKED, UNASKED).holds)
    stream.touched = True
    arrived(stream, messages.query(sql))
    assert (stream.piece is not None) == waits


@pytest.mark.parametrize(
    ("sql", "divided"),
    [
        (b"INSERT INTO notes VALUES ('costs $5')", True),
        (b'INSERT INTO "$1" VALUES (1) -- $2', True),
        (b"INSERT INTO notes VALUES ($1)", False),  # the simple protocol refuses it
    ],
)
def test_a_dollar_in_a_quoted_text_is_no_parameter(sql: bytes, divided: bool) -> None:
    stream = Stream(lambda _: None, lambda _: None, lambda _: True)
    arrived(stream, messages.query(sql))
    assert stream.piece is not None
    assert stream.may_be_divided(stream.piece) == divided
