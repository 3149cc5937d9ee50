"""What the round trips of a session that runs a callable may touch: the footprint of each, from its statements.

What a statement touches is said by racebench.exploration.independence; here is added what the session has sent before.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import psycopg
from psycopg import pq

from racebench.core.model import Statement
from racebench.exploration.independence import Footprint, calls, footprint, is_write
from racebench.exploration.sessions.connections import Connections
from racebench.exploration.sessions.round_trips import Explored
from racebench.postgres.compiler.transactions import begins, ends

_PLAIN_LEVELS = ("read committed", "repeatable read", "read uncommitted")


class Touches:
    """Follows the round trips of one session over its connections."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._may_be_serializable = False
        #: Whether a transaction of the session may have been serializable.
        self.serializable = False
        #: Connections in whose transaction there was a savepoint.
        self._nested: weakref.WeakSet[Explored] = weakref.WeakSet()

    def of(
        self,
        statement: Statement,
        parts: Sequence[Statement],
        connection: Explored,
        level: str,
        *,
        begin_is_seen: bool,
    ) -> Footprint:
        """The union of what its parts may touch; anything, if it is not certain what they are.

        `level`: the isolation level of the transaction that begins here; "" if none does. `begin_is_seen`: some
        statement asks when its transaction began.
        """
        if level:
            self._nested.discard(connection)  # a transaction begins here
        text = statement.sql.lower()
        if "savepoint" in text:
            self._nested.add(connection)
        if "serializable" in text or "set_config" in text:
            self._may_be_serializable = True
        is_serializable = connection.isolation_level == psycopg.IsolationLevel.SERIALIZABLE
        self.serializable |= is_serializable
        if level and level not in _PLAIN_LEVELS:
            self._may_be_serializable = self.serializable = True
        plain = not self._may_be_serializable and not is_serializable
        aborted = connection.pgconn.transaction_status == pq.TransactionStatus.INERROR
        ending = len(parts) == 1 and ends(parts[0])
        if aborted and ending and plain and connection not in self._nested:
            return Footprint.NOTHING  # the server released everything at the error, unless there was a savepoint
        if not parts:
            return Footprint.ANYTHING
        if any(is_write(part) and self._connections.writes_more(calls(part)) for part in parts):
            return Footprint.ANYTHING
        volatile = self._connections.volatile(set().union(*map(calls, parts)))
        touches = footprint(parts, isolation=None if plain else "serializable", volatile=volatile)
        if begin_is_seen and any(map(begins, parts)) and touches is not Footprint.ANYTHING:
            return Footprint.WRITE  # now() is the time of BEGIN
        return touches
