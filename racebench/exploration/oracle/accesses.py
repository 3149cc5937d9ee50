"""What the sessions of a schedule searched for and wrote, in the order of its steps.

recorder.py has it from the server; naming.py gives it a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from racebench.postgres.snapshot import Row

#: The schema and the name of a table; the schema of the search is "".
Table = tuple[str, str]
#: The values of a row by the names of its columns.
Values = Mapping[str, str | None]
#: What tells a row of a table from the others: columns with their values; none in a table of one row.
Key = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A query that a statement of a session ran, whole or as a part of it.

    `sent` and `answered` are places of steps in the schedule; a search that waited was answered later than it was sent.
    `latest`: after a wait it saw what the other session had committed, as FOR UPDATE does. `told`: the last row of the
    answer, as text; "" where the session was not told it.
    """

    session: int
    query: str
    sent: int
    answered: int
    latest: bool = False
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The committed answer to a query. `columns`: the table and column that each is, None for what is computed.

    `tables`: those that were read. `told`: as a session is told it.
    """

    columns: Sequence[tuple[Table, str] | None]
    rows: tuple[Row, ...]
    tables: frozenset[Table]
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A row that was written: its values before and after the commit; None where there was no such row."""

    table: Table
    key: Key
    before: Values | None
    after: Values | None

    @property
    def row(self) -> tuple[Table, Key]:
        """Which row it is."""
        return self.table, self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The step with which a session's writes were committed.

    `before` and `after`: the answers to each search right before and right after it; None where they are not known.
    `alone`: these two where no other session runs; None if the session does not commit as often then.
    """

    session: int
    step: int
    writes: tuple[Write, ...]
    before: Sequence[Answer | None]
    after: Sequence[Answer | None]
    alone: tuple[Sequence[Answer | None], Sequence[Answer | None]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accesses:
    """The searches and the commits of a schedule."""

    searches: Sequence[Search]
    commits: Sequence[Commit]


def with_alone(commits: Sequence[Commit], alone: Sequence[Commit], session: int) -> list[Commit]:
    """The commits of a schedule, those of one session with what they are where it runs `alone`."""
    own = [commit for commit in commits if commit.session == session]
    if len(own) != len(alone):
        return [*commits]
    of = {commit.step: (other.before, other.after) for commit, other in zip(own, alone, strict=True)}
    return [replace(commit, alone=of[commit.step]) if commit.session == session else commit for commit in commits]
