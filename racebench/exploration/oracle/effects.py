"""The effect of a schedule: what it changed in the tables, and what it told its sessions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from racebench.exploration.oracle.values import Leaf
from racebench.exploration.told import Told
from racebench.postgres.copied_rows import TableChange


class Oracle(StrEnum):
    """What of an effect must be that of a serial order."""

    #: The tables alone.
    STATE = "state"
    #: The tables, and what the calls returned or raised.
    RETURNS = "returns"
    #: These, and every answer of the server.
    ANSWERS = "answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEffect:
    """How a session's operation ended. `error`: the SQLSTATE or the exception's name; "" without one.

    `unknown`: its connection was cut, so that it may have succeeded, and was told nothing. `returned`: what its call
    returned; `told`: the answers to its statements that were not rolled back. `drawn`: equal if it has drawn the same
    random numbers.
    """

    ok: bool
    error: str
    returned: tuple[Leaf, ...]
    told: tuple[Told, ...]
    drawn: int = 0
    unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a schedule changed and told. `undelivered`: the keys of the rows that the consumer never got."""

    tables: tuple[TableChange, ...]
    sessions: tuple[SessionEffect, ...]
    undelivered: tuple[str, ...] = ()

    @property
    def succeeded(self) -> frozenset[int]:
        """The numbers of the sessions whose operation succeeded."""
        return frozenset(number for number, session in enumerate(self.sessions, 1) if session.ok)

    @property
    def unknown(self) -> frozenset[int]:
        """The numbers of the sessions of which it is not known whether their operation succeeded."""
        return frozenset(number for number, session in enumerate(self.sessions, 1) if session.unknown)
