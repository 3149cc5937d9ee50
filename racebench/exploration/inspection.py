"""What an exploration asks the server and the script beforehand: what may do anything, and what sessions remember."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg import sql

from racebench.core.model import Assign, Consumer, NumberedRows, Script, Sleep, Statement, Strategy
from racebench.exploration.independence import ANY_WRITE, COMMITTING, SERIALIZABLE, Footprint, footprint
from racebench.exploration.independence import calls as called
from racebench.postgres.compiler.transactions import begins


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
    """Of what the scripts name, that which may do anything or sees more than a snapshot of tables."""
    scripts = [strategy.script, *([consumer.script] if consumer else [])]
    statements = [statement for each in scripts for statement in each.statements]
    names = set().union(*map(called, statements))
    found = volatile(connection, names)
    if connection.execute(_COMMITS, (sorted(names),)).fetchone() is not None:
        found |= {COMMITTING}
    default = connection.execute("SHOW default_transaction_isolation").fetchone()
    if "serializable" in " ".join([*(each.text for each in scripts), *map(str, default or ())]).lower():
        found |= {SERIALIZABLE}
    # A consumer's statement is a transaction of its own, so that what it writes is there for all at once.
    if (consumer is not None and not _reads(consumer.script, found)) or _wild(connection):
        found |= {ANY_WRITE}
    return found


_VOLATILE = r"""
SELECT lower(proname) FROM pg_proc
WHERE lower(proname) = ANY(%(names)s)
  AND (pronamespace <> 'pg_catalog'::regnamespace OR provolatile = 'v'
       OR (provolatile = 's' AND proname ~ '^(pg|txid)_'))
UNION
SELECT lower(relname) FROM pg_class
WHERE lower(relname) = ANY(%(names)s) AND (relkind IN ('v', 'S', 'f') OR relrowsecurity)
UNION
SELECT lower(oprname) FROM pg_operator JOIN pg_proc ON pg_proc.oid = oprcode
WHERE oprname = ANY(%(names)s) AND oprnamespace <> 'pg_catalog'::regnamespace AND provolatile = 'v'
UNION
SELECT lower(typname) FROM pg_type
WHERE lower(typname) = ANY(%(names)s) AND EXISTS (SELECT FROM pg_constraint WHERE contypid = pg_type.oid)
UNION
SELECT unnest(%(names)s) WHERE EXISTS (
    SELECT FROM pg_cast JOIN pg_proc ON pg_proc.oid = castfunc
    WHERE provolatile = 'v' AND pronamespace <> 'pg_catalog'::regnamespace)
"""


def volatile(connection: psycopg.Connection[Any], names: set[str]) -> frozenset[str]:
    """Of names, those of what may do anything, looks at other transactions, or is not read by a snapshot.

    A function of the user's own may call another, whatever it is declared; sequences, views (of the locks, of the
    sessions …), foreign tables and row security say more than tables do.
    """
    return frozenset(str(row[0]) for row in connection.execute(_VOLATILE, {"names": sorted(names)}).fetchall())


def _reads(script: Script, names: frozenset[str]) -> bool:
    """Whether a script does nothing but plain reads."""
    return footprint(tuple(script.statements), isolation=None, volatile=names) is not Footprint.WRITE


_COMMITS = r"""
SELECT FROM pg_proc
WHERE prokind = 'p' AND (lower(proname) = ANY(%s) OR pronamespace = current_schema()::regnamespace)
  AND prosrc ~* '\y(commit|rollback)\y'
LIMIT 1
"""

_WILD = r"""
SELECT FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE relnamespace = current_schema()::regnamespace AND NOT tgisinternal
  AND prosrc ~* '\y(truncate|lock\s+table|lock\s+only|alter|drop|create|execute|dblink\w*)\y'
LIMIT 1
"""


def _wild(connection: psycopg.Connection[Any]) -> bool:
    """Whether a trigger of the schema may lock a table against its readers, or write at once."""
    return connection.execute(_WILD).fetchone() is not None


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


def columns(connection: psycopg.Connection[Any], schema: str) -> dict[str, list[str]]:
    """The columns of each table of a schema, in order."""
    rows = connection.execute(
        "SELECT lower(relname), array_agg(attname::text ORDER BY attnum) FROM pg_attribute"
        " JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relnamespace = %s::regnamespace AND attnum > 0 AND NOT attisdropped GROUP BY 1",
        (schema,),
    ).fetchall()
    return {str(table): [str(each) for each in names] for table, names in rows}


def sources(connection: psycopg.Connection[Any], schema: str, statements: Iterable[Statement]) -> list[str]:
    """What is computed out of sight: functions (of the schema, or named), views, and what columns and triggers say."""
    names = sorted(set().union(*map(called, statements)))
    rows = connection.execute(
        "SELECT prosrc || coalesce(pg_get_function_sqlbody(oid), '') FROM pg_proc"
        " WHERE pronamespace = %(schema)s::regnamespace"
        " OR (lower(proname) = ANY(%(names)s) AND pronamespace <> 'pg_catalog'::regnamespace)"
        " UNION ALL SELECT pg_get_viewdef(oid) FROM pg_class"
        " WHERE relkind IN ('v', 'm') AND (relnamespace = %(schema)s::regnamespace"
        " OR (lower(relname) = ANY(%(names)s) AND relnamespace <> 'pg_catalog'::regnamespace))"
        " UNION ALL SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef JOIN pg_class ON pg_class.oid = adrelid"
        " WHERE relnamespace = %(schema)s::regnamespace"
        " UNION ALL SELECT pg_get_triggerdef(pg_trigger.oid) FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
        " WHERE relnamespace = %(schema)s::regnamespace AND NOT tgisinternal",
        {"schema": schema, "names": names},
    ).fetchall()
    return [str(row[0]) for row in rows]
