"""The rule by which a pooler gives its server sessions to its clients, and what it refuses; without I/O.

A pool has the most recently used idle server session for a client that asks for one; with none idle it opens another,
up to its size; then the client waits, and the one that has waited longest is served first. When a client gives its
server session back depends on the mode (core.target.Pooling): at the end of a transaction, of a statement that is in
no transaction, or of the client.
Source: PgBouncer 1.18, `find_server` and `release_server` in src/objects.c, `per_loop_activate` in src/janitor.c, with
server_round_robin = 0, its default.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from racebench.core.model import Strategy
from racebench.core.target import Pooling
from racebench.postgres import requirements


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """The pooler of a search. `size`: the most server sessions that it opens."""

    pooling: Pooling
    size: int


class Pool:
    """Which client has which server session; both are numbered from 1. `size`: the most server sessions."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.begin()

    def begin(self) -> None:
        """No server session has been opened."""
        self._opened = 0
        self._idle: list[int] = []
        self._has: dict[int, int] = {}
        self._waiting: deque[int] = deque()

    def of(self, client: int) -> int | None:
        """The server session that a client has; None if it has none."""
        return self._has.get(client)

    @property
    def idle(self) -> tuple[int, ...]:
        """The server sessions that were opened and that no client has, the most recently used one last."""
        return tuple(self._idle)

    def take(self, client: int) -> int | None:
        """The server session for what a client sends; None if it has to wait for one."""
        if client in self._has:
            return self._has[client]
        if self._idle:
            self._has[client] = self._idle.pop()
        elif self._opened < self.size:
            self._opened += 1
            self._has[client] = self._opened
        else:
            self._waiting.append(client)
            return None
        return self._has[client]

    def give(self, client: int) -> int | None:
        """A client gives its server session back; the client that had waited for it and has it now, or None."""
        server_session = self._has.pop(client)
        if not self._waiting:
            self._idle.append(server_session)
            return None
        following = self._waiting.popleft()
        self._has[following] = server_session
        return following

    def leave(self, client: int) -> None:
        """A client that waits goes away."""
        self._waiting.remove(client)


def refusal(pooling: Pooling | None, strategy: Strategy) -> str:
    """Why a pooler in this mode cannot serve a strategy's script; "" if it can."""
    begun = requirements.refused_statement(strategy, pooling)
    if begun is None:
        return ""
    return (
        f"a pooler in statement mode refuses its transaction block ('{begun.text}' in line {begun.line}; PgBouncer: "
        '"transaction blocks not allowed in statement pooling mode"); use transaction mode'
    )
