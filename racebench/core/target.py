"""A Target: connection parameters, with the password kept out of every repr and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How to connect to a database, and what may be said about it.

    `parameters` are libpq's keywords; they may hold a password and are never shown.
    `sealed`: libpq's PG* environment variables are ignored (the embedded server). `server_pid`: the postmaster,
    if racebench started it, so that its CPU time can be read. `exclusive`: no other program uses the database.
    """

    kind: str
    parameters: Mapping[str, str] = field(repr=False)
    label: str
    sealed: bool = False
    server_pid: int | None = None
    exclusive: bool = False
