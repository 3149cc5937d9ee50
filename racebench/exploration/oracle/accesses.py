"""What the sessions of a schedule searched for and wrote, in the order of its steps.

recorder.py has it from the server; naming.py gives it a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from racebench.postgres.copied_rows import Row

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
    """

    session: int
    step: int
    writes: tuple[Write, ...]
    before: Sequence[Answer | None]
    after: Sequence[Answer | None]


#: The answers to each search right before and right after a commit.
BeforeAndAfter = tuple[Sequence[Answer | None], Sequence[Answer | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accesses:
    """The searches and the commits of a schedule.

    `alone`: the answers around a commit where no other session runs; None if its session does not commit as often
    then. Few names depend on them, and to know them the session is run.
    """

    searches: Sequence[Search]
    commits: Sequence[Commit]
    alone: Callable[[Commit], BeforeAndAfter | None] = lambda _: None


class Alone:
    """The answers around the commits of a schedule where no other session runs; see Accesses.

    `run`: runs a session alone, and returns its commits. It is called once for each session that is asked for.
    """

    def __init__(self, commits: Sequence[Commit], run: Callable[[int], Sequence[Commit]]) -> None:
        self._commits, self._run = commits, run
        self._known: dict[int, Sequence[Commit]] = {}

    def __call__(self, commit: Commit) -> BeforeAndAfter | None:
        session = commit.session
        if session not in self._known:
            self._known[session] = self._run(session)
        own = [other.step for other in self._commits if other.session == session]
        alone = self._known[session]
        if len(own) != len(alone):
            return None
        other = alone[own.index(commit.step)]
        return other.before, other.after
