"""A Target: connection parameters, with the password kept out of every repr and report; and how a pooler shares it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Pooling(StrEnum):
    """For how long a pooler gives a client a session of the server, in PgBouncer's words (pool_mode)."""

    SESSION = "session"
    TRANSACTION = "transaction"
    STATEMENT = "statement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How to connect to a database, and what may be said about it.

    `parameters` are libpq's keywords; they may hold a password and are never shown.
    `sealed`: libpq's PG* environment variables are ignored (the embedded server). `server_pid`: the postmaster,
    if racebench started it, so that its CPU time can be read. `exclusive`: no other program uses the database.
    `pooler`: the sessions of workers reach the server through PgBouncer, which racebench starts, in that mode; all
    other sessions of racebench connect to the server itself.

    What is known of a user's server once it was asked (postgres/external.py): `pooled`: a pooler is in between;
    `keeps_search_path`: the search_path of the start-up packet reaches the server. `found`: settings of the role, the
    database or the server that differ from those that strategies are defined under; `settings` replace them.

    `standby`: a hot standby of this server, on which consumers read; `behind_ms`: a standby replays each commit so long
    after it.
    """

    kind: str
    parameters: Mapping[str, str] = field(repr=False)
    label: str
    sealed: bool = False
    server_pid: int | None = None
    exclusive: bool = False
    pooled: bool = False
    keeps_search_path: bool = True
    found: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    pooler: Pooling | None = None
    standby: Target | None = None
    behind_ms: int = 0

    @property
    def configured(self) -> bool:
        """Whether it is racebench's own pooler, whose sessions of the server have the schema and the settings."""
        return self.pooled and self.pooler is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyChoice:
    """Where consumers read too: on the user's `target`, or without one on an embedded standby, `delay_ms` behind."""

    target: Target | None = None
    delay_ms: int = 0
