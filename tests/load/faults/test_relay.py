"""One connection's messages with faults: what reaches the server, what reaches the client, and when."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest

from racebench.core.injection import parse_all
from racebench.load.faults.relay import NEVER, Draws, Relay
from racebench.postgres.proxy.messages import (
    SYNC,
    Message,
    bind,
    build,
    command_complete,
    execute,
    query,
    ready_for_query,
)

INSERT = query(b"INSERT INTO t VALUES (1)")
ROW = build(b"D", b"\0\1\0\0\0\1x")
DONE = command_complete(b"INSERT 0 1")
MS = 1_000_000


class FakeLink:
    """A link whose sides are lists."""

    def __init__(self) -> None:
        self.client: list[bytes] = []
        self.server: list[bytes] = []
        self.to_client = self.to_server = b""
        self.client_closed = self.server_closed = self.closed = False

    def client_messages(self) -> list[Message]:
        taken, self.client = self.client, []
        return [Message(raw[:1], raw) for raw in taken]

    def server_messages(self) -> list[Message]:
        taken, self.server = self.server, []
        return [Message(raw[:1], raw) for raw in taken]

    def send_client(self, raw: bytes) -> None:
        self.to_client += raw

    def send_server(self, raw: bytes) -> None:
        self.to_server += raw

    def close(self) -> None:
        self.closed = True


class Connection:
    """A relay with faults over a link whose sides are lists."""

    def __init__(self, *faults: str, seed: str = "1") -> None:
        self.link, self.counts = FakeLink(), Counter[str]()
        self.relay = Relay(cast(Any, self.link), Draws(parse_all(faults), seed, self.counts))

    def client(self, *messages: bytes, now_ns: int = 0, armed: bool = True) -> None:
        self.link.client += messages
        self.relay.pass_on(now_ns, armed=armed)

    def server(self, *messages: bytes, armed: bool = True) -> None:
        self.link.server += messages
        self.relay.pass_on(0, armed=armed)


def test_a_commit_whose_answer_is_lost_has_reached_the_server() -> None:
    cut = Connection("cut-after-commit:100%")
    cut.client(INSERT)
    assert cut.link.to_server == INSERT
    cut.server(ROW, DONE)
    assert (cut.link.to_client, cut.link.closed) == (ROW, False)
    cut.server(ready_for_query(b"I"))
    assert (cut.link.to_client, cut.link.closed, cut.relay.ended) == (ROW, True, True)
    assert cut.counts == {"cut-after-commit:100%": 1}


def test_a_commit_that_is_cut_before_does_not_reach_the_server() -> None:
    cut = Connection("cut-before-commit:100%")
    begin = query(b"BEGIN")
    cut.client(begin)
    cut.server(command_complete(b"BEGIN"), ready_for_query(b"T"))
    cut.client(INSERT)
    cut.server(DONE, ready_for_query(b"T"))
    assert not cut.link.closed
    cut.client(query(b"COMMIT"))
    assert (cut.link.to_server, cut.link.closed) == (begin + INSERT, True)


def test_without_its_sync_a_statement_of_the_extended_protocol_is_not_committed() -> None:
    cut = Connection("cut-before-commit:100%")
    parts = bind(b"", b"", ()) + execute()
    cut.relay._transactions._prepared[b""] = b"INSERT INTO t VALUES (1)"
    cut.client(bind(b"", b"", ()), execute(), SYNC)
    assert (cut.link.to_server, cut.link.closed) == (parts, True)


def test_a_cut_is_before_a_statement_while_the_server_works_or_behind_its_answer() -> None:
    seen = set()
    for seed in range(30):
        cut = Connection("cut:100%", seed=str(seed))
        cut.client(INSERT)
        if cut.link.closed:
            seen.add("while the server works" if cut.link.to_server else "before")
            continue
        cut.server(ROW)
        assert not cut.link.closed
        cut.server(DONE, ready_for_query(b"I"))
        assert (cut.link.to_server, cut.link.to_client, cut.link.closed) == (INSERT, b"", True)
        seen.add("behind its answer")
    assert len(seen) == 3


def test_a_stalled_statement_arrives_later_and_what_follows_stays_behind_it() -> None:
    slow = Connection("stall:20ms:100%")
    slow.client(INSERT, now_ns=0)
    assert (slow.link.to_server, slow.relay.due_ns) == (b"", 20 * MS)
    slow.client(SYNC, now_ns=5 * MS)
    slow.relay.pass_on(19 * MS, armed=True)
    assert slow.link.to_server == b""
    slow.relay.pass_on(20 * MS, armed=True)
    assert (slow.link.to_server, slow.relay.due_ns) == (INSERT + SYNC, NEVER)


def test_a_latency_is_within_its_spread_and_keeps_the_order() -> None:
    slow = Connection("latency:5ms±2ms")
    dues = []
    for number in range(50):
        slow.client(INSERT, now_ns=number * 100 * MS)
        dues.append(slow.relay.due_ns - number * 100 * MS)
        slow.relay.pass_on(slow.relay.due_ns, armed=True)
    assert 3 * MS <= min(dues) < max(dues) <= 7 * MS
    assert slow.link.to_server == INSERT * 50
    assert slow.counts == {"latency:5ms±2ms": 50}


@pytest.mark.parametrize("fault", ["cut:100%", "cut-after-commit:100%", "cut-before-commit:100%", "stall:1s:100%"])
def test_before_the_common_start_nothing_is_injected(fault: str) -> None:
    early = Connection(fault)
    early.client(INSERT, armed=False)
    early.server(DONE, ready_for_query(b"I"), armed=False)
    assert (early.link.to_server, early.link.to_client) == (INSERT, DONE + ready_for_query(b"I"))
    assert not early.counts


def test_a_side_that_closes_ends_the_other_and_what_is_held_back_goes_first() -> None:
    slow = Connection("stall:1s:100%")
    slow.client(INSERT)
    slow.link.client_closed = True
    slow.relay.pass_on(0, armed=True)
    assert (slow.link.to_server, slow.link.closed, slow.relay.ended) == (INSERT, True, True)


def test_the_same_seed_draws_the_same_and_one_fault_does_not_change_another() -> None:
    def met(*faults: str) -> list[int]:
        draws = Draws(parse_all(faults), "7", Counter())
        stalls = []
        for _ in range(200):
            draws.latency_ns()
            stalls.append(draws.stall_ns())
        return stalls

    alone = met("stall:1ms:10%")
    assert 5 < sum(map(bool, alone)) < 40
    assert met("stall:1ms:10%", "latency:1ms", "cut:50%") == alone
