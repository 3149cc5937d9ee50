"""Which statements of an application pass the gate, and which wait for their turn.

What passes belongs to the step before it: settings, the BEGIN of a transaction, the end of one that has done nothing,
and reads of catalogs, with which drivers and pools look about. What a statement names is asked of the server.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg

from racebench.core.model import Statement
from racebench.exploration.independence import Footprint, calls, footprint
from racebench.exploration.wire.stream import Kind, Piece
from racebench.postgres.compiler.transactions import begins, ends

if TYPE_CHECKING:
    from racebench.exploration.sessions.connections import Connections

#: Statements about the session alone.
_OWN = frozenset({"SET", "RESET", "SHOW", "DEALLOCATE", "DISCARD", "LISTEN", "UNLISTEN", "CLOSE", ""})
#: What runs deferred triggers and checks.
_RUNS_DEFERRED = re.compile(r"\s*SET\s+CONSTRAINTS\b.*\bIMMEDIATE\b", re.I | re.S)
#: A select list of settings and nothing else.
_SETS = re.compile(
    r"\s*SELECT\s+(?:pg_catalog\.)?set_config\s*\([^()]*\)(?:\s*,\s*(?:pg_catalog\.)?set_config\s*\([^()]*\))*\s*", re.I
)
#: What pools send when a connection is given back.
_UNLOCKS = re.compile(r"\s*SELECT\s+(?:pg_catalog\.)?pg_advisory_unlock_all\s*\(\s*\)\s*", re.I)
#: Locks that a session keeps beyond its transaction.
_LOCKS = re.compile(r"\bpg_(?:try_)?advisory_lock(?:_shared)?\b", re.I)
_NAMES = """
SELECT lower(relname) FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
UNION SELECT lower(proname) FROM pg_proc JOIN pg_namespace AS n ON n.oid = pronamespace
WHERE nspname NOT IN ('pg_catalog', 'information_schema')
"""


class Policy:
    """Decides whether a piece waits for its turn. `monitor`: a connection that no session uses.

    `begin_is_seen`: some statement asks when its transaction began, so that BEGIN waits too.
    """

    def __init__(self, monitor: psycopg.Connection[Any], connections: Connections) -> None:
        self._monitor, self._connections = monitor, connections
        self.begin_is_seen = False
        #: An advisory lock may be held by a session, so that to give all of them back is seen by others.
        self.locks = False
        self._names: frozenset[str] | None = None
        self._silent: dict[str, bool] = {}

    def holds(self, piece: Piece) -> bool:
        """Whether a piece waits for its turn."""
        if piece.kind is Kind.CALL:
            return True
        if piece.kind is Kind.PARSE:
            return piece.stream.takes_snapshot(piece)
        parts = piece.parts
        if not parts:
            return True
        self.locks = self.locks or _LOCKS.search(piece.text) is not None
        return not all(self._passes(part, piece, single=len(parts) == 1) for part in parts)

    def _passes(self, part: Statement, piece: Piece, *, single: bool) -> bool:
        stream = piece.stream
        if _RUNS_DEFERRED.match(part.sql):
            return stream.status == b"E" or not stream.touched
        if part.keyword in _OWN:
            return not (part.keyword == "DISCARD" and self.locks)
        if stream.block and stream.takes_snapshot(piece):
            return False  # even SELECT 1: what the transaction reads later is as of now
        if _SETS.fullmatch(part.sql):
            return True
        if begins(part):
            return not self.begin_is_seen
        if ends(part):
            return single and (stream.status == b"E" or not stream.touched)
        if stream.status == b"E" and part.keyword != "ROLLBACK":
            return True  # the server refuses it
        if _UNLOCKS.fullmatch(part.sql):
            return not self.locks
        return self._only_looks_about(part)

    def _only_looks_about(self, part: Statement) -> bool:
        """Whether a statement reads nothing but catalogs, and constants."""
        if (known := self._silent.get(part.sql)) is None:
            names = calls(part)
            volatile = self._connections.volatile(names)
            reads = footprint([part], isolation=None, volatile=volatile) is Footprint.READ
            known = self._silent[part.sql] = reads and not names & self._known_names()
        return known

    def _known_names(self) -> frozenset[str]:
        if self._names is None:
            self._names = frozenset(name for (name,) in self._monitor.execute(_NAMES).fetchall())
        return self._names

    def forget_names(self) -> None:
        """Ask for the names again: they may have changed."""
        self._names = None
        self._silent.clear()
