"""The definitions of a schema's objects as text, read from the catalogs, and the differences between two readings.

Two readings are equal if DDL between them changed nothing that a statement could notice, whatever the objects' OIDs.
Comments, statistics and owners' names are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line

#: Of each object what it is, its name and its definition. Objects of other schemas have these schemas' names in theirs.
_DEFINITIONS = r"""
WITH space AS (
    SELECT oid, nspname, nspacl, CASE WHEN nspname = %(schema)s THEN '' ELSE quote_ident(nspname) || '.' END AS prefix
    FROM pg_namespace
    WHERE nspname = %(schema)s OR (%(everywhere)s AND nspname !~ '^(pg|racebench)_' AND nspname <> 'information_schema')
), relation AS (
    SELECT c.*, prefix || quote_ident(relname) AS named FROM pg_class c JOIN space ON space.oid = relnamespace
)
SELECT 'schema', quote_ident(nspname), nspacl::text FROM space
UNION ALL
SELECT CASE relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
        WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' WHEN 'c' THEN 'type' WHEN 'f' THEN 'foreign table'
        ELSE 'table' END, named,
    concat_ws(' ', relkind, relpersistence, relrowsecurity, relforcerowsecurity, relreplident, reloptions, relacl,
        CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid)
            WHEN relkind = 'p' THEN pg_get_partkeydef(oid)
            WHEN relkind = 'S' THEN (SELECT concat_ws(' ', seqtypid, seqstart, seqincrement, seqmin, seqmax, seqcache,
                seqcycle) FROM pg_sequence WHERE seqrelid = relation.oid)
            WHEN relkind IN ('i', 'I') THEN (SELECT concat_ws(' ', pg_get_indexdef(indexrelid), indisvalid,
                indisreplident) FROM pg_index WHERE indexrelid = relation.oid) END,
        pg_get_expr(relpartbound, oid),
        (SELECT string_agg(inhparent::regclass::text, ',' ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = oid))
FROM relation
UNION ALL
SELECT 'column', named || '.' || quote_ident(attname),
    concat_ws(' ', attnum, format_type(atttypid, atttypmod), attcollation, attnotnull, attidentity, attgenerated,
        attacl, (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum))
FROM pg_attribute JOIN relation ON relation.oid = attrelid
WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
UNION ALL
SELECT 'constraint', coalesce(named || '.', '') || quote_ident(conname),
    concat_ws(' ', pg_get_constraintdef(con.oid), convalidated, condeferrable, condeferred)
FROM pg_constraint con JOIN space ON space.oid = connamespace LEFT JOIN relation ON relation.oid = conrelid
UNION ALL
SELECT 'trigger', named || '.' || quote_ident(tgname), concat_ws(' ', pg_get_triggerdef(pg_trigger.oid), tgenabled)
FROM pg_trigger JOIN relation ON relation.oid = tgrelid WHERE NOT tgisinternal
UNION ALL
SELECT 'rule', named || '.' || quote_ident(rulename), concat_ws(' ', pg_get_ruledef(pg_rewrite.oid), ev_enabled)
FROM pg_rewrite JOIN relation ON relation.oid = ev_class WHERE rulename <> '_RETURN'
UNION ALL
SELECT 'policy', named || '.' || quote_ident(polname), concat_ws(' ', polcmd, polpermissive, polroles::regrole[]::text,
    pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
FROM pg_policy JOIN relation ON relation.oid = polrelid
UNION ALL
SELECT 'function', prefix || quote_ident(proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')',
    concat_ws(' ', prokind, prorettype::regtype, provolatile, proisstrict, prosecdef, proconfig, proacl,
        md5(concat_ws(' ', prosrc, probin, pg_get_function_sqlbody(p.oid))))
FROM pg_proc p JOIN space ON space.oid = pronamespace
UNION ALL
SELECT 'type', prefix || quote_ident(typname), concat_ws(' ', typtype, typnotnull, typdefault, typbasetype::regtype,
    (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid))
FROM pg_type t JOIN space ON space.oid = typnamespace WHERE typtype IN ('d', 'e', 'r', 'm')
UNION ALL
SELECT 'extension', quote_ident(extname), extversion FROM pg_extension WHERE %(everywhere)s
UNION ALL
SELECT 'setting of a role or database', concat_ws(' ', setdatabase, setrole), setconfig::text
FROM pg_db_role_setting WHERE %(everywhere)s
UNION ALL
SELECT 'prepared transaction', gid, owner::text FROM pg_prepared_xacts
WHERE %(everywhere)s AND database = current_database()
"""


@dataclass(frozen=True, slots=True)
class Definitions:
    """What was defined when it was read, by kind and name."""

    texts: dict[tuple[str, str], str]

    def differences(self, later: Definitions) -> tuple[str, ...]:
        """What was added, dropped or changed until a later reading, as text such as "table t was added".

        What belongs to an object that was added or dropped itself is not listed.
        """
        before, after = self.texts, later.texts
        differing = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        whole = tuple(name + "." for _, name in differing if (("table", name) in before) != (("table", name) in after))
        verbs = {
            (kind, name): "was added"
            if (kind, name) not in before
            else "was dropped"
            if (kind, name) not in after
            else "was changed"
            for kind, name in differing
            if not name.startswith(whole)
        }
        return tuple(f"{kind} {name} {verb}" for (kind, name), verb in sorted(verbs.items()))


def read(connection: psycopg.Connection[Any], schema: str, *, everywhere: bool = False) -> Definitions:
    """Read the definitions of a schema; `everywhere`: of all other schemas too. Raises DatabaseProblem."""
    try:
        rows = connection.execute(_DEFINITIONS, {"schema": schema, "everywhere": everywhere}, prepare=True).fetchall()
    except psycopg.Error as problem:
        raise DatabaseProblem(f"the catalogs cannot be read: {one_line(str(problem))}") from None
    return Definitions({(str(kind), str(name)): str(text) for kind, name, text in rows})
