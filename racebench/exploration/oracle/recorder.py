"""Records what the sessions of a schedule search for and write: the schedule is run twice, and the server is asked.

The first run records the searches, unless they are known. In the second, each is asked for anew in each committed
state, over a connection that no session uses: a commit that changes its answer has written what the search was for. The
system columns of the rows say which transaction wrote them, also where it wrote the value that was there.
Source: PostgreSQL manual 5.6 (system columns), 53.12 (pg_locks).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import psycopg
from psycopg import pq, sql

from racebench.exploration.choices import without_cut
from racebench.exploration.independence import names_in
from racebench.exploration.oracle import searches
from racebench.exploration.oracle.accesses import (
    Accesses,
    Alone,
    Answer,
    Commit,
    Key,
    Search,
    Table,
    Values,
    Write,
)
from racebench.exploration.oracle.serial import Runner
from racebench.exploration.sessions.session import NOT_ANSWERED, Session, State, StrategySession
from racebench.exploration.told import columns_of, rows_of, shown
from racebench.postgres.copied_rows import Row
from racebench.postgres.message import Answer as Reply
from racebench.postgres.questions import Question, ask

#: Of a table with more rows, those alone are read that were written since the schedule began; deletes are not seen.
_MOST_ROWS = 1_000
_NEXT = b"SELECT pg_snapshot_xmax(pg_current_snapshot())::text::numeric % 4294967296"
_TRANSACTIONS = sql.SQL("""
SELECT pid, transactionid FROM pg_locks
WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted AND pid = ANY({}::int[])
""")
_COLUMNS = sql.SQL("""
SELECT attrelid, attnum, relname, attname FROM pg_attribute
JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = {} AND attnum > 0
""")
_KEY = """
SELECT array_agg(attname::text ORDER BY place) FROM pg_index
CROSS JOIN LATERAL unnest(indkey[0:indnkeyatts - 1]) WITH ORDINALITY AS part(number, place)
JOIN pg_attribute ON attrelid = indrelid AND attnum = number
WHERE indrelid = %s::regclass AND indisunique AND indisvalid AND indpred IS NULL AND indexprs IS NULL
GROUP BY indexrelid, indisprimary ORDER BY indisprimary DESC, indexrelid LIMIT 1
"""
_READ = sql.SQL("""
SELECT relname FROM pg_locks
JOIN pg_class c ON c.oid = relation JOIN pg_namespace n ON n.oid = relnamespace
WHERE pid = pg_backend_pid() AND locktype = 'relation' AND nspname = {} AND relkind IN ('r', 'p')
""")
#: Functions that may do something in a transaction that only reads, such as to take an advisory lock.
_VOLATILE = "SELECT DISTINCT lower(proname) FROM pg_proc WHERE lower(proname) = ANY(%s) AND provolatile = 'v'"


class Recorder(Protocol):
    """Watches a schedule from its begin to its end."""

    def begin(self) -> None:
        """The tables are restored; no session has taken a step."""

    def before(self, session: Session) -> None:
        """A session is about to take a step."""

    def after(self, session: Session) -> None:
        """It has, and all sessions are at rest."""


class Recording(Runner, Protocol):
    """Runs operations, and has them recorded while a recorder is set."""

    recorder: Recorder | None


def accesses_of(
    schedule: Sequence[int],
    runner: Recording,
    connection: psycopg.Connection[Any],
    schema: str,
    sessions: Sequence[StrategySession],
    tables: Mapping[Table, tuple[tuple[str, ...], Sequence[Row]]],
    *,
    polls: int,
    searched: SearchRecorder | None = None,
) -> Accesses | None:
    """The accesses of a schedule; None if it takes another course now. `connection`: one that no session uses.

    `tables`: those whose writes are recorded, with their rows before the schedule. A session is run alone, too, where
    a name depends on what it does then.
    `searched`: has recorded a run of the schedule; it is run again for that if it took another course, or without one.
    Raises psycopg.Error.
    """
    as_taken = [without_cut(number) for number in schedule]
    # A world that was made again has other sessions.
    if searched is not None and searched.sessions is sessions and searched.taken == as_taken:
        searching = searched
    else:
        searching = SearchRecorder(sessions)
        _record(searching, runner, schedule)
    committing = CommitRecorder(connection, schema, sessions, tables, searching.searches)
    _record(committing, runner, schedule)
    if not searching.taken == committing.taken == as_taken:
        return None
    commits = committing.commits

    def run_alone(session: int) -> Sequence[Commit]:
        runner.recorder = committing
        try:
            runner.run_serially((session, *[len(sessions) + 1] * polls), shifted=False)
        finally:
            runner.recorder = None
        return committing.commits

    return Accesses(searches=searching.searches, commits=commits, alone=Alone(commits, run_alone))


def _record(recorder: Recorder, runner: Recording, schedule: Sequence[int]) -> None:
    runner.recorder = recorder
    try:
        runner.run_again(schedule, shifted=False)
    finally:
        runner.recorder = None


class SearchRecorder:
    """Records the searches of sessions, and where in the schedule they were answered.

    `sessions`: those whose searches are recorded; `taken`: all, in the order of their steps.
    """

    def __init__(self, sessions: Sequence[StrategySession]) -> None:
        self.sessions = sessions
        self.begin()

    def begin(self) -> None:
        self.taken: list[int] = []
        self.searches: list[Search] = []
        #: The searches of the statement that a session has sent, and how many answers it had before.
        self._pending: dict[int, tuple[list[Search], int]] = {}

    def before(self, session: Session) -> None:
        if session not in self.sessions or session.state is not State.READY:
            return
        found = [
            Search(
                session=session.number,
                query=query.text,
                sent=len(self.taken),
                answered=len(self.taken),
                latest=query.locks,
                told="?" if query.whole else "",
            )
            for query in searches.queries(session.sql())
        ]
        self._pending[session.number] = (found, len(session.answers))

    def after(self, session: Session) -> None:
        for other in self.sessions:
            if other.number not in self._pending or other.state in NOT_ANSWERED:
                continue
            found, known = self._pending.pop(other.number)
            told = other.answers[-1] if len(other.answers) > known else ""
            if told.startswith("ERROR"):
                # The try is over: nothing is done on the ground of what it has read.
                self.searches = [search for search in self.searches if search.session != other.number]
                continue
            self.searches += [
                replace(search, answered=len(self.taken), told=told if search.told else "") for search in found
            ]
        self.taken.append(session.number)


@dataclass(frozen=True, slots=True)
class _Version:
    """A version of a row: the transaction that wrote it, and its values."""

    transaction: str
    values: Values


#: The rows of each table by their keys.
_Rows = dict[Table, dict[Key, _Version]]


class CommitRecorder:
    """Records the commits of sessions, and the answers to searches right before and right after each.

    `taken`: the sessions in the order of their steps.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        schema: str,
        sessions: Sequence[StrategySession],
        tables: Mapping[Table, tuple[tuple[str, ...], Sequence[Row]]],
        recorded: Sequence[Search],
    ) -> None:
        self._connection, self._schema, self._sessions = connection, schema, sessions
        self._columns = {table: columns for table, (columns, _) in tables.items()}
        self._sizes = {table: len(rows) for table, (_, rows) in tables.items()}
        self._keys = {table: self._key(table) for table in self._columns}
        names = {search.query: names_in(search.query) for search in recorded}
        asked = sorted(set[str]().union(*names.values()))
        volatile = {str(row[0]) for row in connection.execute(_VOLATILE, (asked,)).fetchall()} if asked else set()
        self._queries = [search.query if volatile.isdisjoint(names[search.query]) else "" for search in recorded]
        self.begin()

    def begin(self) -> None:
        self.taken: list[int] = []
        self.commits: list[Commit] = []
        self._owners: dict[str, int] = {}
        self._rows: _Rows = {}
        #: The tables may have been made again.
        columns = _COLUMNS.format(sql.Literal(self._schema))
        self._since = "3"
        begun, *read = ask(self._connection, [(_NEXT, columns), *self._reading(whole=True)])
        if begun is not None:
            self._since = str(begun[0].rows[0][0])
        self._origins = {
            (int(oid or 0), int(number or 0)): (("", str(table)), str(column))
            for oid, number, table, column in (() if begun is None else begun[1].rows)
        }
        self._rows = self._read(read, whole=True)
        self._answers = self._asked()

    def before(self, session: Session) -> None:
        """Nothing: what is committed shows after the step."""

    def after(self, session: Session) -> None:
        by_pid = {pid: other.number for other in self._sessions for pid in other.pids}
        transactions = _TRANSACTIONS.format(sql.Literal([*by_pid]))
        working, *read = ask(self._connection, [(transactions,), *self._reading(whole=False)])
        for pid, transaction in () if working is None else working[0].rows:
            self._owners[str(transaction)] = by_pid[int(pid or 0)]
        rows = self._read(read, whole=False)
        writes = list(_differences(self._rows, rows))
        if writes:
            owners = {self._owners.get(transaction, session.number) for _, transaction in writes}
            before = self._answers
            self._rows, self._answers = rows, self._asked()
            if len(owners) == 1:
                written = tuple(write for write, _ in writes)
                commit = Commit(
                    session=owners.pop(), step=len(self.taken), writes=written, before=before, after=self._answers
                )
                self.commits.append(commit)
        self.taken.append(session.number)

    def _reads_every(self, table: Table, *, whole: bool) -> bool:
        return whole or self._sizes[table] <= _MOST_ROWS

    def _reading(self, *, whole: bool) -> list[Question]:
        """The questions for the committed rows of each table; those written since the begin, of a large one."""
        questions: list[Question] = []
        for table, columns in self._columns.items():
            query = sql.SQL("SELECT {} FROM ONLY {}").format(
                sql.SQL(", ").join(sql.Identifier(name) for name in ("xmin", "ctid", *columns)),
                sql.Identifier(table[0] or self._schema, table[1]),
            )
            if not self._reads_every(table, whole=whole):
                query += sql.SQL(" WHERE age(xmin) <= age({}::xid)").format(sql.Literal(self._since))
            questions.append((query,))
        return questions

    def _read(self, answers: Sequence[Sequence[Reply] | None], *, whole: bool) -> _Rows:
        """The committed rows, from the answers; those of before of a table that another session has locked."""
        found: _Rows = {}
        for table, answer in zip(self._columns, answers, strict=True):
            before = self._rows.get(table, {})
            if answer is None:
                found[table] = before
                continue
            rows = self._rows_of(table, answer[0].rows)
            found[table] = rows if self._reads_every(table, whole=whole) else before | rows
        return found

    def _rows_of(self, table: Table, rows: Sequence[Row]) -> dict[Key, _Version]:
        """The rows of a table by their keys."""
        columns, key = self._columns[table], self._keys[table]
        found: dict[Key, _Version] = {}
        for transaction, place, *texts in rows:
            values = dict(zip(columns, texts, strict=True))
            only = len(rows) == 1 and self._sizes[table] == 1
            own = tuple((name, values[name]) for name in key) if key else () if only else (("ctid", place),)
            found[own] = _Version(str(transaction), values)
        return found

    def _asked(self) -> list[Answer | None]:
        """The answers to the searches among the committed rows."""
        queries = [*dict.fromkeys(query for query in self._queries if query)]
        read = _READ.format(sql.Literal(self._schema))
        answers = ask(self._connection, [(query.encode(), read) for query in queries])
        known = {query: self._answer(answer) for query, answer in zip(queries, answers, strict=True)}
        return [known.get(query) for query in self._queries]

    def _answer(self, replies: Sequence[Reply] | None) -> Answer | None:
        if replies is None or replies[0].result.status != pq.ExecStatus.TUPLES_OK:
            return None
        result, read = replies[0].result, replies[1].rows
        places = range(result.nfields)
        rows, columns = rows_of(result), columns_of(result)
        return Answer(
            columns=[self._origins.get((result.ftable(place), result.ftablecol(place))) for place in places],
            rows=rows,
            tables=frozenset(("", str(table)) for (table,) in read),
            # As sessions note it.
            told=shown(columns, rows[-1], len(rows)) if rows else (result.command_status or b"").decode(),
        )

    def _key(self, table: Table) -> tuple[str, ...]:
        """The columns of a unique index; none if there is no such index."""
        name = sql.Identifier(table[0] or self._schema, table[1]).as_string(self._connection)
        row = self._connection.execute(_KEY, (name,)).fetchone()
        key = tuple(map(str, row[0])) if row else ()
        return key if {*key} <= {*self._columns[table]} else ()


def _differences(before: _Rows, after: _Rows) -> Iterator[tuple[Write, str]]:
    """The rows that were written in between, with the transaction that did; "" for rows that are gone."""
    for table, rows in after.items():
        earlier = before.get(table, {})
        if earlier is rows:
            continue
        for key in {**earlier, **rows}:
            old, new = earlier.get(key), rows.get(key)
            if old == new:
                continue
            write = Write(
                table=table,
                key=key,
                before=None if old is None else old.values,
                after=None if new is None else new.values,
            )
            yield write, "" if new is None else new.transaction
