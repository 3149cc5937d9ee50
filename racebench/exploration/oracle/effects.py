"""The effect of a schedule: what it changed in the tables, and what it told its sessions; the facts that make it up.

Two effects are the same if the same facts hold of them, up to a renaming of labels (canonical.py, labels.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from racebench.exploration.oracle.canonical import Fact
from racebench.exploration.oracle.labels import Column, Labels
from racebench.exploration.oracle.values import Leaf
from racebench.exploration.told import Told
from racebench.postgres.snapshot import TableChange


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

    `returned`: what its call returned; `told`: the answers to its statements that were not rolled back.
    """

    ok: bool
    error: str
    returned: tuple[Leaf, ...]
    told: tuple[Told, ...]


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


def facts(
    effect: Effect, oracle: Oracle, among: Collection[int], labels: Labels, key: Column | None = None
) -> Iterator[Fact]:
    """The facts of an effect. `among`: the sessions that count; `key`: the column of a row's key."""
    for change in effect.tables:
        table = ".".join(change.table)
        columns = [(*change.table, column) for column in change.columns]
        for relation, rows in ((f"in {table}", change.added), (f"no more in {table}", change.removed)):
            for row in rows:
                yield relation, tuple(labels.term(column, text) for column, text in zip(columns, row, strict=True))
    for identity in effect.undelivered:
        yield "undelivered", (identity if key is None else labels.term(key, identity),)
    for number in sorted(among):
        session = effect.sessions[number - 1]
        yield f"s{number} ended", ("ok" if session.ok else "failed",)
        if oracle is Oracle.STATE:
            continue
        yield f"s{number} raised", (session.error,)
        for path, text in session.returned:
            yield f"s{number} returned {path}", (labels.leaf(number, path, text),)
        if oracle is Oracle.ANSWERS:
            for place, told in enumerate(session.told):
                relation = f"s{number} was told {place} {told.statement}"
                yield relation, (told.tag,)
                for row in told.rows:
                    yield (
                        f"{relation}:",
                        tuple(
                            labels.told(number, told.statement, column, text)
                            for column, text in zip(told.columns, row, strict=True)
                        ),
                    )
