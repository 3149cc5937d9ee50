"""What an exploration asks the server and the script beforehand: what may do anything, and what sessions remember."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from racebench.compiling import begins
from racebench.exploration.footprints import Footprint, footprint
from racebench.exploration.footprints import calls as called
from racebench.model import Assign, Consumer, NumberedRows, Script, Sleep, Statement, Strategy


def after_begin(script: Script, isolation: str | None, volatile: frozenset[str]) -> dict[int, Footprint]:
    """What the statement after each BEGIN may touch, by the BEGIN's identity; none for one before a branch."""
    found = {}
    for at, step in enumerate(script.steps):
        if not isinstance(step, Statement) or not begins(step):
            continue
        after = next((each for each in script.steps[at + 1 :] if not isinstance(each, Assign | Sleep)), None)
        if isinstance(after, Statement):
            found[id(step)] = footprint([after], isolation=isolation, volatile=volatile)
    return found


def rows_query(rows: NumberedRows) -> sql.Composed:
    """What reads the rows of a tenant: id, version, operation."""
    columns = [sql.Identifier(name) for name in (rows.id, rows.version, rows.operation)]
    return sql.SQL("SELECT {} FROM {} WHERE {} = %s ORDER BY 1").format(
        sql.SQL(", ").join(columns), sql.Identifier(rows.table), sql.Identifier(rows.tenant)
    )


def volatile_functions(
    connection: psycopg.Connection[Any], strategy: Strategy, consumer: Consumer | None
) -> frozenset[str]:
    """Of the functions that the scripts may call, those that may do anything, or that look at other transactions."""
    statements = list(strategy.script.statements)
    statements += consumer.script.statements if consumer else []
    return volatile(connection, set().union(*map(called, statements)))


def volatile(connection: psycopg.Connection[Any], names: set[str]) -> frozenset[str]:
    """Of functions, by name, those that may do anything, or that look at other transactions."""
    rows = connection.execute(
        "SELECT DISTINCT proname FROM pg_proc WHERE proname = ANY(%s)"
        r" AND (provolatile = 'v' OR (provolatile = 's' AND proname ~ '^(pg|txid)_'))",
        (sorted(names),),
    ).fetchall()
    return frozenset(str(row[0]) for row in rows)


def decoded(connection: psycopg.Connection[Any]) -> bool:
    """Whether a slot reads this database's log: it sees only what is on the disk."""
    query = "SELECT FROM pg_replication_slots WHERE slot_type = 'logical' AND database = current_database() LIMIT 1"
    return connection.execute(query).fetchone() is not None


def cached_sequences(connection: psycopg.Connection[Any], schema: str) -> tuple[str, ...]:
    """The sequences of which a session takes more numbers than it needs."""
    rows = connection.execute(
        "SELECT seqrelid::regclass::text FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid"
        " WHERE relnamespace = %s::regnamespace AND seqcache > 1 ORDER BY 1",
        (schema,),
    ).fetchall()
    return tuple(str(row[0]) for row in rows)


def triggers(connection: psycopg.Connection[Any], schema: str) -> tuple[str, ...]:
    """The triggers of the schema's tables: what they do is inside a step."""
    rows = connection.execute(
        "SELECT tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
        " WHERE relnamespace = %s::regnamespace AND NOT tgisinternal ORDER BY tgname",
        (schema,),
    ).fetchall()
    return tuple(str(row[0]) for row in rows)


def may_set(connection: psycopg.Connection[Any], name: str) -> bool:
    """Whether this role may change a setting."""
    try:
        connection.execute(sql.SQL("SET {} = '20ms'").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
