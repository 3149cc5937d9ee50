"""The pieces that message orders of real drivers are cut into, what is held, and what each side is given. No server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from racebench.exploration.wire.stream import Kind, Piece, Stream
from racebench.postgres.proxy import messages
from racebench.postgres.proxy.messages import build

INSERT, SELECT, COPY = "INSERT INTO t VALUES (1)", "SELECT n FROM t", "COPY t FROM STDIN"
REFUSED = messages.error_response("23505", "there is one already")


def parse(sql: str, name: bytes = b"") -> bytes:
    return messages.parse(name, sql.encode())


def whole(sql: str) -> bytes:
    """Parse, Bind, Describe and Execute, without Sync."""
    return parse(sql) + messages.bind() + messages.describe_portal() + messages.execute()


def query(sql: str) -> bytes:
    return messages.query(sql.encode())


def replies(text: str) -> bytes:
    """The server's replies, by their kinds; `C:tag`, `Z:status`, `E` for a refusal."""
    special: dict[str, Callable[[str], bytes]] = {
        "C": lambda tag: messages.command_complete(tag.encode()),
        "Z": lambda status: messages.ready_for_query(status.encode()),
        "E": lambda _: REFUSED,
        "D": lambda value: build(b"D", b"\0\1\0\0\0\1" + value.encode()),
        "A": lambda _: build(b"A", b"\0\0\0\1channel\0\0"),
        "t": lambda _: build(b"t", b"\0\0"),
        "T": lambda _: build(b"T", b"\0\0"),
        "G": lambda _: build(b"G", b"\0\0\0"),
    }
    packets = []
    for word in text.split():
        kind, _, value = word.partition(":")
        packets.append(special[kind](value.replace("_", " ")) if kind in special else build(kind.encode()))
    return b"".join(packets)


class Between:
    """A stream, with what it has given each side since this was last asked. It holds all but BEGIN and SET."""

    def __init__(self) -> None:
        self._to_server, self._to_client = bytearray(), bytearray()
        self.stream = Stream(self._to_server.extend, self._to_client.extend, self._holds)

    @staticmethod
    def _holds(piece: Piece) -> bool:
        if piece.kind is Kind.PARSE:
            return piece.stream.takes_snapshot(piece)
        return piece.text.split()[0] not in ("BEGIN", "SET")

    def client(self, *packets: bytes) -> str:
        """The client sends; returns the kinds of the messages that the server is given."""
        self.stream.from_client(messages.split(bytearray(b"".join(packets)), messages.CLIENT_KINDS))
        return self.sent

    def server(self, text: str) -> str:
        """The server replies; returns the kinds of the messages that the client is given."""
        self.stream.from_server(messages.split(bytearray(replies(text))))
        return self.given

    def go(self, *, divided: bool = False) -> str:
        """Let the piece go that is held; returns the kinds that the server is given."""
        assert self.stream.piece is not None
        assert not divided or self.stream.may_be_divided(self.stream.piece)
        self.stream.release(divided=divided)
        return self.sent

    def deliver(self) -> str:
        """Deliver the answer, unless it must wait for its commit; returns the kinds that the client is given."""
        if not self.stream.withholds:
            self.stream.deliver()
        self.stream.proceed()
        return self.given

    def opened(self) -> Between:
        """The same, with a transaction block open."""
        assert self.client(query("BEGIN")) == "Q"
        assert self.server("C:BEGIN Z:T") == "C Z"
        return self

    @property
    def held(self) -> str:
        return "" if self.stream.piece is None else self.stream.piece.text

    @property
    def sent(self) -> str:
        return self._taken(self._to_server)

    @property
    def given(self) -> str:
        return self._taken(self._to_client)

    @staticmethod
    def _taken(buffer: bytearray) -> str:
        return " ".join(message.kind.decode() for message in messages.split(buffer))


@pytest.fixture
def between() -> Between:
    return Between()


# Without a transaction block


def test_the_sync_that_commits_is_a_step_and_the_answers_wait_for_it(between: Between) -> None:
    assert between.client(whole(INSERT), messages.SYNC) == ""
    assert between.held == INSERT
    assert between.go(divided=True) == "P B D E H"
    assert between.server("1 2 n C:INSERT_0_1") == ""
    assert between.deliver() == ""
    assert (between.held, between.stream.in_transaction) == ("COMMIT", True)
    assert between.go() == "S"
    assert between.server("Z:I") == ""
    assert between.deliver() == "1 2 n C Z"
    assert between.stream.idle


def test_a_simple_query_is_divided_and_its_client_sees_a_simple_query(between: Between) -> None:
    between.client(query(INSERT))
    assert between.go(divided=True) == "P B D E C H"
    between.server("1 2 n C:INSERT_0_1 3")
    between.deliver()
    assert between.held == "COMMIT"
    assert between.go() == "S"
    between.server("Z:I")
    assert between.deliver() == "C Z"


@pytest.mark.parametrize(("simple", "told"), [(True, "E Z"), (False, "1 2 n C E Z")])
def test_a_commit_that_fails_is_told_as_the_protocol_has_it(between: Between, simple: bool, told: str) -> None:
    """A deferred constraint: a simple query has no CommandComplete then."""
    between.client(query(INSERT) if simple else whole(INSERT) + messages.SYNC)
    between.go(divided=True)
    between.server("1 2 n C:INSERT_0_1" + " 3" * simple)
    between.deliver()
    between.go()
    between.server("E Z:I")
    assert between.deliver() == told
    assert between.stream.idle


@pytest.mark.parametrize("simple", [True, False])
def test_a_refused_statement_has_no_commit(between: Between, simple: bool) -> None:
    between.client(query(INSERT) if simple else whole(INSERT) + messages.SYNC)
    between.go(divided=True)
    assert between.server("1 2 n E") == ""
    assert between.sent == "S"
    between.server("Z:I")
    assert between.deliver() == ("E Z" if simple else "1 2 n E Z")
    assert (between.held, between.stream.idle) == ("", True)


@pytest.mark.parametrize(
    ("sql", "simple", "expected"),
    [
        (INSERT, True, True),
        (INSERT, False, True),
        ("BEGIN; " + INSERT + "; COMMIT", True, False),
        ("INSERT INTO t VALUES ($1)", True, False),  # the simple protocol refuses it
        ("INSERT INTO t VALUES ($1)", False, True),
    ],
)
def test_which_pieces_can_be_divided(between: Between, sql: str, simple: bool, expected: bool) -> None:
    between.client(query(sql) if simple else whole(sql) + messages.SYNC)
    piece = between.stream.piece
    assert piece is not None
    assert between.stream.may_be_divided(piece) is expected


def test_several_statements_in_one_query_are_held_even_if_the_first_is_begin() -> None:
    between = Between()
    between._holds = lambda _: True  # type: ignore[method-assign]
    between.client(query(f"BEGIN; {INSERT}; COMMIT"))
    assert between.go() == "Q"
    assert between.server("C:BEGIN C:INSERT_0_1 C:COMMIT Z:I") == ""
    assert between.deliver() == "C C C Z"


def test_a_batch_with_one_sync_is_a_step_a_statement_and_one_commit(between: Between) -> None:
    """pgx."""
    between.client(whole(INSERT), whole(SELECT), messages.SYNC)
    assert (between.go(divided=True), between.server("1 2 n C:INSERT_0_1")) == ("P B D E H", "")
    assert between.deliver() == "1 2 n C"  # the Sync is not the next
    assert between.held == SELECT
    assert (between.go(), between.server("1 2 T D:1 C:SELECT_1")) == ("P B D E H", "")
    assert between.deliver() == ""
    assert between.held == "COMMIT"
    between.go()
    between.server("Z:I")
    assert between.deliver() == "1 2 T D C Z"


def test_requests_that_are_pipelined_wait_for_each_other(between: Between) -> None:
    """postgres.js."""
    between.client(whole(SELECT), messages.SYNC, whole(INSERT), messages.SYNC)
    assert between.go() == "P B D E H"
    between.server("1 2 T C:SELECT_0")
    assert between.sent == "S"  # it commits nothing
    between.server("Z:I")
    assert (between.held, between.deliver(), between.held) == ("", "1 2 T C Z", INSERT)


def test_what_follows_a_refusal_in_a_pipeline_passes_up_to_its_sync(between: Between) -> None:
    between.client(whole(INSERT), whole(SELECT), messages.SYNC, whole(SELECT), messages.SYNC)
    between.go(divided=True)
    between.server("1 2 n E")
    assert between.sent == "P B D E S"  # the server ignores all but the Sync
    between.server("Z:I")
    assert between.deliver() == "1 2 n E Z"
    assert between.held == SELECT


# In a transaction block


def test_begin_in_the_batch_of_the_first_statement_passes(between: Between) -> None:
    """JDBC."""
    begin = parse("BEGIN") + messages.bind() + messages.execute()
    assert between.client(begin, whole(SELECT), messages.SYNC) == "P B E H"
    assert between.server("1 2 C:BEGIN") == "1 2 C"
    assert between.held == SELECT
    assert not between.stream.piece.alone  # type: ignore[union-attr]
    assert between.go() == "P B D E H"
    between.server("1 2 T C:SELECT_0")
    assert between.sent == "S"
    between.server("Z:T")
    assert between.deliver() == "1 2 T C Z"


def test_each_fetch_of_some_rows_is_a_step(between: Between) -> None:
    between.opened()
    fetch = messages.execute(b"c", 1)
    between.client(parse(SELECT), messages.bind(b"c"), messages.describe_portal(b"c"), fetch, messages.SYNC)
    between.go()
    between.server("1 2 T D:1 s")
    between.server("Z:T")
    assert between.deliver() == "1 2 T D s Z"
    between.client(fetch, messages.SYNC)
    assert between.held == SELECT
    assert between.go() == "E H"
    between.server("C:SELECT_0")
    between.server("Z:T")
    assert between.deliver() == "C Z"


def test_a_pipeline_that_syncs_at_its_end_knows_when_its_block_is_open(between: Between) -> None:
    """psycopg's: the server does not say the status before the Sync."""
    assert between.client(whole("BEGIN")) == "P B D E H"
    assert between.server("1 2 n C:BEGIN") == "1 2 n C"
    assert between.stream.block
    between.client(whole(INSERT))
    assert between.held == INSERT
    assert not between.stream.may_be_divided(between.stream.piece)  # type: ignore[arg-type]
    between.go()
    between.server("1 2 n C:INSERT_0_1")
    assert between.deliver() == "1 2 n C"
    assert between.client(messages.FLUSH) == ""  # racebench has sent one
    between.client(whole("COMMIT"), messages.SYNC)
    assert between.held == "COMMIT"
    between.go()
    between.server("1 2 n C:COMMIT")
    assert between.sent == "S"
    between.server("Z:I")
    assert between.deliver() == "1 2 n C Z"
    assert between.stream.idle


def test_a_parse_apart_passes_where_it_takes_no_snapshot(between: Between) -> None:
    """asyncpg."""
    between.opened()
    assert between.client(parse(SELECT, b"s"), messages.describe_statement(b"s"), messages.FLUSH) == "P D H"
    assert between.server("1 t T") == "1 t T"
    between.client(messages.bind(statement=b"s"), messages.execute(), messages.SYNC)
    assert between.held == SELECT
    assert between.go() == "B E H"


def test_the_first_parse_apart_is_a_step_where_a_transaction_has_one_snapshot(between: Between) -> None:
    between.opened().stream.snapshots = True
    assert between.client(parse("SET x = 1"), messages.FLUSH) == "P H"
    between.server("1")
    between.client(parse(SELECT), messages.FLUSH)
    assert (between.held, between.stream.piece.kind) == (SELECT, Kind.PARSE)  # type: ignore[union-attr]
    between.go()
    between.server("1")
    assert between.deliver() == "1"
    assert between.client(parse(INSERT), messages.FLUSH) == "P H"  # the snapshot is taken


def test_a_lock_takes_no_snapshot(between: Between) -> None:
    between.opened().stream.snapshots = True
    between.client(query("LOCK t"))
    between.go()
    between.server("C:LOCK Z:T")
    between.deliver()
    between.client(parse(SELECT), messages.FLUSH)
    assert between.held == SELECT


def test_nothing_may_be_asked_from_a_bind_to_its_execute(between: Between) -> None:
    """pg8000 sends a Flush before Execute: a query of racebench's in between would end the portal."""
    assert between.client(parse(SELECT, b"s"), messages.describe_statement(b"s"), messages.SYNC) == "P D H"
    between.server("1 t T")
    assert (between.sent, between.server("Z:I")) == ("S", "1 t T Z")
    assert between.stream.idle
    assert between.client(messages.bind(statement=b"s"), messages.FLUSH, messages.execute(), messages.SYNC) == "B H"
    between.server("2")
    assert (between.held, between.stream.idle) == (SELECT, False)
    between.go()
    between.server("T C:SELECT_0")
    between.server("Z:I")
    between.deliver()
    assert between.stream.idle


def test_a_failed_block_is_known_from_the_servers_status(between: Between) -> None:
    between.opened()
    between.client(query(INSERT))
    between.go()
    between.server("E Z:E")
    assert between.deliver() == "E Z"
    assert (between.stream.status, between.stream.in_transaction) == (b"E", True)
    between.client(query("ROLLBACK"))
    between.go()
    between.server("C:ROLLBACK Z:I")
    between.deliver()
    assert (between.stream.touched, between.stream.idle) == (False, True)


# COPY, function calls, what the server sends by itself, the end


def test_the_data_of_a_copy_in_a_query_passes_and_its_end_is_the_answer(between: Between) -> None:
    between.client(query(COPY))
    assert (between.go(), between.server("G")) == ("Q", "G")  # the client is asked for the data
    assert between.stream.awaits_client
    assert between.client(messages.copy_data(b"1"), messages.COPY_DONE) == "d c"
    between.server("C:COPY_1 Z:I")
    assert between.deliver() == "C Z"


@pytest.mark.parametrize("end", [messages.COPY_DONE, messages.copy_fail(b"no")])
def test_a_sync_that_comes_before_the_data_of_a_copy_is_ignored(between: Between, end: bytes) -> None:
    """psycopg's pipeline and JDBC send it with the Execute; the server ignores it during COPY."""
    between.opened().client(whole(COPY), messages.SYNC)
    assert (between.go(), between.server("1 2 n G")) == ("P B D E H", "1 2 n G")
    assert between.client(messages.copy_data(b"1"), end, messages.SYNC) == f"d {end[:1].decode()} H"
    between.server("C:COPY_1" if end == messages.COPY_DONE else "E")
    assert between.sent == "S"
    between.server("Z:T" if end == messages.COPY_DONE else "Z:E")
    assert between.deliver() == ("C Z" if end == messages.COPY_DONE else "E Z")


def test_a_function_call_is_held(between: Between) -> None:
    between.client(build(b"F", b"\0\0\0\2" + b"\0" * 6))
    assert between.held == "function call 2"
    assert between.go() == "F"
    between.server("V Z:I")
    assert between.deliver() == "V Z"


def test_a_notification_is_given_at_once_unless_an_answer_is_withheld(between: Between) -> None:
    assert between.server("A") == "A"
    between.client(whole(INSERT), messages.SYNC)
    assert between.server("A") == "A"  # while it is at the gate
    between.go(divided=True)
    assert between.server("1 2 n C:INSERT_0_1 A") == ""
    between.deliver()
    between.go()
    between.server("Z:I")
    assert between.deliver() == "1 2 n C A Z"


def test_a_goodbye_behind_a_piece_waits_for_it(between: Between) -> None:
    assert between.client(whole(SELECT), messages.SYNC, messages.TERMINATE) == ""
    assert not between.stream.ended
    between.go()
    between.server("1 2 T C:SELECT_0")
    assert between.sent == "S"
    between.server("Z:I")
    assert between.deliver() == "1 2 T C Z"
    assert (between.sent, between.stream.ended) == ("X", True)


def test_who_counts_what_was_told_is_given_all_bytes_in_order(between: Between) -> None:
    told = bytearray()
    between.stream.told = told.extend
    between.client(query(SELECT))
    between.go()
    between.server("T D:7 C:SELECT_1 Z:I")
    assert told == b""
    between.deliver()
    assert bytes(told) == replies("T D:7 C:SELECT_1 Z:I")
