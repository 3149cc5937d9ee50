"""A schema's rows and sequence values, kept in memory and restored between schedules.

A table is restored only if it has changed, which shows in its number of rows or in the last transaction that wrote one.
Each table of a partition or inheritance tree is a table of its own here, wherever in the tree its schema is. By default
only rows are restored: dead rows and widened index keys stay until a vacuum. With more care (storage.py) tables are
made anew. Who needs a restore, and when, is the caller's choice.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq, sql

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.core.quantity import quantity
from racebench.postgres import storage
from racebench.postgres.storage import Care, Storage, Ties

#: The most rows of a table that are kept in memory.
MOST_ROWS = 100_000
#: Restores between two at which dead rows are removed: every scan reads those that were deleted since the last one.
_CLEAN_EVERY = 500
#: The most bytes of a table's rows that may fit into a page twice.
_SMALL = 3_000

#: The schemas of a snapshot: one, or all others in which users keep something, without members of extensions.
_SCHEMAS = """
SELECT oid, nspname FROM pg_namespace
WHERE CASE WHEN %(others)s THEN nspname NOT IN (%(schema)s, 'information_schema') AND nspname !~ '^(pg|racebench)_'
    ELSE nspname = %(schema)s END
"""
_OF_EXTENSION = (
    "EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND classid = 'pg_class'::regclass AND deptype = 'e')"
)
_TABLES = f"""
WITH RECURSIVE space AS ({_SCHEMAS}), tree AS (
    SELECT c.oid FROM pg_class c JOIN space ON space.oid = relnamespace
    WHERE NOT %(others)s OR NOT {_OF_EXTENSION}
    UNION
    SELECT inhrelid FROM pg_inherits JOIN tree ON tree.oid = inhparent
)
SELECT nspname, relname, c.oid FROM tree
JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind = 'r' AND relpersistence <> 't' ORDER BY 1, 2
"""
_SEQUENCES = f"""
SELECT nspname, relname, seqmin, seqmax, seqincrement FROM pg_sequence JOIN pg_class c ON c.oid = seqrelid
JOIN ({_SCHEMAS}) AS space ON space.oid = relnamespace
WHERE NOT %(others)s OR NOT {_OF_EXTENSION} ORDER BY 1, 2
"""
_TRIGGERS = "SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal"
#: How a trigger that is enabled in each of these modes is enabled again, and the modes in which it fires in a restore.
_ENABLE = {"O": "ENABLE TRIGGER", "A": "ENABLE ALWAYS TRIGGER", "R": "ENABLE REPLICA TRIGGER"}
_FIRING_IN_REPLICA, _FIRING_OTHERWISE = ("A", "R"), ("O", "A")
_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
_REFERENCES = """
SELECT DISTINCT conrelid, confrelid FROM pg_constraint
WHERE contype = 'f' AND conrelid <> confrelid AND conrelid = ANY(%(tables)s) AND confrelid = ANY(%(tables)s)
"""


#: A row: the text of each of its values, None for NULL.
Row = tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChange:
    """The rows that a table has more, and those that it has no more, since a snapshot; an updated row is in both.

    `table`: its schema and name. The columns that are generated from others are left out.
    """

    table: tuple[str, str]
    columns: tuple[str, ...]
    added: tuple[Row, ...]
    removed: tuple[Row, ...]


@dataclass(slots=True)
class _Table:
    """`key`: its schema and name. `storage`: as the setup left it; None if it was not looked at.

    `copied`: its name and the columns that COPY reads and writes, so that one more column does not matter.
    """

    oid: int
    key: tuple[str, str]
    name: sql.Identifier
    columns: tuple[str, ...]
    copied: sql.Composable
    rows: bytes
    mark: tuple[Any, ...]
    triggers: list[tuple[str, str]]
    storage: Storage | None


class Snapshot:
    """What a schema's tables and sequences held when it was taken. Raises DatabaseProblem.

    `others`: those of all other schemas instead, in a database that no other program uses. `physical`: the storage may
    have to be made anew.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], schema: str, *, others: bool = False, physical: bool = False
    ) -> None:
        self._connection = connection
        self._restores = 0
        #: Why the storage cannot be made anew; "" as far as it can.
        self.not_anew = "" if physical else "it was not looked at"
        #: The sizes of tables and indexes when the tables were last made anew; None before that.
        self._pages: Sequence[tuple[Any, ...]] | None = None
        which = {"schema": schema, "others": others}
        try:
            self._superuser = _may_replicate(connection)
            ordered = _in_order(connection, which)
            self._tables = [self._read(oid, key, physical=physical) for oid, key in ordered.items()]
            self._ties = Ties(connection, ordered if physical else {})
            sequences = connection.execute(_SEQUENCES, which).fetchall()
            self._sequences = [(str(row[0]), str(row[1])) for row in sequences]
            #: The least and the greatest value of each sequence, and its increment.
            self._limits = [(int(row[2]), int(row[3]), int(row[4])) for row in sequences]
            self._values = self._sequence_values()
        except psycopg.Error as problem:
            raise DatabaseProblem(
                f"the tables cannot be read, so they could not be restored: {one_line(str(problem))}"
            ) from None

    def restore(self, over: psycopg.Connection[Any] | None = None, *, care: Care = Care.ROWS) -> None:
        """Restore every table and sequence that has changed; no other session may be in a transaction.

        `over`: a connection to use from now on, if the first one is lost. `care`: what else is restored, by making
        tables anew: they are truncated and filled, so that neither a dead row nor a page of an index is left, and get
        their statistics back. If the role may not do that, `not_anew` says why from now on.
        """
        self._connection = over or self._connection
        try:
            if care is Care.ROWS or not (self._made_anew() if care is Care.ALL else self._has_pages_as_new()):
                self._restore_rows(self._changed())
            self._restore_sequences()
        except psycopg.Error as problem:
            raise DatabaseProblem(f"the tables cannot be restored: {one_line(str(problem))}") from None

    def forget(self) -> None:
        """Restore nothing from now on: it is known that the tables cannot be restored."""
        self._tables, self._sequences, self._limits, self._values = [], [], [], []

    def changes(self) -> tuple[TableChange, ...]:
        """The changes of the tables' rows that are committed, with the tables in a fixed order."""
        try:
            found = [_change(table, self._copied(table.copied)) for table in self._changed()]
        except psycopg.Error as problem:
            raise DatabaseProblem(f"the rows of a schedule cannot be read: {one_line(str(problem))}") from None
        return tuple(sorted((change for change in found if change is not None), key=lambda change: change.table))

    def rows(self) -> Mapping[tuple[str, str], tuple[tuple[str, ...], Sequence[Row]]]:
        """The names of the columns and the rows of each table when the snapshot was taken."""
        return {table.key: (table.columns, _rows_of(table, table.rows.splitlines())) for table in self._tables}

    def shift(self, offset: int) -> Mapping[tuple[str, str], int]:
        """Move each sequence on, each by another number of its increments, so that its values can be told.

        Returns by how much each sequence's values grow: multiples of `offset`. Those that would come to their end stay,
        and those that this role may not set.
        """
        shifted: dict[tuple[str, str], int] = {}
        try:
            known = zip(self._sequences, self._limits, self._values, strict=True)
            for number, (key, (least, most, increment), (last, called)) in enumerate(known, 1):
                by = number * offset * increment
                if least <= last + 2 * by <= most:
                    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                        self._set(key, last + by, called=called)
                        shifted[key] = by
        except psycopg.Error as problem:
            raise DatabaseProblem(f"a sequence cannot be moved on: {one_line(str(problem))}") from None
        return shifted

    def _changed(self) -> list[_Table]:
        return [table for table, mark in zip(self._tables, self._marks(), strict=True) if mark != table.mark]

    def _restore_rows(self, changed: list[_Table]) -> None:
        connection = self._connection
        if changed and not self._superuser:
            changed = self._tables  # foreign keys are checked: the tables that refer to a changed one go with it
        if changed:
            with connection.transaction(), self._without_triggers(changed):
                for table in reversed(changed):
                    connection.execute(sql.SQL("DELETE FROM ONLY {}").format(table.name))
                for table in changed:
                    if table.rows:
                        self._write(table)
            for table in changed:
                self._check(table)
        self._restores += bool(changed)
        # Made anew where possible: after VACUUM the server would know more of the tables, and plan in another way.
        if changed and self._restores % _CLEAN_EVERY == 0 and not self._made_anew():
            for table in changed:
                connection.execute(sql.SQL("VACUUM {}").format(table.name))

    def _has_pages_as_new(self) -> bool:
        """Restore rows, and make the tables anew if one of them or an index has grown; False if that cannot be done."""
        oids = [table.oid for table in self._tables]
        # A table of several pages would grow while its rows are put back.
        changed = self._changed()
        if self._pages is not None and all(len(table.rows) < _SMALL for table in changed):
            self._restore_rows(changed)
            if storage.pages(self._connection, oids) == self._pages:
                return True
        if not self._made_anew():
            return False
        self._pages = storage.pages(self._connection, oids)
        return True

    def _made_anew(self) -> bool:
        """Make the tables anew into which anything was inserted; False if that cannot be done."""
        if self.not_anew:
            return False
        connection = self._connection
        stored = storage.with_pages(connection, [table.oid for table in self._tables])
        if stored is None:
            return False
        emptied = self._ties.with_others(stored)
        if outside := self._ties.outside(emptied):
            self.not_anew = f"{outside}, which is in another schema, depends on them"
            return False
        filled = [table for table in self._tables if table.rows]
        tables = [table for table in self._tables if table.oid in set(emptied) or table.rows]
        # TRUNCATE alone fires no trigger of a foreign key.
        firing = [table for table in tables if table.triggers]
        try:
            with connection.transaction(), contextlib.ExitStack() as stack:
                if filled or firing:
                    stack.enter_context(self._without_triggers(firing))
                if emptied:
                    connection.execute(self._ties.truncate(emptied))
                for table in filled:
                    self._write(table)
                for name in _built(tables):
                    connection.execute(sql.SQL("REINDEX INDEX {}").format(name))
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported) as problem:
            self.not_anew = one_line(str(problem))
            return False
        for table in tables:
            self._check(table)
            self._describe(table)
        return True

    def _describe(self, table: _Table) -> None:
        """Have the server look at a table that was made anew, as far as it had done so before: plans depend on that."""
        if table.storage is not None and table.storage.vacuumed:
            self._connection.execute(sql.SQL("VACUUM {}").format(table.name))
        elif table.storage is not None and table.storage.analyzed and not table.storage.built:
            self._connection.execute(sql.SQL("ANALYZE {}").format(table.name))

    def _restore_sequences(self) -> None:
        values = self._sequence_values()
        for name, before, now in zip(self._sequences, self._values, values, strict=True):
            if before != now:
                last, called = before
                self._set(name, last, called=called)

    @contextlib.contextmanager
    def _without_triggers(self, tables: list[_Table]) -> Iterator[None]:
        """Within a transaction, fire no trigger of these tables, and check no foreign key if the role may do that."""
        if self._superuser:
            self._connection.execute("SET LOCAL session_replication_role = replica")
        self._switch_triggers(tables, enabled=False)
        yield
        self._switch_triggers(tables, enabled=True)

    def _check(self, table: _Table) -> None:
        """Take the new mark of a restored table; raises DatabaseProblem if it has not as many rows as before."""
        rows = table.mark[0]
        emptied = self._superuser and not table.rows
        table.mark = (0, None) if emptied else self._mark(table.name)
        if table.mark[0] != rows:
            raise DatabaseProblem(
                f"table {table.name.as_string(self._connection)} has {quantity(table.mark[0], 'row')} "
                f"after it was restored, not {rows}: a rule, a trigger or row security changes what is written; "
                "explore as a superuser"
            )

    def _switch_triggers(self, tables: list[_Table], *, enabled: bool) -> None:
        """Disable the triggers of tables that a restore would fire, or enable them as they were."""
        for table in tables:
            for name, mode in table.triggers:
                action = sql.SQL(_ENABLE[mode] if enabled else "DISABLE TRIGGER")
                command = sql.SQL("ALTER TABLE {} {} {}")
                self._connection.execute(command.format(table.name, action, sql.Identifier(name)))

    def _set(self, sequence: tuple[str, str], last: int, *, called: bool) -> None:
        name = sql.Identifier(*sequence).as_string(self._connection)
        self._connection.execute("SELECT setval(%s::regclass, %s, %s)", (name, last, called))

    def _read(self, oid: int, key: tuple[str, str], *, physical: bool) -> _Table:
        name = sql.Identifier(*key)
        row = self._connection.execute(sql.SQL("SELECT count(*) FROM ONLY {}").format(name)).fetchone()
        if row is not None and row[0] > MOST_ROWS:
            raise DatabaseProblem(
                f"table {name.as_string(self._connection)} has {row[0]} rows after the setup; "
                f"at most {MOST_ROWS} can be restored before each schedule: have the setup insert fewer"
            )
        asked = self._connection.execute(_COLUMNS, (name.as_string(self._connection),)).fetchall()
        columns = tuple(str(row[0]) for row in asked)
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        copied = sql.SQL("{} ({})").format(name, listed) if columns else name
        rows = self._copied(copied)
        triggers = self._connection.execute(_TRIGGERS, (name.as_string(self._connection),)).fetchall()
        firing = _FIRING_IN_REPLICA if self._superuser else _FIRING_OTHERWISE
        disabled = [(str(row[0]), str(row[1])) for row in triggers if row[1] in firing]
        stored = storage.read(self._connection, name) if physical else None
        return _Table(oid, key, name, columns, copied, rows, self._mark(name), disabled, stored)

    def _copied(self, copied: sql.Composable) -> bytes:
        """The rows of a table, in COPY's text format."""
        # Not by a cursor, which waits for each row by itself: 50 µs a row while a call is explored.
        connection, parts = self._connection.pgconn, []
        result = connection.exec_(sql.SQL("COPY {} TO STDOUT").format(copied).as_bytes(self._connection))
        if result.status == pq.ExecStatus.COPY_OUT:
            while (part := connection.get_copy_data(0))[0] > 0:
                parts.append(bytes(part[1]))
            result = connection.get_result() or result
            while connection.get_result() is not None:
                pass
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)
        return b"".join(parts)

    def _write(self, table: _Table) -> None:
        command = sql.SQL("COPY {} FROM STDIN").format(table.copied)
        with self._connection.cursor() as cursor, cursor.copy(command) as copy:
            copy.write(table.rows)

    def _marks(self) -> list[tuple[Any, ...]]:
        if not self._tables:
            return []
        query = sql.SQL(" UNION ALL ").join(_mark_query(n, table.name) for n, table in enumerate(self._tables))
        rows = self._connection.execute(sql.SQL("{} ORDER BY 1").format(query), prepare=True).fetchall()
        return [tuple(row[1:]) for row in rows]

    def _mark(self, name: sql.Identifier) -> tuple[Any, ...]:
        row = self._connection.execute(_mark_query(0, name)).fetchone()
        assert row is not None  # an aggregate
        return tuple(row[1:])

    def _sequence_values(self) -> list[tuple[int, bool]]:
        if not self._sequences:
            return []
        parts = [
            sql.SQL("SELECT {}, last_value, is_called FROM {}").format(sql.Literal(n), sql.Identifier(*name))
            for n, name in enumerate(self._sequences)
        ]
        query = sql.SQL("{} ORDER BY 1").format(sql.SQL(" UNION ALL ").join(parts))
        return [(row[1], row[2]) for row in self._connection.execute(query, prepare=True).fetchall()]


def _change(table: _Table, now: bytes) -> TableChange | None:
    """The change of a table's rows; None if it has the same rows as before."""
    before, after = Counter(table.rows.splitlines()), Counter(now.splitlines())
    added, removed = after - before, before - after
    if not added and not removed:
        return None
    return TableChange(
        table=table.key,
        columns=table.columns,
        added=_rows_of(table, sorted(added.elements())),
        removed=_rows_of(table, sorted(removed.elements())),
    )


def _rows_of(table: _Table, lines: Iterable[bytes]) -> tuple[Row, ...]:
    """Rows in COPY's text format. Escapes are left as they are: equal values have equal texts."""
    if not table.columns:
        return tuple(() for _ in lines)
    texts = (line.decode(errors="replace").split("\t") for line in lines)
    return tuple(tuple(None if text == "\\N" else text for text in row) for row in texts)


def _mark_query(number: int, name: sql.Identifier) -> sql.Composed:
    return sql.SQL("SELECT {}, count(*), max(xmin::text::bigint) FROM ONLY {}").format(sql.Literal(number), name)


def _built(tables: Iterable[_Table]) -> list[sql.Identifier]:
    return [name for table in tables if table.storage is not None for name in table.storage.built]


def _in_order(connection: psycopg.Connection[Any], which: Mapping[str, Any]) -> dict[int, tuple[str, str]]:
    """The tables by OID, referenced tables before those that refer to them."""
    names = {int(row[2]): (str(row[0]), str(row[1])) for row in connection.execute(_TABLES, which).fetchall()}
    needs: dict[int, set[int]] = {oid: set() for oid in names}
    for referring, referred in connection.execute(_REFERENCES, {"tables": [*names]}).fetchall():
        needs[int(referring)].add(int(referred))
    ordered: list[int] = []
    while needs:
        # In a circle of references, begin anywhere.
        ready = [oid for oid, others in needs.items() if not others] or list(needs)[:1]
        for oid in ready:
            ordered.append(oid)
            del needs[oid]
        for others in needs.values():
            others.difference_update(ready)
    return {oid: names[oid] for oid in ordered}


def _may_replicate(connection: psycopg.Connection[Any]) -> bool:
    """Whether this role may disable triggers and foreign keys for a transaction; only superusers may."""
    try:
        with connection.transaction():
            connection.execute("SET LOCAL session_replication_role = replica")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
