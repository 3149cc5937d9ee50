"""Finds facts about the schema and the scripts before a search; they do not change during the search.

independence.py (what a step may touch) and symmetry.py (whether sessions are alike) need these facts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from racebench.core.model import Consumer, NumberedRows, Script, Statement, Strategy
from racebench.exploration.draws import Draws, in_script, in_sql
from racebench.exploration.hidden_effects import Objects, bodies, does_more_than_write, names_of_tables
from racebench.exploration.independence import (
    ANY_END,
    ANY_WRITE,
    COMMITTING,
    ONE_SNAPSHOT,
    SERIALIZABLE,
    Footprint,
    footprint,
    is_write,
    may_be_serializable,
    names_in,
)
from racebench.exploration.independence import calls as called
from racebench.exploration.inner_statements import with_several_statements
from racebench.exploration.leftovers import OF_SESSIONS, Leftover, changes_catalog, leaves
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.symmetry import alike, begin_is_seen, tells_apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts about the tables and scripts of a search.

    `volatile`: names of objects that may do anything. `begin_is_seen`: a statement may read the start time of its
    transaction. `alike`: all sessions do the same. `rollback_forgets`: a rollback removes every effect of a try.
    `cached_sequences`: sequences of which a session takes more numbers than it needs. `triggers`: of the tables.
    `leaves`: what the scripts may leave behind, each with the statement that may leave it. `ddl`: the statements that
    may change the catalogs.
    `draws`: what the scripts, and what they run on the server, draw and read. `functions`: those that the scripts run,
    and that run several statements. `serializable`: a transaction of the scripts may be. `of_session`: what the scripts
    do may depend on what they, or others, have done in the same session of the server before.
    """

    volatile: frozenset[str]
    begin_is_seen: bool
    alike: bool
    rollback_forgets: bool
    cached_sequences: tuple[str, ...]
    triggers: tuple[str, ...]
    leaves: Mapping[Leftover, str]
    ddl: frozenset[str]
    draws: Draws
    functions: frozenset[str]
    serializable: bool
    of_session: bool = False


def inspect(
    connection: psycopg.Connection[Any],
    schema: str,
    request: ExplorationRequest,
    script: Script,
    volatile: frozenset[str],
) -> Facts:
    """Find the facts about a schema that is set up; `script` is the strategy's as it is explored."""
    consumers = [request.consumer] if request.consumer is not None else []
    scripts = [script, *(consumer.script for consumer in consumers)]
    invariants = list(request.scenario.invariants.values())
    statements = [statement.sql for part in scripts for statement in part.statements]
    hidden = sources(connection, schema, statements)
    checked = conditions(connection, schema)
    asked = [*sources(connection, schema, invariants), *checked]
    queries = [statement.text for consumer in consumers for statement in consumer.script.statements]
    cached = cached_sequences(connection, schema)
    ddl = [*request.scenario.schema, *request.strategy.schema]
    ddl += [file for consumer in consumers for file in consumer.schema]
    texts = [*(part.text for part in scripts), *(file.text for file in ddl), *hidden]
    drawn = in_sql([*statements, *hidden])
    drawn.add(in_script(script))
    return Facts(
        volatile=volatile,
        begin_is_seen=begin_is_seen(texts),
        alike=(
            not cached
            and not drawn.server
            # What a Python invariant compares is not known.
            and not (request.scenario.checks and any("operation" in part.slots for part in script.statements))
            and alike(script, columns(connection, schema), [*hidden, *asked, *queries], invariants)
        ),
        rollback_forgets=not hidden,  # a function may have taken a lock of the session
        cached_sequences=cached,
        triggers=triggers(connection, schema),
        leaves=(left := left_by(connection, schema, statements, [*definitions(connection, schema), *checked])),
        ddl=_ddl(connection, statements) if Leftover.CATALOG in left else frozenset(),
        draws=drawn,
        functions=with_several_statements(connection, set().union(*map(names_in, statements))),
        serializable=request.strategy.isolation == "serializable"
        or SERIALIZABLE in volatile
        or any(map(may_be_serializable, hidden)),
        of_session=bool(cached)
        or bool(drawn.server)
        or not OF_SESSIONS.isdisjoint(left)
        or tells_apart([*statements, *hidden, *checked])
        or any(map(_SESSION.search, [*statements, *hidden, *checked])),
    )


#: What changes the state of a session of the server, or removes it, besides what is left behind.
_SESSION = re.compile(r"\b(?:setseed|load|discard|reset|deallocate|unlisten)\b", re.IGNORECASE)


def left_by(
    connection: psycopg.Connection[Any], schema: str, statements: Iterable[str], definitions: Iterable[str] = ()
) -> dict[Leftover, str]:
    """What statements may leave behind, each with the first of them that may leave it.

    `definitions`: views, defaults, rules and conditions, which no statement need name. What these leave in a session
    counts for the first statement.
    """
    statements = list(statements)
    if not statements:
        return {}
    # What each of them runs is asked one by one only where all together may leave something.
    indirect = bool(leaves("", bodies(connection, set().union(*map(names_in, statements))), schema=schema))
    left: dict[Leftover, str] = {}
    for statement in statements:
        code = bodies(connection, names_in(statement)) if indirect else ()
        for leftover in leaves(statement, code, schema=schema):
            left.setdefault(leftover, " ".join(statement.split()))
    for leftover in leaves("", list(definitions)) & OF_SESSIONS:
        left.setdefault(leftover, " ".join(statements[0].split()))
    return left


def _ddl(connection: psycopg.Connection[Any], statements: Iterable[str]) -> frozenset[str]:
    return frozenset(text for text in statements if changes_catalog(text, bodies(connection, names_in(text))))


def rows_query(rows: NumberedRows) -> sql.Composed:
    """The query of the rows of a tenant: id, version, operation."""
    columns = [sql.Identifier(name) for name in (rows.id, rows.version, rows.operation)]
    return sql.SQL("SELECT {} FROM {} WHERE {} = %s ORDER BY 1").format(
        sql.SQL(", ").join(columns), sql.Identifier(rows.table), sql.Identifier(rows.tenant)
    )


def volatile_functions(
    connection: psycopg.Connection[Any],
    strategy: Strategy,
    consumer: Consumer | None,
    objects: Objects | None = None,
) -> frozenset[str]:
    """The names in the scripts of objects that may do anything, or that read more than a snapshot of tables."""
    objects = objects or Objects(connection)
    scripts = [strategy.script, *([consumer.script] if consumer else [])]
    statements = [statement for script in scripts for statement in script.statements]
    names = set().union(*map(called, statements))
    marked = volatile(connection, names)
    if connection.execute(_COMMITS, (sorted(names),)).fetchone() is not None:
        marked |= {COMMITTING}
    default = connection.execute("SHOW default_transaction_isolation").fetchone()
    texts = " ".join([*(script.text for script in scripts), *map(str, default or ())])
    if "serializable" in texts.lower():
        marked |= {SERIALIZABLE}
    if _keeps_snapshots(texts):
        marked |= {ONE_SNAPSHOT}
    if connection.execute(_DEFERRABLE).fetchone() is not None:
        marked |= {ANY_END}
    # A consumer's statement is a transaction of its own: what it writes is visible to all others at once.
    if (consumer is not None and not _only_reads(consumer.script, marked)) or _writes_more(objects, statements):
        marked |= {ANY_WRITE}
    return marked


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
    """The names of objects that may do anything, read other transactions, or are not read from a snapshot.

    A user's function may call another, even if it is not declared volatile. Sequences, views (of locks, of sessions …),
    foreign tables and tables with row security can return more than a snapshot.
    """
    if not names:
        return frozenset()
    return frozenset(str(row[0]) for row in connection.execute(_VOLATILE, {"names": sorted(names)}).fetchall())


#: What checks or fires when a transaction ends.
_DEFERRABLE = "SELECT FROM pg_trigger WHERE tgdeferrable LIMIT 1"
_ISOLATION = re.compile(r"repeatable|serializable|isolation|set_config", re.IGNORECASE)


def _keeps_snapshots(texts: str) -> bool:
    """Whether SQL, or the server's default, may begin a transaction that keeps its snapshot."""
    return _ISOLATION.search(texts) is not None


def _only_reads(script: Script, names: frozenset[str]) -> bool:
    """Whether a script does nothing but plain reads."""
    return footprint(tuple(script.statements), isolation=None, volatile=names) is not Footprint.WRITE


_COMMITS = r"""
SELECT FROM pg_proc
WHERE prokind = 'p' AND (lower(proname) = ANY(%s) OR pronamespace = current_schema()::regnamespace)
  AND prosrc ~* '\y(commit|rollback)\y'
LIMIT 1
"""


def _writes_more(objects: Objects, statements: Iterable[Statement]) -> bool:
    """Whether a write of these statements, or any write to the schema's tables, may do more than write."""
    statements = list(statements)
    tables = names_of_tables(objects.connection)
    objects.load(tables.union(*map(called, statements)))  # those of the reads too are needed later (resources.py)
    names = set().union(*(called(statement) for statement in statements if is_write(statement)))
    return bool(does_more_than_write(objects, names | tables))


def decoded(connection: psycopg.Connection[Any]) -> bool:
    """Whether a logical slot reads this database's log, which has only what is on the disk."""
    query = "SELECT FROM pg_replication_slots WHERE slot_type = 'logical' AND database = current_database() LIMIT 1"
    return connection.execute(query).fetchone() is not None


def cached_sequences(connection: psycopg.Connection[Any], schema: str) -> tuple[str, ...]:
    """The sequences with a cache: a session takes more numbers of them than it needs."""
    rows = connection.execute(
        "SELECT seqrelid::regclass::text FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid"
        " WHERE relnamespace = %s::regnamespace AND seqcache > 1 ORDER BY 1",
        (schema,),
    ).fetchall()
    return tuple(str(row[0]) for row in rows)


def triggers(connection: psycopg.Connection[Any], schema: str) -> tuple[str, ...]:
    """The triggers of the schema's tables, which run inside a step."""
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
    return {str(table): list(map(str, names)) for table, names in rows}


#: The definitions of a schema that run when its tables are used.
_DEFINITIONS = """
SELECT pg_get_viewdef(oid) FROM pg_class
WHERE relkind IN ('v', 'm')
  AND (relnamespace = %(schema)s::regnamespace
       OR (lower(relname) = ANY(%(names)s) AND relnamespace <> 'pg_catalog'::regnamespace))
UNION
SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef JOIN pg_class ON pg_class.oid = adrelid
WHERE relnamespace = %(schema)s::regnamespace
UNION
SELECT pg_get_ruledef(pg_rewrite.oid) FROM pg_rewrite JOIN pg_class ON pg_class.oid = ev_class
WHERE ev_type <> '1' AND relnamespace = %(schema)s::regnamespace
UNION
SELECT pg_get_triggerdef(pg_trigger.oid) FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE relnamespace = %(schema)s::regnamespace AND NOT tgisinternal
"""
_SOURCES = f"""
SELECT concat_ws(' ', prosrc, pg_get_function_sqlbody(oid), array_to_string(proconfig, ' ')) FROM pg_proc
WHERE pronamespace = %(schema)s::regnamespace
   OR (lower(proname) = ANY(%(names)s)
       AND pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace))
UNION {_DEFINITIONS}"""


def definitions(connection: psycopg.Connection[Any], schema: str) -> list[str]:
    """The views, defaults, rules and triggers of a schema, as SQL."""
    rows = connection.execute(_DEFINITIONS, {"schema": schema, "names": []}).fetchall()
    return [str(row[0]) for row in rows]


def sources(connection: psycopg.Connection[Any], schema: str, texts: Iterable[str]) -> list[str]:
    """The code that texts of SQL run indirectly, to any depth: functions, views, defaults, rules, triggers."""
    names = set().union(*map(names_in, texts))
    known: set[str] = set()
    while True:
        rows = connection.execute(_SOURCES, {"schema": schema, "names": sorted(names)}).fetchall()
        new = {str(row[0]) for row in rows} - known
        known |= new
        called = set().union(*map(names_in, new)) - names
        if not called:
            return sorted(known)
        names |= called


_CONDITIONS = """
SELECT pg_get_constraintdef(pg_constraint.oid) FROM pg_constraint
WHERE connamespace = %(schema)s::regnamespace AND contype IN ('c', 'x')
UNION
SELECT concat_ws(' ', attname, pg_get_constraintdef(pg_constraint.oid)) FROM pg_constraint
JOIN pg_attribute ON atttypid = contypid JOIN pg_class ON pg_class.oid = attrelid
WHERE contypid <> 0 AND relnamespace = %(schema)s::regnamespace
UNION
SELECT concat_ws(' ', pg_get_expr(indexprs, indrelid), pg_get_expr(indpred, indrelid)) FROM pg_index
JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = %(schema)s::regnamespace
UNION
SELECT pg_get_partkeydef(oid) FROM pg_class WHERE relkind = 'p' AND relnamespace = %(schema)s::regnamespace
UNION
SELECT concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) FROM pg_policy
JOIN pg_class ON pg_class.oid = polrelid WHERE relnamespace = %(schema)s::regnamespace
UNION
SELECT pg_get_ruledef(pg_rewrite.oid) FROM pg_rewrite JOIN pg_class ON pg_class.oid = ev_class
WHERE relnamespace = %(schema)s::regnamespace AND rulename <> '_RETURN'
"""


def conditions(connection: psycopg.Connection[Any], schema: str) -> list[str]:
    """What the server computes from the rows of a schema: constraints, indexes, partitions, policies, rules."""
    return [str(row[0]) for row in connection.execute(_CONDITIONS, {"schema": schema}).fetchall()]
