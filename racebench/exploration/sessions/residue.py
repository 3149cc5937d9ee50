"""What a call has left in the connections that stay open after it, and its removal between schedules.

A connection that racebench gave is made as it was. One that the application keeps, in a pool, has what the application
itself has set on it: only what the calls may have changed since is put back, and what cannot be told from the
application's own is reported. The backends of closed connections are backends.py's.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Set
from typing import Any

import psycopg
from psycopg import pq, waiting

from racebench.exploration.leftovers import Leftover, custom_settings
from racebench.exploration.sessions import cleaning
from racebench.exploration.sessions.connections import Connections
from racebench.exploration.sessions.round_trips import AnyConnection, Explored

#: What no pool sets up for its connections.
_NEVER_A_POOLS = frozenset({Leftover.ADVISORY, Leftover.NUMBERS, Leftover.CURSORS})
_SETTINGS = frozenset({Leftover.SETTINGS, Leftover.HIDDEN})
#: What a pool may have set up for its connections, by the words that cleaning.kept has for it.
_PERHAPS_A_POOLS = {
    Leftover.TEMPORARY: "the temporary table",
    Leftover.PREPARED: "the prepared statement",
    Leftover.LISTENING: "the channel",
}
#: What a connection object itself remembers, as racebench gives it.
_GIVEN = {"autocommit": False, "isolation_level": None, "read_only": None, "deferrable": None}
_GIVEN_OUTSIDE = {"prepare_threshold": None, "row_factory": psycopg.rows.tuple_row}


class Residue:
    """What the calls of one session may have left in connections since these were last cleaned.

    `cached`: a sequence has a cache, of which every session keeps numbers.
    """

    def __init__(self, connections: Connections, *, cached: bool) -> None:
        self._connections = connections
        self._always = frozenset({Leftover.NUMBERS}) if cached else frozenset[Leftover]()
        self._left: weakref.WeakKeyDictionary[Explored, set[Leftover]] = weakref.WeakKeyDictionary()
        self._kept: dict[str, None] = {}

    def note(self, connection: Explored, text: str, left: Set[Leftover]) -> None:
        """Note what a statement may leave in a connection: before it is sent, or after a call that ran alone."""
        new = left | self._always
        if not new:
            return
        self._left.setdefault(connection, set()).update(new)
        if new & _SETTINGS:
            own = self._connections.own_settings
            own |= custom_settings([text])
            before = self._connections.settings_before
            if _idle(connection) and (connection not in before or not before[connection].keys() >= own):
                before[connection] = cleaning.settings(connection.pgconn, own) | before.get(connection, {})

    def remove(self, given: AnyConnection | None) -> None:
        """Clean the connections; `given`: the one that racebench gave. Raises DatabaseProblem."""
        for connection, left in list(self._left.items()):
            if _idle(connection):
                if given is not None and connection is given:
                    cleaning.clean(connection.pgconn, left, {})
                    self._connections.forget_settings(connection)
                else:
                    self._clean_a_pools(connection, left)
        self._left.clear()
        if given is not None and _idle(given):
            _as_given(given)

    def kept(self, given: AnyConnection | None, settings: Collection[str]) -> list[str]:
        """What connections hold although they were cleaned; `settings`: those that racebench has made there."""
        if given is not None and _idle(given):
            return [*self._kept, *cleaning.kept(given.pgconn, settings)]
        return [*self._kept]

    def _clean_a_pools(self, connection: Explored, left: Set[Leftover]) -> None:
        pgconn = connection.pgconn
        cleaning.clean(pgconn, _NEVER_A_POOLS if Leftover.HIDDEN in left else left & _NEVER_A_POOLS, {})
        if left & _SETTINGS:
            before = self._connections.settings_before.get(connection, {})
            cleaning.put_back(pgconn, before, self._connections.own_settings)
        hidden = Leftover.HIDDEN in left
        words = tuple(word for leftover, word in _PERHAPS_A_POOLS.items() if hidden or leftover in left)
        if left & _SETTINGS and not before:
            words += ("the setting", "the role")
        if words:
            self._kept |= dict.fromkeys(
                f"{what} in a connection that the application keeps open"
                for what in cleaning.kept(pgconn, ())
                if what.startswith(words)
            )


def _idle(connection: Explored) -> bool:
    return not connection.closed and connection.pgconn.transaction_status == pq.TransactionStatus.IDLE


def _as_given(connection: AnyConnection) -> None:
    """Give a connection object the attributes that it had when racebench gave it first."""
    for name, before in _GIVEN.items():
        if getattr(connection, name) != before:
            change = getattr(connection, f"_set_{name}_gen")(before)  # of both kinds; it sends nothing
            waiting.wait(change, connection.pgconn.socket, 0.1)
    kind = psycopg.Cursor if isinstance(connection, psycopg.Connection) else psycopg.AsyncCursor
    outside: dict[str, Any] = {**_GIVEN_OUTSIDE, "cursor_factory": kind}
    for name, value in outside.items():
        if getattr(connection, name) != value:
            setattr(connection, name, value)
