"""What a client of PostgreSQL sees: a script of messages, a client that sends them raw, and a transcript to compare.

A proxy is faithful if the transcript through it is the one that the server itself gives.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from racebench.postgres.proxy.messages import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    Message,
    bind,
    build,
    close_portal,
    close_statement,
    copy_data,
    copy_fail,
    describe_portal,
    describe_statement,
    execute,
    parse,
    query,
    read_columns,
    split,
)
from waiting import LIMIT_S, wait_for

Admin = psycopg.Connection[tuple[Any, ...]]


class RawClient:
    """A connection that libpq has opened, and that only sends and receives bytes from then on."""

    def __init__(self, **parameters: Any) -> None:
        self._connection = psycopg.connect(**parameters, autocommit=True)
        pgconn = self._connection.pgconn
        self.pid = pgconn.backend_pid
        psycopg.capabilities.has_cancel_safe(check=True)  # cancel() would wait without letting a proxy's thread run
        self.cancel = self._connection.cancel_safe
        self._socket = socket.socket(fileno=os.dup(pgconn.socket))
        self._socket.settimeout(LIMIT_S)
        self._buffer = bytearray()

    def close(self) -> None:
        self._socket.close()
        self._connection.close()

    def send(self, raw: bytes) -> None:
        self._socket.sendall(raw)

    def receive(self, until: str) -> list[Message]:
        """What the server sends until each kind has come as often as it is in `until`, or until the end (kind !)."""
        wanted, messages = Counter(until), list[Message]()
        came: Counter[str] = Counter()
        while any(came[kind] < count for kind, count in wanted.items()):
            try:
                data = self._socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            self._buffer += data
            messages += split(self._buffer)
            came = Counter(message.kind.decode() for message in messages)
            if not data:
                messages.append(Message(b"!", b""))
                break
        return messages

    def readable(self, raw: bytes) -> str:
        """A message without what differs from one session to another."""
        if raw[:1] == b"T":
            return f"T {[column._replace(table=bool(column.table)) for column in read_columns(raw)]}"
        if raw[:1] == b"A":
            raw = raw[:5] + (b"mine" if int.from_bytes(raw[5:9], "big") == self.pid else b"else") + raw[9:]
        text = re.sub(rb"pg_temp_\d+", b"pg_temp", raw[:1] + raw[5:])
        return repr(text if len(text) < 5_000 else (text[:100], len(text), hash(text)))


@dataclass(frozen=True, slots=True)
class Line:
    """What is sent, and until when the answers are read. `meanwhile`: done before they are."""

    name: str
    raw: bytes
    until: str = "Z"
    meanwhile: Callable[[RawClient, Admin], None] | None = None
    bytewise: bool = False


def simple(name: str, *statements: str) -> list[Line]:
    return [Line(f"{name}: {sql[:40]}", query(sql.encode())) for sql in statements]


def run(
    sql: str,
    values: Sequence[bytes | None] = (),
    *,
    name: bytes = b"",
    portal: bytes = b"",
    rows: int = 0,
    types: Sequence[int] = (),
    formats: Sequence[int] = (),
    result_formats: Sequence[int] = (),
) -> bytes:
    """Parse, Bind, Describe and Execute of a statement, without Sync."""
    return (
        parse(name, sql.encode(), types)
        + bind(portal, name, values, formats, result_formats)
        + describe_portal(portal)
        + execute(portal, rows)
    )


def call(function: int, *values: bytes) -> bytes:
    """A FunctionCall; arguments and result in binary."""
    arguments = b"".join(struct.pack("!i", len(value)) + value for value in values)
    return build(b"F", struct.pack("!Ihhh", function, 1, 1, len(values)) + arguments + struct.pack("!h", 1))


def _sleeping(client: RawClient, admin: Admin) -> None:
    """Wait until the session is in pg_sleep."""
    question = "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = %s"
    wait_for(lambda: admin.execute(question, (client.pid,)).fetchone() == (True,), "the session does not sleep")


def _cancel(client: RawClient, admin: Admin) -> None:
    _sleeping(client, admin)
    client.cancel()


def _terminate(client: RawClient, admin: Admin) -> None:
    admin.execute("SELECT pg_terminate_backend(%s)", (client.pid,))


def _terminate_sleeping(client: RawClient, admin: Admin) -> None:
    _sleeping(client, admin)
    _terminate(client, admin)


def _notify(client: RawClient, admin: Admin) -> None:
    admin.execute("NOTIFY racebench_news, 'from elsewhere'")


_INT4PL, _INT4DIV = 177, 154
#: More parameters than a signed count holds.
_MANY = f"SELECT array_length(ARRAY[{', '.join(f'${place}::int' for place in range(1, 40_001))}], 1)"
_INT4, _TEXT, _BYTEA = 23, 25, 17
_TABLES = (
    "CREATE TEMP TABLE item (id int PRIMARY KEY, note text)",
    "CREATE TEMP TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
    "INSERT INTO late VALUES (1)",
)


def _int4(number: int) -> bytes:
    return struct.pack("!i", number)


SIMPLE = [
    *simple("one row", "SELECT 1", "SELECT 1, 'x', NULL, true, 1.5, '\\x00ff'::bytea", "SELECT", "VALUES (1), (2)"),
    *simple("nothing", "", ";", "-- nothing", " ;; "),
    *simple("several", "SELECT 1; SELECT 2", "SELECT 1;", "SELECT 1; SELECT 1/0; SELECT 3", "SELECT 1;; SELECT 2;"),
    *simple("errors", "SELEC 1", "SELECT nix FROM pg_class", "SELECT 1/0", "SELECT 'ä' ||| 'ö'"),
    *simple("notices", "DO $$BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two' USING HINT = 'three'; END$$"),
    *simple("settings", "SET application_name = 'one'", "SHOW application_name", "SET TimeZone = 'Asia/Tokyo'"),
    *simple("settings", "SET DateStyle = 'German'", "SELECT '2026-01-02'::date", "RESET ALL", "SET nix.nix = 1"),
    *simple("encoding", "SET client_encoding = 'LATIN1'", "SELECT chr(233)", "RESET client_encoding", "SET nix = 1"),
    Line("a byte that is no UTF-8", query(b"SELECT '\xff'")),
    *simple("tables", *_TABLES, "CREATE TEMP TABLE item (id int)", "CREATE TEMP TABLE IF NOT EXISTS item (id int)"),
    *simple(
        "rows", "INSERT INTO item VALUES (1, 'a'), (2, 'b') RETURNING *", "UPDATE item SET note = 'c' WHERE id = 2"
    ),
    *simple("rows", "INSERT INTO item VALUES (1, 'a')", "DELETE FROM item WHERE id = 7", "TABLE item ORDER BY id"),
    *simple("transaction", "BEGIN", "BEGIN", "SELECT 1", "COMMIT", "COMMIT", "ROLLBACK", "SAVEPOINT a"),
    *simple("failed transaction", "BEGIN", "SELECT 1/0", "SELECT 1", "", "SELEC", "COMMIT", "SELECT 1"),
    *simple(
        "savepoints", "BEGIN", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", "RELEASE a", "COMMIT AND CHAIN", "ABORT"
    ),
    *simple("setting rolled back", "BEGIN; SET application_name = 'two'", "SHOW application_name", "ROLLBACK"),
    *simple("deferred, alone", "INSERT INTO late VALUES (1)", "INSERT INTO late VALUES (1) RETURNING id"),
    *simple("deferred, at COMMIT", "BEGIN", "INSERT INTO late VALUES (1)", "COMMIT", "TABLE late"),
    *simple("deferred, among several", "SELECT 1; INSERT INTO late VALUES (1); SELECT 2", "TABLE late"),
    *simple("a whole transaction", "BEGIN; INSERT INTO item VALUES (3); COMMIT", "INSERT INTO item VALUES (4); BEGIN"),
    *simple("a whole transaction", "INSERT INTO item VALUES (5); SELECT 1/0", "ROLLBACK; SELECT 1", "TABLE item"),
    *simple(
        "a whole transaction", "BEGIN; SELECT 1/0; COMMIT", "SELECT 1; COMMIT", "COMMIT; SELECT 1", "SELECT 1; BEGIN"
    ),
    *simple("a whole transaction", "COMMIT; INSERT INTO late VALUES (1)", "BEGIN; INSERT INTO late VALUES (1); COMMIT"),
    *simple("cursor", "BEGIN; DECLARE c CURSOR FOR VALUES (1), (2), (3)", "FETCH 2 c", "MOVE c", "CLOSE c; COMMIT"),
    *simple("held cursor", "DECLARE h CURSOR WITH HOLD FOR VALUES (1), (2)", "FETCH h", "CLOSE h", "FETCH h"),
    *simple("prepared", "PREPARE p AS SELECT $1::int + 1", "EXECUTE p(2)", "DEALLOCATE p", "EXECUTE p(2)"),
    *simple("explained", "EXPLAIN (COSTS OFF) SELECT 1", "EXPLAIN (COSTS OFF) EXECUTE p(2)"),
    *simple("not in a transaction", "VACUUM item", "BEGIN; VACUUM item", "ROLLBACK", "SELECT 1; VACUUM item"),
    *simple(
        "isolation", "BEGIN ISOLATION LEVEL SERIALIZABLE", "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "ROLLBACK"
    ),
    *simple(
        "isolation", "BEGIN; SELECT 1; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "ROLLBACK", "SET LOCAL a.b = 1"
    ),
    *simple(
        "code that commits", "DO $$BEGIN INSERT INTO item VALUES (6); COMMIT; END$$", "BEGIN; DO $$BEGIN COMMIT; END$$"
    ),
    *simple("end", "ROLLBACK", "PREPARE TRANSACTION 'x'", "ROLLBACK PREPARED 'x'", "CREATE TABLE pg_catalog.nix ()"),
    *simple("tags", "SELECT 1 INTO TEMP made", "CREATE TEMP TABLE made2 AS SELECT 1", "DROP TABLE made, made2"),
    *simple("time-out", "SET statement_timeout = 20", "SELECT pg_sleep(60)", "RESET statement_timeout", "DISCARD ALL"),
]

EXTENDED = [
    *(Line("tables", query(sql.encode())) for sql in _TABLES),
    Line("at once", run("SELECT 1") + SYNC),
    Line("text values", run("SELECT $1::int + $2::int, $3::text", [b"1", b"2", None]) + SYNC),
    Line("binary", run("SELECT $1::int + 1, $2::text", [_int4(1), b"x"], formats=[1, 0], result_formats=[1, 1]) + SYNC),
    Line("binary for all", run("SELECT $1::bytea", [b"\0\1"], types=[_BYTEA], formats=[1], result_formats=[1]) + SYNC),
    Line("nothing", run("") + SYNC),
    Line("two statements", run("SELECT 1; SELECT 2") + SYNC),
    Line("a statement's name", parse(b"s", b"SELECT $1::int") + describe_statement(b"s") + SYNC),
    Line("it again", parse(b"s", b"SELECT $1::int") + SYNC),
    Line("bound", bind(b"", b"s", [b"4"]) + execute() + SYNC),
    Line("bound twice", bind(b"", b"s", [b"4"]) + execute() + bind(b"", b"s", [b"5"]) + execute() + SYNC),
    Line("no integer", bind(b"", b"s", [b"x"]) + execute() + SYNC),
    Line("too few values", bind(b"", b"s", []) + execute() + SYNC),
    Line("too many formats", bind(b"", b"s", [b"4"], [0, 0]) + execute() + SYNC),
    Line("an impossible format", bind(b"", b"s", [b"4"], [7]) + execute() + SYNC),
    Line("closed", close_statement(b"s") + close_statement(b"nix") + close_portal(b"nix") + SYNC),
    Line("unknown", bind(b"", b"s", [b"4"]) + SYNC),
    Line("unknown", execute(b"nix") + SYNC),
    Line("unknown", describe_statement(b"nix") + SYNC),
    Line("unknown", describe_portal(b"nix") + SYNC),
    Line("no rows to describe", parse(b"", b"INSERT INTO item VALUES ($1)") + describe_statement() + SYNC),
    Line("the unnamed one is kept", bind(b"", b"", [b"1"]) + describe_portal() + execute() + SYNC),
    Line("and again", bind(b"", b"", [b"2"]) + execute() + SYNC),
    Line("until a query", query(b"SELECT 1")),
    Line("then it is gone", bind(b"", b"", [b"3"]) + execute() + SYNC),
    Line("a limit", run("VALUES (1), (2), (3)", rows=2) + execute(rows=2) + SYNC),
    Line("a limit of an INSERT", run("INSERT INTO item VALUES (3), (4) RETURNING id", rows=1) + execute() + SYNC),
    Line("a limit, then Sync", run("VALUES (1), (2), (3)", rows=2) + SYNC),
    Line("its portal is gone", execute() + SYNC),
    Line("in a transaction", run("BEGIN") + SYNC),
    Line("a portal's name", run("VALUES (1), (2), (3)", portal=b"p", rows=1) + SYNC),
    Line("others between", run("SELECT 7", portal=b"q") + execute(b"p", 1) + SYNC),
    Line("fetched by SQL", query(b"FETCH 1 p")),
    Line("it has ended", execute(b"p") + execute(b"p") + close_portal(b"p") + SYNC),
    Line("bound again", bind(b"q", b"", []) + SYNC),
    Line("its end", run("COMMIT") + SYNC),
    Line("Flush, Parse", parse(b"f", b"SELECT 1") + FLUSH, "1"),
    Line("Flush, Bind", bind(b"", b"f") + FLUSH, "2"),
    Line("Flush, Describe", describe_portal() + FLUSH, "T"),
    Line("Flush, Execute", execute() + FLUSH, "C"),
    Line("Flush, Sync", FLUSH + SYNC),
    Line("only Sync", SYNC),
    Line("three", SYNC + SYNC + SYNC, "ZZZ"),
    Line("an error ends a pipeline", run("SELECT 1") + run("SELECT 1/0") + run("SELECT 2") + SYNC),
    Line("an error, then Flush", run("SELECT 1/0") + FLUSH, "E"),
    Line("what is ignored", run("SELECT 3") + FLUSH + SYNC),
    Line("an error, then a query", run("SELECT 1/0") + query(b"SELECT 4") + SYNC),
    Line("two pipelines", run("SELECT 1/0") + run("SELECT 1") + SYNC + run("SELECT 2") + SYNC, "ZZ"),
    Line("rolled back as one", run("INSERT INTO item VALUES (20)") + run("INSERT INTO item VALUES (20)") + SYNC),
    Line("they are", query(b"SELECT count(*) FROM item WHERE id = 20")),
    Line("kept as one", run("INSERT INTO item VALUES (21)") + run("INSERT INTO item VALUES (22)") + SYNC),
    Line("they are", query(b"SELECT count(*) FROM item WHERE id > 20")),
    Line("BEGIN in it", run("BEGIN") + run("INSERT INTO item VALUES (23)") + run("COMMIT") + SYNC),
    Line("BEGIN behind", run("INSERT INTO item VALUES (24)") + run("BEGIN") + SYNC),
    Line("failed", run("SELECT 1/0") + SYNC),
    Line("still failed", run("SELECT 1") + SYNC),
    Line("nothing", run("") + SYNC),
    Line("COMMIT rolls back", run("COMMIT") + SYNC),
    Line("it did", query(b"TABLE item")),
    Line("COMMIT in the middle", run("INSERT INTO item VALUES (25)") + run("COMMIT") + run("SELECT 1/0") + SYNC),
    Line("it is kept", query(b"TABLE item")),
    Line("deferred, at Sync", run("INSERT INTO late VALUES (1)") + SYNC),
    Line("deferred, with rows", run("INSERT INTO late VALUES (1) RETURNING id") + SYNC),
    Line("deferred, answered early", run("INSERT INTO late VALUES (1)") + FLUSH, "C"),
    Line("deferred, then Sync", SYNC),
    Line("deferred, BEGIN", run("BEGIN") + run("INSERT INTO late VALUES (1)") + SYNC),
    Line("deferred, COMMIT", run("COMMIT") + run("SELECT 1") + SYNC),
    Line("a notice", run("DO $$BEGIN RAISE NOTICE 'one'; END$$") + SYNC),
    Line("a setting", run("SET application_name = 'three'") + SYNC),
    Line("not in a pipeline", run("SELECT 1") + run("VACUUM item") + SYNC),
    Line("alone", run("VACUUM item") + SYNC),
    Line("code that commits", run("DO $$BEGIN INSERT INTO item VALUES (26); COMMIT; END$$") + SYNC),
    Line("a function", call(_INT4PL, _int4(2), _int4(3))),
    Line("a function that fails", call(_INT4DIV, _int4(2), _int4(0))),
    Line("an unknown function", call(1)),
    Line("a function in a pipeline", run("SELECT 1") + call(_INT4PL, _int4(2), _int4(3)) + SYNC, "ZZ"),
    Line("in a transaction", query(b"BEGIN") + call(_INT4PL, _int4(2), _int4(3)) + query(b"ROLLBACK"), "ZZZ"),
    Line("byte by byte", run("SELECT $1::text", [b"slow"]) + SYNC, bytewise=True),
    Line("a long value", run("SELECT $1, length($1)", [b"x" * 3_000_000], types=[_TEXT]) + SYNC),
    Line("many parameters", parse(b"", _MANY.encode()) + describe_statement() + SYNC),
    Line("many values", run(_MANY, [b"1"] * 40_000) + SYNC),
    Line("many rows", run("SELECT i FROM generate_series(1, 3000) AS i") + SYNC),
    Line("many statements", (run("SELECT 1") + SYNC) * 50, "Z" * 50),
    Line("queries and pipelines", query(b"SELECT 1") + run("SELECT 2") + SYNC + query(b"SELECT 3"), "ZZZ"),
    Line("more values than fit", bind(b"", b"f", [b"1"] * 3) + SYNC),
    Line("all gone", query(b"DISCARD ALL")),
    Line("gone", bind(b"", b"f") + SYNC),
]

COPY = [
    *(Line("tables", query(sql.encode())) for sql in _TABLES),
    Line("in", query(b"COPY item FROM STDIN"), "G"),
    Line("its rows", copy_data(b"1\ta\n") + copy_data(b"2\t\\N\n") + COPY_DONE),
    Line("out", query(b"COPY item TO STDOUT")),
    Line("out, binary", query(b"COPY (SELECT 1, 'x'::text) TO STDOUT (FORMAT binary)")),
    Line("bad rows", query(b"COPY item FROM STDIN") + copy_data(b"x\ta\n") + copy_data(b"3\ta\n") + COPY_DONE),
    Line("a row again", query(b"COPY item FROM STDIN") + copy_data(b"1\ta\n") + COPY_DONE),
    Line("given up", query(b"COPY item FROM STDIN"), "G"),
    Line("its reason", copy_data(b"3\ta\n") + copy_fail(b"changed my mind")),
    Line("among several", query(b"SELECT 1; COPY item FROM STDIN; SELECT 2"), "G"),
    Line("its rows", copy_data(b"3\tc\n") + COPY_DONE),
    Line("out among several", query(b"COPY item TO STDOUT; SELECT 2")),
    Line("two, the second fails", query(b"COPY item FROM STDIN; COPY item FROM STDIN"), "G"),
    Line("the rows of the first", copy_data(b"4\td\n") + COPY_DONE, "G"),
    Line("the rows of the second", copy_data(b"4\td\n") + COPY_DONE),
    Line("extended, Sync early", run("COPY item FROM STDIN") + SYNC, "G"),
    Line("its rows", copy_data(b"5\te\n") + COPY_DONE + SYNC),
    Line("extended, at once", run("COPY item FROM STDIN") + copy_data(b"6\tf\n") + COPY_DONE + SYNC),
    Line("extended, Flush", run("COPY item FROM STDIN") + FLUSH, "G"),
    Line("its rows, Flush", copy_data(b"7\tg\n") + COPY_DONE + FLUSH, "C"),
    Line("its Sync", SYNC),
    Line("extended, bad rows", run("COPY item FROM STDIN") + FLUSH, "G"),
    Line("refused", copy_data(b"x\ty\n") + copy_data(b"9\ty\n") + COPY_DONE + SYNC),
    Line("extended, given up", run("COPY item FROM STDIN") + FLUSH, "G"),
    Line("its reason", copy_fail(b"no") + SYNC),
    Line("extended, out", run("COPY item TO STDOUT") + SYNC),
    Line("deferred", query(b"COPY late FROM STDIN") + copy_data(b"1\n") + COPY_DONE),
    Line("deferred, extended", run("COPY late FROM STDIN") + copy_data(b"1\n") + COPY_DONE + SYNC),
    Line("in a transaction", query(b"BEGIN") + query(b"COPY item FROM STDIN"), "ZG"),
    Line("its rows", copy_data(b"8\th\n") + COPY_DONE + query(b"COMMIT"), "ZZ"),
    Line("stray rows", copy_data(b"9\ti\n") + COPY_DONE + copy_fail(b"no") + query(b"SELECT 1")),
    Line("many rows", query(b"COPY item FROM STDIN") + copy_data(b"9\t" + b"x" * 2_000_000 + b"\n") + COPY_DONE),
    Line("are there", query(b"SELECT id, length(note) FROM item ORDER BY id")),
    Line("and go out", query(b"COPY (SELECT repeat('y', 100) FROM generate_series(1, 20000)) TO STDOUT")),
]

NEWS = [
    Line("LISTEN", query(b"LISTEN racebench_news")),
    Line("one's own NOTIFY", query(b"NOTIFY racebench_news, 'mine'"), "ZA"),
    Line("at COMMIT", query(b"BEGIN; NOTIFY racebench_news, 'mine'") + query(b"SELECT 1") + query(b"COMMIT"), "ZZZA"),
    Line("another's", b"", "A", meanwhile=_notify),
    Line("a transaction", query(b"BEGIN")),
    Line("another's in it", b"", "", meanwhile=_notify),
    Line("behind it", query(b"COMMIT"), "ZA"),
    Line("UNLISTEN", query(b"UNLISTEN *")),
    Line("cancelled", query(b"SELECT pg_sleep(60)"), meanwhile=_cancel),
    Line("cancelled, extended", run("SELECT pg_sleep(60)") + run("SELECT 1") + SYNC, meanwhile=_cancel),
    Line("cancelled, in a transaction", query(b"BEGIN; SELECT pg_sleep(60)"), meanwhile=_cancel),
    Line("failed", query(b"SELECT 1")),
    Line("rolled back", query(b"ROLLBACK")),
    Line("its own end", query(b"SELECT pg_terminate_backend(pg_backend_pid())"), "!"),
]

#: Conversations by their names, each over a connection of its own.
SCRIPT: Mapping[str, Sequence[Line]] = {
    "simple": SIMPLE,
    "extended": EXTENDED,
    "copy": COPY,
    "news": NEWS,
    "a query into a COPY": [
        Line("a table", query(b"CREATE TEMP TABLE item (id int)")),
        Line("a COPY", query(b"COPY item FROM STDIN"), "G"),
        Line("a query", query(b"SELECT 1"), "!"),
    ],
    "terminated": [Line("asleep", query(b"SELECT pg_sleep(60)"), "!", meanwhile=_terminate_sleeping)],
    "terminated, idle": [Line("idle", b"", "!", meanwhile=_terminate)],
    "terminated, in a transaction": [
        Line("BEGIN", query(b"BEGIN")),
        Line("idle", b"", "!", meanwhile=_terminate),
    ],
    "timed out": [
        Line("a limit", query(b"SET idle_in_transaction_session_timeout = 20")),
        Line("BEGIN", query(b"BEGIN"), "Z!"),
    ],
    "ended": [Line("Terminate", TERMINATE, "!")],
    "ended at once": [Line("and Terminate", query(b"SELECT 1") + TERMINATE, "Z!")],
    "no kind": [Line("a kind that there is not", query(b"SELECT 1") + build(b"~", b"nix"), "Z!")],
    "too long": [Line("a length that there is not", b"S\x7f\xff\xff\xff", "!")],
    "too short": [Line("a length that there is not", b"Q\x00\x00\x00\x01", "!")],
    "not ended": [Line("a text without its end", build(b"Q", b"SELECT 1"), "Z")],
    "damaged": [
        Line("a Bind", build(b"B", b"\0\0\0") + SYNC),
        Line("a Bind of something", parse(b"", b"SELECT 1") + build(b"B", b"\0\0\0\1") + SYNC),
        Line("a Parse", build(b"P", b"s") + SYNC),
        Line("an Execute", run("SELECT 1") + build(b"E", b"\0\0") + SYNC),
        Line("a Describe", build(b"D", b"") + SYNC),
        Line("a FunctionCall", build(b"F", b"\0")),
        Line("a query", build(b"Q", b"SELECT 1\0\0")),
        Line("it goes on", query(b"SELECT 1")),
    ],
    "another kind": [Line("a password, late", build(b"p", b"x\0"), "!")],
}


def transcript(name: str, admin: Admin, **parameters: Any) -> list[str]:
    """What a client sees in a conversation of SCRIPT, a line for each message."""
    client = RawClient(**parameters)
    seen: list[str] = []
    try:
        for line in SCRIPT[name]:
            seen.append(f"-- {line.name}")
            if line.bytewise:
                for position in range(len(line.raw)):
                    client.send(line.raw[position : position + 1])
            else:
                client.send(line.raw)
            if line.meanwhile is not None:
                line.meanwhile(client, admin)
            seen += [client.readable(message.raw or message.kind) for message in client.receive(line.until)]
    finally:
        client.close()
    return seen
