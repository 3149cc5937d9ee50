"""The server sessions of a simulated pooler: connections that the explored sessions, its clients, have in turn.

Each client has opened one connection, which is the server session of its number. pool.py says which client has which
server session; here the clients are moved from one connection to another, and a server session is reset as PgBouncer
does it. Where it cannot matter which server session a client has, each keeps its own, and only the rule is followed.

PgBouncer keeps account of a few settings for each client, and sets them on the server session that the client gets
(`varcache_apply` in src/varcache.c of 1.18). All other settings stay in the server session.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import psycopg
from psycopg import pq, sql

from racebench.core.target import Pooling
from racebench.exploration.leftovers import Leftover
from racebench.exploration.pool import Pool, PoolOptions
from racebench.exploration.sessions.cleaning import clean
from racebench.postgres.session import Session as ServerSession

#: The settings that PgBouncer gives to each client as it has set them.
_OF_CLIENTS = ("client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name")
_ASKED = sql.SQL("SELECT {}").format(
    sql.SQL(", ").join(sql.SQL("current_setting({})").format(sql.Literal(name)) for name in _OF_CLIENTS)
)
_SETTINGS = frozenset({Leftover.SETTINGS, Leftover.HIDDEN})
#: The values of _OF_CLIENTS.
_Values = tuple[str, ...]


class Client(Protocol):
    """A session that is explored behind the pooler. `session`: what it sends, and over which connection.

    `inside`: it waits for a server session. `hung`: it would have waited for ever.
    """

    number: int
    session: ServerSession
    inside: bool
    hung: bool

    def granted(self) -> None:
        """Go on: it had to wait for a server session, and has one now."""

    def hang(self) -> None:
        """End a wait that would never end."""


class PooledConnections:
    """The server sessions, and which client has which.

    `shares`: it may matter which server session a client has. `left`: what scripts may leave in one. `cached`: a
    sequence has a cache, of which each server session keeps numbers. `moves`: how often a client took a server session
    or gave one back in this schedule.
    """

    def __init__(self, options: PoolOptions, *, shares: bool, left: Collection[Leftover], cached: bool) -> None:
        self.options = options
        self.shares = shares
        self._pool = Pool(options.size)
        self.moves = 0
        self._apart = False
        self._left = frozenset({*left, *([Leftover.NUMBERS] if cached else [])})
        self._clients: dict[int, Client] = {}
        self._connections: dict[int, psycopg.Connection[Any]] = {}
        self._follows_settings = shares and not _SETTINGS.isdisjoint(left)
        self._first: _Values = ()
        self._last: dict[int, int | None] = {}
        self._of_client: dict[int, _Values] = {}
        self._of_server_session: dict[int, _Values] = {}

    def add(self, client: Client) -> None:
        """Take over the connection that a client has opened, as the server session of its number."""
        self._clients[client.number] = client
        self._connections[client.number] = client.session.connection

    def begin(self, *, apart: bool) -> None:
        """Begin a schedule, with no server session opened. `apart`: without a pooler, each client has its own."""
        self._pool.begin()
        self._apart = apart
        self.moves = 0
        self._last, self._of_client, self._of_server_session = {}, {}, {}
        if self._follows_settings and not self._first:
            self._first = _asked(self._connections[1].pgconn)

    def bring_home(self, client: Client) -> None:
        """Have a client use the connection that it has opened."""
        client.session.switch(self._connections[client.number])

    @property
    def pids(self) -> frozenset[int]:
        """The backends of the server sessions."""
        return frozenset(connection.info.backend_pid for connection in self._connections.values())

    @property
    def idle(self) -> Mapping[int, str]:
        """The backends that no client has, each with what it is called."""
        if not self.shares:
            return {}
        return {self._connections[one].info.backend_pid: f"idle server session {one}" for one in self._pool.idle}

    def last_of(self, number: int) -> int | None:
        """The server session that a client has, or had last in this schedule; None if it has had none."""
        return self._last.get(number)

    @property
    def hung(self) -> int:
        """How many clients would have waited for ever in this schedule."""
        return sum(client.hung for client in self._clients.values())

    def may_send(self, client: Client) -> bool:
        """Whether a client has a connection now."""
        return self._apart or not self.shares or self._pool.of(client.number) is not None

    def take(self, client: Client) -> bool:
        """Get a server session for what a client is about to send; False if it has to wait for one."""
        if self._apart or self._pool.of(client.number) is not None:
            return True
        self.moves += 1
        if self._pool.take(client.number) is None:
            return False
        self._move(client)
        return True

    def hang(self, numbers: Collection[int]) -> None:
        """End the waits of clients for what no other session will ever release."""
        waiting = [self._clients[number] for number in numbers if number in self._clients]
        for client in sorted(waiting, key=lambda one: not one.inside):  # those without a connection first
            if client.inside:
                self._pool.leave(client.number)
            client.hang()

    def answered(self, client: Client, *, in_transaction: bool) -> None:
        """Note that a client has its answer: the pooler takes the server session back, unless the mode says no."""
        if not in_transaction and self.options.pooling is not Pooling.SESSION:
            self._release(client)

    def disconnected(self, client: Client, settings: Mapping[str, str]) -> None:
        """Note that a client is at its end. A pooler in session mode resets the server session (DISCARD ALL).

        `settings`: those that it has after a reset besides those of its connection string.
        """
        number = self._pool.of(client.number)
        if number is not None and self.options.pooling is Pooling.SESSION and self.shares:
            clean(self._connections[number].pgconn, self._left, settings)
        self._release(client)

    def unlock_idle(self) -> None:
        """Release the advisory locks of the server sessions that no client has."""
        if self.shares and not self._left.isdisjoint((Leftover.ADVISORY, Leftover.HIDDEN)):
            for number in self._pool.idle:
                clean(self._connections[number].pgconn, [Leftover.ADVISORY], {})

    def _release(self, client: Client) -> None:
        """Give back the server session of a client, if it has one; a client that has waited for it goes on."""
        number = self._pool.of(client.number)
        if number is None:
            return
        self.moves += 1
        if self._follows_settings:
            now = _asked(self._connections[number].pgconn)
            self._of_client[client.number] = self._of_server_session[number] = now
        following = self._pool.give(client.number)
        if following is not None:
            self._move(self._clients[following])
            self._clients[following].granted()

    def _move(self, client: Client) -> None:
        """Have a client use the connection of its server session, with the settings that are the client's."""
        number = self._last[client.number] = self._pool.of(client.number)
        if not self.shares or number is None:
            return
        client.session.switch(self._connections[number])
        if self._follows_settings:
            wanted = self._of_client.get(client.number, self._first)
            there = self._of_server_session.get(number, self._first)
            if differing := [
                (name, one) for name, one, other in zip(_OF_CLIENTS, wanted, there, strict=True) if one != other
            ]:
                self._connections[number].pgconn.exec_(_set(differing))


def _asked(pgconn: pq.abc.PGconn) -> _Values:
    result = pgconn.exec_(_ASKED.as_bytes(None))
    return tuple((result.get_value(0, column) or b"").decode() for column in range(len(_OF_CLIENTS)))


def _set(values: Collection[tuple[str, str]]) -> bytes:
    commands = (sql.SQL("SELECT set_config({}, {}, false)").format(name, value) for name, value in values)
    return sql.SQL("; ").join(commands).as_bytes(None)
