"""The tables of a program, apart from racebench's: made once, read at the end of a schedule, put back before one."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

_RELATIONS = """
SELECT relname, relkind::text, array(
    SELECT quote_ident(attname) FROM pg_attribute
    WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum)
FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'm', 'S') ORDER BY relkind = 'm', relname
"""

_CACHED = """
SELECT relname FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid
WHERE relnamespace = %s::regnamespace AND seqcache > 1 ORDER BY 1
"""


_NO_BTREE = """
SELECT count(*) FROM pg_class JOIN pg_am ON pg_am.oid = relam
WHERE relnamespace = %s::regnamespace AND relkind IN ('i', 'I') AND amname <> 'btree'
"""


class Ground:
    """A schema that is set up. `contents`: all rows and numbers, as text; `restore`: to what they were at first.

    Where an index is no B-tree the tables are truncated, as racebench does for serializable transactions: an UPDATE of
    all rows under an exclusion constraint succeeds or is refused by the order in which it meets two rows, and an INSERT
    beside dead rows may put a row before an older one.
    """

    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        self._connection = connection
        relations = connection.execute(_RELATIONS, (schema,)).fetchall()
        self._contents = contents_query(connection, schema)
        parts = ["SET LOCAL session_replication_role = replica"]
        connection.execute("DISCARD TEMP")
        tables = [_name(connection, schema, name) for name, kind, _ in relations if kind == "r"]
        anew = bool(connection.execute(_NO_BTREE, (schema,)).fetchall()[0][0])
        if anew:
            parts.append("TRUNCATE ONLY " + ", ONLY ".join(tables))
        for name, kind, columns in relations:
            quoted, kept = _name(connection, schema, name), _name(connection, "pg_temp", f"kept_{name}")
            listed = ", ".join(columns)
            if kind == "r":
                connection.execute(f"CREATE TABLE {kept} AS SELECT {listed} FROM {quoted}".encode())
                parts += [] if anew else [f"DELETE FROM {quoted}"]
                parts.append(f"INSERT INTO {quoted} ({listed}) OVERRIDING SYSTEM VALUE SELECT {listed} FROM {kept}")
            elif kind == "m":
                parts.append(f"REFRESH MATERIALIZED VIEW {quoted}")
            else:
                last, called = connection.execute(f"SELECT last_value, is_called FROM {quoted}".encode()).fetchall()[0]
                parts.append(f"SELECT setval('{quoted}', {last}, {called})")
        self._restore = "; ".join(["BEGIN", *parts, "COMMIT"]).encode()
        #: Takes a number of each sequence that gives several at once, as racebench's sessions of scripts do.
        self.holds_numbers = "; ".join(
            f"SELECT nextval('{_name(connection, schema, name)}')"
            for (name,) in connection.execute(_CACHED, (schema,)).fetchall()
        )

    def contents(self) -> str:
        """The rows of all tables and the values of all sequences."""
        return read(self._connection, self._contents)

    def restore(self) -> None:
        """Put back the rows and the values; no session may be in a transaction."""
        self._connection.execute(self._restore)


def contents_query(connection: psycopg.Connection[Any], schema: str) -> bytes:
    """The query of everything in a schema: a row for each table, view with rows of its own, and sequence."""
    parts = ["SELECT '' AS name, NULL::text AS rows"]
    for name, kind, _ in connection.execute(_RELATIONS, (schema,)).fetchall():
        row = "(last_value, is_called)::text" if kind == "S" else "x::text"
        table = _name(connection, schema, name)
        parts.append(f"SELECT '{name}', array_agg({row} ORDER BY {row})::text FROM {table} x")
    return (" UNION ALL ".join(parts) + " ORDER BY 1").encode()


def read(connection: psycopg.Connection[Any], query: bytes) -> str:
    """What such a query returns, as text."""
    rows = connection.execute(query).fetchall()
    return "; ".join(f"{name} {rows or '{}'}" for name, rows in rows if name)


def _name(connection: psycopg.Connection[Any], schema: str, name: str) -> str:
    return sql.Identifier(schema, name).as_string(connection)
