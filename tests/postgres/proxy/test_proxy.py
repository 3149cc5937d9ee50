"""The proxy around the messages: TLS on either side, passwords, settings, and ends that go away or are slow."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from benchmarks.between import relaying
from conftest import UsersServer
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.external import external
from racebench.postgres.proxy import messages
from racebench.postgres.proxy.link import Link, State
from racebench.postgres.proxy.messages import CLIENT_KINDS, split
from racebench.postgres.proxy.proxy import Proxy
from racebench.postgres.proxy.startup import StartupMessage, take_packet
from racebench.postgres.proxy.upstream import Upstream
from waiting import LIMIT_S, wait_for

Connection = psycopg.Connection[tuple[Any, ...]]


def through(port: int, target: Target, **parameters: str) -> Connection:
    place = {"host": "127.0.0.1", "hostaddr": "", "port": str(port), "sslmode": "disable", "gssencmode": "disable"}
    return psycopg.connect(**{**target.parameters, **place, **parameters}, autocommit=True)  # type: ignore[arg-type]


def value(connection: Connection, query: str) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture(scope="module")
def port(embedded: Target) -> Iterator[int]:
    """A port that leads to the embedded server; sessions there work in a schema."""
    with relaying(embedded, {"search_path": "of_proxy", "application_name": "proxy"}) as proxy:
        yield proxy.listen()


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
def test_a_client_may_ask_for_tls(embedded: Target, port: int, sslmode: str) -> None:
    with through(port, embedded, sslmode=sslmode) as client:
        assert client.pgconn.ssl_in_use == (sslmode != "disable")
        assert value(client, "SELECT length(repeat('x', 3000000))") == 3_000_000
        assert value(client, "SELECT repeat('x', 3000000)") == "x" * 3_000_000


@pytest.mark.skipif(psycopg.pq.version() < 170000, reason="sslnegotiation is of libpq 17")
def test_a_client_may_speak_tls_without_asking(embedded: Target, port: int) -> None:
    with through(port, embedded, sslmode="require", sslnegotiation="direct") as client:
        assert client.pgconn.ssl_in_use
        assert value(client, "SELECT 1") == 1


@pytest.mark.parametrize(
    ("parameters", "search_path", "name"),
    [
        ({}, "of_proxy", "proxy"),
        ({"application_name": "own"}, "of_proxy", "own"),
        ({"options": "-c search_path=own"}, "own", "proxy"),
        ({"options": "-csearch_path=own -c work_mem=1MB"}, "own", "proxy"),
        ({"options": "--Search-Path=own"}, "own", "proxy"),
        ({"options": "-c work_mem=1MB"}, "of_proxy", "proxy"),
    ],
)
def test_settings_are_added_that_the_client_has_not_made(
    embedded: Target, port: int, parameters: dict[str, str], search_path: str, name: str
) -> None:
    with through(port, embedded, **parameters) as client:
        assert value(client, "SHOW search_path") == search_path
        assert value(client, "SHOW application_name") == name


def test_a_server_that_refuses_is_heard(embedded: Target, port: int) -> None:
    with pytest.raises(psycopg.OperationalError, match='database "nix" does not exist'):
        through(port, embedded, dbname="nix")


@pytest.mark.parametrize("sslmode", ["disable", "require"])
@pytest.mark.parametrize("upstream", ["disable", "require"])
def test_passwords_pass_whatever_is_encrypted(users_server: UsersServer, upstream: str, sslmode: str) -> None:
    if upstream == "require" and not users_server.tls:
        pytest.skip("this server is built without TLS")
    target = external(users_server.dsn(sslmode=upstream))
    with relaying(target) as proxy:
        port = proxy.listen()
        with through(port, target, sslmode=sslmode) as client:
            assert client.pgconn.ssl_in_use == (sslmode == "require")
            encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert value(client, encrypted) is (upstream == "require")
            assert value(client, "SELECT repeat('x', 300000)") == "x" * 300_000
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            through(port, target, sslmode=sslmode, password="wrong")


def test_a_server_that_is_gone_is_named(embedded: Target, port: int) -> None:
    with relaying(embedded) as proxy, socket.socket() as taken:  # no server listens there
        taken.bind(("127.0.0.1", 0))
        proxy.upstream = replace(proxy.upstream, family=socket.AF_INET, address=taken.getsockname())
        with pytest.raises(psycopg.OperationalError, match="the embedded PostgreSQL 18 cannot be reached: Conn"):
            through(proxy.listen(), embedded)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\4", b"\0\0\0\x08\0\1\2\3"])
def test_what_is_no_client_of_postgresql_is_shown_the_door(port: int, first: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as client:
        client.sendall(first)
        with contextlib.suppress(ConnectionResetError):
            answer = client.recv(100)
            assert not answer or b"unsupported frontend protocol" in answer


# By hand, one step at a time.


@pytest.fixture
def proxy(embedded: Target) -> Iterator[Proxy]:
    with Proxy(embedded) as proxy:
        yield proxy


def opened(proxy: Proxy, target: Target) -> tuple[socket.socket, Link]:
    """A client that has come through the proxy, which this thread polls."""
    client = socket.create_connection(("127.0.0.1", proxy.listen()))
    parameters = {"user": target.parameters["user"], "database": target.parameters["dbname"]}
    client.sendall(StartupMessage(version=196608, parameters=parameters).raw())
    links: list[Link] = []
    wait_for(lambda: links.extend(proxy.poll(0.1)) or links, "no link opens")
    (link,) = links
    assert link.state is State.OPEN
    client.setblocking(False)
    answer = bytearray()

    def is_ready() -> bool:
        proxy.poll(0)
        with contextlib.suppress(BlockingIOError):
            answer.extend(client.recv(1 << 16))
        return answer.endswith(messages.ready_for_query())

    wait_for(is_ready, "the client is not let in")
    return client, link


def test_a_client_that_is_reset_ends_its_session(proxy: Proxy, embedded: Target) -> None:
    client, link = opened(proxy, embedded)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    wait_for(lambda: proxy.poll(0.05) and link.client_closed, "it is not noticed")
    assert not link.server_closed
    link.close()
    wait_for(lambda: proxy.poll(0.05) and link.server_closed, "the session does not end")
    assert link.state is State.CLOSED
    assert proxy.links == []


def test_a_link_that_is_cut_is_reset_for_the_client_and_ended_for_the_server(proxy: Proxy, embedded: Target) -> None:
    client, link = opened(proxy, embedded)
    link.send_server(messages.query(b"SELECT 1"))
    link.cut()
    select.select([client], [], [], LIMIT_S)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    client.close()
    assert not link.server_closed
    wait_for(lambda: proxy.poll(0.05) and link.server_closed, "the session does not end")
    assert link.state is State.CLOSED


def test_neither_side_is_read_while_the_other_does_not_take_it(proxy: Proxy, embedded: Target) -> None:
    rows = 60  # of 1 MB; the buffers of the sockets take some MB too
    client, link = opened(proxy, embedded)
    link.send_server(
        messages.query(f"COPY (SELECT repeat('x', 1000000) FROM generate_series(1, {rows})) TO STDOUT".encode())
    )
    most = quiet = received = 0
    while quiet < 20:  # the server waits
        news = proxy.poll(0.02)
        quiet = 0 if news else quiet + 1
        for changed in news:
            changed.relay()
        most = max(most, link.waiting)
    assert 1 << 20 < most < 8 << 20
    while received < rows * 1_000_000:
        for changed in proxy.poll(0):
            changed.relay()
        with contextlib.suppress(BlockingIOError):
            received += len(client.recv(1 << 20))
    assert link.waiting == 0

    link.send_server(messages.query(b"SELECT pg_sleep(60)"))  # the server does not read now
    sent = quiet = 0
    data = messages.copy_data(b"x" * 1_000_000)
    while quiet < 20:
        try:
            sent += client.send(data)
            quiet = 0
        except BlockingIOError:
            quiet += 1
        for changed in proxy.poll(0.02):
            changed.relay()
    assert sent < 40_000_000
    client.close()
    with connect(embedded) as admin:  # it would sleep on
        admin.execute("SELECT pg_terminate_backend(%s)", (link.pid,))


# Without a server.


def test_messages_are_taken_off_whole() -> None:
    whole = messages.query(b"SELECT 1") + messages.SYNC
    for cut in range(len(whole) + 1):
        buffer = bytearray(whole[:cut])
        taken = split(buffer, CLIENT_KINDS)
        buffer += whole[cut:]
        taken += split(buffer, CLIENT_KINDS)
        assert [message.kind for message in taken] == [b"Q", b"S"]
        assert b"".join(message.raw for message in taken) == whole
        assert not buffer


@pytest.mark.parametrize("raw", [b"~\0\0\0\4", b"S\x7f\xff\xff\xff", b"Q\0\0\0\1x"])
def test_what_is_no_message_is_passed_with_all_behind_it(raw: bytes) -> None:
    buffer = bytearray(messages.SYNC + raw + messages.SYNC)
    assert split(buffer, CLIENT_KINDS) == [(b"S", messages.SYNC), (b"", raw + messages.SYNC)]


def test_builders_and_readers_agree() -> None:
    assert messages.read_parse(messages.parse(b"s", b"SELECT $1", [23])) == (b"s", b"SELECT $1", (23,))
    bound = messages.bind(b"p", b"s", [b"1", None, b""], [0, 1, 0], [1])
    assert messages.read_bind(bound) == (b"p", b"s", (0, 1, 0), (b"1", None, b""), (1,))
    assert messages.read_execute(messages.execute(b"p", 7)) == (b"p", 7)
    assert messages.read_named(messages.describe_statement(b"s")) == (b"S", b"s")
    error = messages.read_error(messages.error_response("40001", "again"))
    assert (error.severity, error.sqlstate, error.message) == (b"ERROR", "40001", b"again")


@pytest.mark.parametrize("raw", [messages.bind(b"", b"s", [b"1", None]), messages.parse(b"s", b"SELECT 1", [23])])
def test_a_message_that_is_cut_is_malformed(raw: bytes) -> None:
    read = messages.read_bind if raw[:1] == b"B" else messages.read_parse
    for cut in range(5, len(raw) - 4):
        with contextlib.suppress(messages.Malformed):
            read(raw[:cut])


def test_the_start_up_message_is_kept_but_for_what_is_added() -> None:
    given = {"user": "a", "options": "-c x=1", "client_encoding": "", "ä": "ö"}
    packet = take_packet(bytearray(StartupMessage(version=196610, parameters=given).raw()))
    assert isinstance(packet, StartupMessage)
    assert (packet.version, packet.parameters) == (196610, given)
    assert packet.with_defaults({"X": "2", "y": "3"}).parameters == {**given, "y": "3"}


def test_the_target_is_resolved_by_libpq(users_server: UsersServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", str(users_server.port))
    dsn = f"host=127.0.0.1 user=owner password={users_server.password} dbname=postgres sslmode=disable"
    upstream = Upstream.of(external(dsn))
    assert (upstream.address, upstream.tls) == (("127.0.0.1", users_server.port), None)
