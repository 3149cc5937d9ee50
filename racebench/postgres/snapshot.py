"""A schema's rows and sequence values, kept in memory and restored between schedules.

A table is restored only if it has changed, which shows in its number of rows or in the last transaction that wrote one.
Each table of a partition or inheritance tree is a table of its own here, wherever in the tree its schema is. By default
only rows are restored: dead rows and widened index keys stay until a vacuum. With more care (storage.py) tables are
made anew. Who needs a restore, and when, is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.core.quantity import quantity
from racebench.postgres import storage
from racebench.postgres.copied_rows import Row, TableChange, change_of, rows_of
from racebench.postgres.message import Statement, send
from racebench.postgres.placement import Placement
from racebench.postgres.saved_table import Mark, SavedTable, Value
from racebench.postgres.storage import Care, Ties

#: The most rows of a table that are kept in memory.
MOST_ROWS = 100_000
#: Restores between two at which dead rows are removed: every scan reads those that were deleted since the last one.
_CLEAN_EVERY = 500
#: The most bytes of a table's rows that may fit into a page twice.
_SMALL = 3_000
#: The most bytes of a table's rows that are read before it is known that the table has changed.
_READ_AT_ONCE = 100_000

#: The schemas of a snapshot: one, or all others in which users keep something, without members of extensions.
_SCHEMAS = """
SELECT oid, nspname FROM pg_namespace
WHERE CASE WHEN {others} THEN nspname NOT IN ({schema}, 'information_schema') AND nspname !~ '^(pg|racebench)_'
    ELSE nspname = {schema} END
"""
_OF_EXTENSION = (
    "EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND classid = 'pg_class'::regclass AND deptype = 'e')"
)
_TABLES = sql.SQL(f"""
WITH RECURSIVE space AS ({_SCHEMAS}), tree AS (
    SELECT c.oid FROM pg_class c JOIN space ON space.oid = relnamespace
    WHERE NOT {{others}} OR NOT {_OF_EXTENSION}
    UNION
    SELECT inhrelid FROM pg_inherits JOIN tree ON tree.oid = inhparent
)
SELECT nspname, relname, c.oid FROM tree
JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind = 'r' AND relpersistence <> 't' ORDER BY 1, 2
""")
_SEQUENCES = sql.SQL(f"""
SELECT nspname, relname, seqmin, seqmax, seqincrement FROM pg_sequence JOIN pg_class c ON c.oid = seqrelid
JOIN ({_SCHEMAS}) AS space ON space.oid = relnamespace
WHERE NOT {{others}} OR NOT {_OF_EXTENSION} ORDER BY 1, 2
""")
_TRIGGERS = sql.SQL("""
SELECT tgrelid, tgname, tgenabled FROM pg_trigger WHERE tgrelid = ANY({}::oid[]) AND NOT tgisinternal
""")
#: How a trigger that is enabled in each of these modes is enabled again, and the modes in which it fires in a restore.
_ENABLE = {"O": "ENABLE TRIGGER", "A": "ENABLE ALWAYS TRIGGER", "R": "ENABLE REPLICA TRIGGER"}
_FIRING_IN_REPLICA, _FIRING_OTHERWISE = ("A", "R"), ("O", "A")
_COLUMNS = sql.SQL("""
SELECT attrelid, attname FROM pg_attribute
WHERE attrelid = ANY({}::oid[]) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
""")
_REFERENCES = sql.SQL("""
SELECT DISTINCT conrelid, confrelid FROM pg_constraint
WHERE contype = 'f' AND conrelid <> confrelid AND conrelid = ANY({tables}::oid[]) AND confrelid = ANY({tables}::oid[])
""")
#: What a superuser fires no trigger and checks no foreign key with.
_REPLICATING = b"SET LOCAL session_replication_role = replica"


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
        #: The query for the marks of the tables and the values of the sequences.
        self._asking = b""
        #: The names of sequences as literals.
        self._names: dict[tuple[str, str], bytes] = {}
        #: What it said when changes were last asked for; None if something was restored since.
        self._left: tuple[list[Mark], list[Value]] | None = None
        #: The tables that had changed then, which the next changes are likely to be in.
        self._likely: list[SavedTable] = []
        which = {"schema": sql.Literal(schema), "others": sql.Literal(others)}
        try:
            self._superuser = _may_replicate(connection)
            tables, sequences = send(connection, [_TABLES.format(**which), _SEQUENCES.format(**which)])
            self._sequences = [(str(row[0]), str(row[1])) for row in sequences.rows]
            #: The least and the greatest value of each sequence, and its increment.
            self._limits = [(int(row[2] or 0), int(row[3] or 0), int(row[4] or 0)) for row in sequences.rows]
            names = {int(row[2] or 0): (str(row[0]), str(row[1])) for row in tables.rows}
            self._tables, self._ties, self._values = self._read(names, physical=physical)
            self._note_names()
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
        left, self._left = self._left, None
        try:
            if care is Care.ROWS and left is not None and self._is_restored_from(*left):
                return
            if care is Care.ROWS or not (self._made_anew() if care is Care.ALL else self._has_pages_as_new()):
                marks, values = self._state()
                changed = self._differing(marks)
                self._restore_rows(changed, values)
                if not any(table.rows for table in changed):
                    return
            # A column that was added may take its default from a sequence.
            self._restore_rows([], self._state()[1])
        except psycopg.Error as problem:
            raise DatabaseProblem(f"the tables cannot be restored: {one_line(str(problem))}") from None

    @property
    def has_rows(self) -> bool:
        """Whether there was a row in a table."""
        return any(table.rows for table in self._tables)

    def is_described_as_before(self) -> bool:
        """Whether the server knows as much of the tables as it did: plans depend on that. Raises psycopg.Error."""
        stored = [(table, table.storage) for table in self._tables if table.storage is not None]
        questions = [storage.questions(table.name, table.oid)[1] for table, _ in stored]
        answers = send(self._connection, questions)
        return all(
            storage.known(answer) == (before.analyzed, before.vacuumed)
            for (_, before), answer in zip(stored, answers, strict=True)
        )

    def forget(self) -> None:
        """Restore nothing from now on: it is known that the tables cannot be restored."""
        self._tables, self._sequences, self._limits, self._values = [], [], [], []
        self._left, self._likely = None, []
        self._note_names()

    def changes(self) -> tuple[TableChange, ...]:
        """The changes of the tables' rows that are committed, with the tables in a fixed order."""
        try:
            found = [change_of(table.key, table.columns, table.rows, now) for table, now in self._read_changed()]
        except psycopg.Error as problem:
            raise DatabaseProblem(f"the rows of a schedule cannot be read: {one_line(str(problem))}") from None
        return tuple(sorted((change for change in found if change is not None), key=lambda change: change.table))

    def rows(self) -> Mapping[tuple[str, str], tuple[tuple[str, ...], Sequence[Row]]]:
        """The names of the columns and the rows of each table when the snapshot was taken."""
        return {table.key: (table.columns, rows_of(table.columns, table.rows.splitlines())) for table in self._tables}

    @property
    def placement(self) -> Placement:
        """Where the rows are stored."""
        return Placement(self._connection, self._tables, self._ties, self._without_triggers)

    def shift(self, offset: int) -> Mapping[tuple[str, str], int]:
        """Move each sequence on, each by another number of its increments, so that its values can be told.

        Returns by how much each sequence's values grow: multiples of `offset`. Those that would come to their end stay,
        and those that this role may not set.
        """
        known = zip(self._sequences, self._limits, self._values, strict=True)
        shifted: dict[tuple[str, str], int] = {}
        commands: list[Statement] = []
        for number, (key, (least, most, increment), (last, called)) in enumerate(known, 1):
            by = number * offset * increment
            if least <= last + 2 * by <= most:
                shifted[key] = by
                commands.append(self._set(key, last + by, called))
        try:
            try:
                send(self._connection, commands)
            except psycopg.errors.InsufficientPrivilege:  # on one of them: the others are moved on one by one
                for key, command in zip(list(shifted), commands, strict=True):
                    try:
                        send(self._connection, [command])
                    except psycopg.errors.InsufficientPrivilege:
                        del shifted[key]
        except psycopg.Error as problem:
            raise DatabaseProblem(f"a sequence cannot be moved on: {one_line(str(problem))}") from None
        return shifted

    def _read_changed(self) -> list[tuple[SavedTable, bytes]]:
        """The tables that have changed, with their rows. Those that had changed before are read at once."""
        if not self._asking:
            return []
        state, *copied = send(self._connection, [self._asking, *(table.reading for table in self._likely)])
        self._left = self._said(state.rows)
        rows = {table.oid: answer.copied for table, answer in zip(self._likely, copied, strict=True)}
        changed = self._differing(self._left[0])
        more = [table for table in changed if table.oid not in rows]
        copied = send(self._connection, [table.reading for table in more])
        rows |= {table.oid: answer.copied for table, answer in zip(more, copied, strict=True)}
        self._likely = [table for table in changed if len(table.rows) < _READ_AT_ONCE]
        return [(table, rows[table.oid]) for table in changed]

    def _changed(self) -> list[SavedTable]:
        return self._differing(self._state()[0])

    def _differing(self, marks: Sequence[Mark]) -> list[SavedTable]:
        return [table for table, mark in zip(self._tables, marks, strict=True) if mark != table.mark]

    def _is_restored_from(self, marks: Sequence[Mark], values: Sequence[Value]) -> bool:
        """Restore what has changed by a state that was seen, and say whether that was everything.

        It is not if something has changed since, or if what is written is changed by a rule or a trigger.
        """
        if not self._asking:
            return True
        changed, filled, statements = self._restoring(self._differing(marks), values)
        answers = send(self._connection, [*statements, self._asking], [table.rows for table in filled])
        marks, values = self._said(answers[-1].rows)
        whole = values == self._values
        written = {table.oid for table in changed}
        for table, mark in zip(self._tables, marks, strict=True):
            if table.oid in written and mark[0] == table.mark[0]:
                table.mark = mark
            whole &= mark == table.mark
        self._clean(changed)
        return whole

    def _restore_rows(self, changed: list[SavedTable], values: Sequence[Value] = ()) -> None:
        """Restore the rows of tables, if any have changed, and the sequences, of which these values are known."""
        changed, filled, statements = self._restoring(changed, values)
        if changed:
            self._write(changed, statements, filled)
        elif statements:
            send(self._connection, statements)
        self._clean(changed)

    def _restoring(
        self, changed: list[SavedTable], values: Sequence[Value]
    ) -> tuple[list[SavedTable], list[SavedTable], list[Statement]]:
        """The tables that are written if some have changed, those of them that are filled, and the statements."""
        if changed and not self._superuser:
            changed = self._tables  # foreign keys are checked: the tables that refer to a changed one go with it
        filled = [table for table in changed if table.rows]
        known = list(zip(self._sequences, self._values, values, strict=True)) if values else []
        differing = [self._set(name, *before) for name, before, now in known if before != now]
        if not changed:
            return [], [], differing
        emptying = [table.emptying for table in reversed(changed)]
        filling = [table.filling for table in filled]
        return changed, filled, [*self._without_triggers(changed, [*emptying, *filling]), *differing]

    def _clean(self, changed: Sequence[SavedTable]) -> None:
        """Count a restore, and remove the dead rows at times."""
        self._restores += bool(changed)
        # Made anew where possible: after VACUUM the server would know more of the tables, and plan in another way.
        if changed and self._restores % _CLEAN_EVERY == 0 and not self._made_anew():
            for table in changed:
                send(self._connection, [sql.SQL("VACUUM {}").format(table.name)])

    def _write(
        self, tables: Sequence[SavedTable], statements: Sequence[Statement], filled: Sequence[SavedTable]
    ) -> None:
        """Write the rows of tables anew and note their new marks; `filled`: whose rows the statements copy, in order.

        Raises DatabaseProblem if a table has not as many rows as before.
        """
        # The tables that no rule or trigger keeps from being emptied need not be asked.
        known: dict[int, Mark] = {table.oid: (0, None) for table in tables if self._superuser and not table.rows}
        marking = [_mark_query(0, table.name) for table in tables if table.oid not in known]
        answers = send(self._connection, [*statements, *marking], [table.rows for table in filled])
        marks = (_mark(answer.rows[0][1:]) for answer in answers[len(statements) :])
        for table in tables:
            before, table.mark = table.mark, known.get(table.oid) or next(marks)
            if table.mark[0] != before[0]:
                raise DatabaseProblem(
                    f"table {table.name.as_string(self._connection)} has {quantity(table.mark[0], 'row')} "
                    f"after it was restored, not {before[0]}: a rule, a trigger or row security changes what is "
                    "written; explore as a superuser"
                )

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
        statements: list[Statement] = [self._ties.truncate(emptied)] if emptied else []
        statements += [table.filling for table in filled]
        statements += [sql.SQL("REINDEX INDEX {}").format(name) for name in _built(tables)]
        if filled or firing:
            statements = self._without_triggers(firing, statements)
        else:
            statements = [b"BEGIN", *statements, b"COMMIT"]
        try:
            self._write(tables, statements, filled)
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported) as problem:
            self.not_anew = one_line(str(problem))
            return False
        for table in tables:
            self._describe(table)
        return True

    def _describe(self, table: SavedTable) -> None:
        """Have the server look at a table that was made anew, as far as it had done so before: plans depend on that."""
        if table.storage is not None and table.storage.vacuumed:
            send(self._connection, [sql.SQL("VACUUM {}").format(table.name)])
        elif table.storage is not None and table.storage.analyzed and not table.storage.built:
            send(self._connection, [sql.SQL("ANALYZE {}").format(table.name)])

    def _without_triggers(self, tables: Sequence[SavedTable], statements: Sequence[Statement]) -> list[Statement]:
        """A transaction in which statements fire no trigger of these tables, and check no foreign key if possible."""
        return [
            b"BEGIN",
            *([_REPLICATING] if self._superuser else []),
            *_switches(tables, enabled=False),
            *statements,
            *_switches(tables, enabled=True),
            b"COMMIT",
        ]

    def _set(self, sequence: tuple[str, str], last: int, called: bool) -> Statement:
        if sequence not in self._names:
            name = sql.Identifier(*sequence).as_string(self._connection)
            self._names[sequence] = sql.Literal(name).as_bytes(self._connection)
        return b"SELECT setval(%s::regclass, %d, %s)" % (self._names[sequence], last, b"true" if called else b"false")

    def _bytes(self, text: LiteralString, name: sql.Composable) -> bytes:
        return sql.SQL(text).format(name).as_bytes(self._connection)

    def _read(
        self, names: Mapping[int, tuple[str, str]], *, physical: bool
    ) -> tuple[list[SavedTable], Ties, list[Value]]:
        """The tables of these names, by OID, and the values of the sequences."""
        tables = {oid: sql.Identifier(*key) for oid, key in names.items()}
        oids = sql.Literal([*tables])
        shared = [_REFERENCES.format(tables=oids), _COLUMNS.format(oids), _TRIGGERS.format(oids)]
        values = [_value_query(0, key) for key in self._sequences]
        marking = [_mark_query(0, name) for name in tables.values()]
        asked = [storage.questions(name, oid) for oid, name in tables.items()] if physical else []
        tied = [Ties.question(names)] if physical else []
        answers = iter(
            send(
                self._connection,
                [*shared, *values, *marking, *(question for pair in asked for question in pair), *tied],
            )
        )
        references, columns, triggers = (answer.rows for answer in islice(answers, len(shared)))
        read = [_value(answer.rows[0][1:]) for answer in islice(answers, len(values))]
        marks = dict(zip(tables, (_mark(answer.rows[0][1:]) for answer in islice(answers, len(marking))), strict=True))
        stored = {oid: storage.answered(*islice(answers, 2)) for oid in tables if physical}
        for oid, (rows, _) in marks.items():
            if rows > MOST_ROWS:
                raise DatabaseProblem(
                    f"table {tables[oid].as_string(self._connection)} has {rows} rows after the setup; "
                    f"at most {MOST_ROWS} can be restored before each schedule: have the setup insert fewer"
                )
        ordered = _in_order(names, references)
        named = {oid: tuple(str(name) for of, name in columns if of == str(oid)) for oid in ordered}
        copied = {
            oid: sql.SQL("{} ({})").format(tables[oid], sql.SQL(", ").join(map(sql.Identifier, named[oid])))
            if named[oid]
            else tables[oid]
            for oid in ordered
        }
        reading = {oid: self._bytes("COPY {} TO STDOUT", copied[oid]) for oid in ordered}
        rows_of = dict(zip(ordered, send(self._connection, [*reading.values()]), strict=True))
        firing = _FIRING_IN_REPLICA if self._superuser else _FIRING_OTHERWISE
        found = [
            SavedTable(
                oid,
                key,
                tables[oid],
                named[oid],
                reading[oid],
                self._bytes("DELETE FROM ONLY {}", tables[oid]),
                self._bytes("COPY {} FROM STDIN", copied[oid]),
                rows_of[oid].copied,
                marks[oid],
                [(str(name), str(mode)) for of, name, mode in triggers if of == str(oid) and mode in firing],
                stored.get(oid),
            )
            for oid, key in ordered.items()
        ]
        return found, Ties(next(answers).rows, ordered) if physical else Ties([], {}), read

    def _note_names(self) -> None:
        """Make the query for the state again: tables or sequences have changed."""
        parts = [
            *(_mark_query(place, table.name) for place, table in enumerate(self._tables)),
            *(_value_query(place, key) for place, key in enumerate(self._sequences, len(self._tables))),
        ]
        query = sql.SQL("{} ORDER BY 1").format(sql.SQL(" UNION ALL ").join(parts))
        self._asking = query.as_bytes(self._connection) if parts else b""

    def _state(self) -> tuple[list[Mark], list[Value]]:
        """The marks of the tables and the values of the sequences now."""
        if not self._asking:
            return [], []
        return self._said(self._connection.execute(self._asking, prepare=True).fetchall())

    def _said(self, answer: Sequence[Sequence[Any]]) -> tuple[list[Mark], list[Value]]:
        """The marks and the values in an answer."""
        rows = [tuple(row[1:]) for row in answer]
        tables = len(self._tables)
        return [_mark(row) for row in rows[:tables]], [_value(row) for row in rows[tables:]]


def _mark_query(number: int, name: sql.Identifier) -> sql.Composed:
    return sql.SQL("SELECT {}, count(*), max(xmin::text::bigint) FROM ONLY {}").format(sql.Literal(number), name)


def _mark(row: Sequence[Any]) -> Mark:
    rows, latest = row
    return int(rows), None if latest is None else int(latest)


def _value_query(number: int, key: tuple[str, str]) -> sql.Composed:
    query = sql.SQL("SELECT {}, last_value, is_called::int::bigint FROM {}")
    return query.format(sql.Literal(number), sql.Identifier(*key))


def _value(row: Sequence[Any]) -> Value:
    last, called = row
    return int(last), bool(int(called))


def _switches(tables: Sequence[SavedTable], *, enabled: bool) -> list[Statement]:
    """What disables the triggers of tables that a restore would fire, or enables them as they were."""
    command = sql.SQL("ALTER TABLE {} {} {}")
    return [
        command.format(table.name, sql.SQL(_ENABLE[mode] if enabled else "DISABLE TRIGGER"), sql.Identifier(name))
        for table in tables
        for name, mode in table.triggers
    ]


def _built(tables: Iterable[SavedTable]) -> list[sql.Identifier]:
    return [name for table in tables if table.storage is not None for name in table.storage.built]


def _in_order(
    names: Mapping[int, tuple[str, str]], references: Iterable[Sequence[str | None]]
) -> dict[int, tuple[str, str]]:
    """The tables by OID, referenced tables before those that refer to them."""
    needs: dict[int, set[int]] = {oid: set() for oid in names}
    for referring, referred in references:
        needs[int(referring or 0)].add(int(referred or 0))
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
        send(connection, [b"BEGIN", _REPLICATING, b"COMMIT"])
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
