"""The columns that the database fills by itself, and those that refer to them, as the server's catalogs say."""

from __future__ import annotations

from typing import Any

import psycopg

from racebench.exploration.independence import CLOCKS, names_in

#: A column: its schema, table and name.
Column = tuple[str, str, str]
#: What a label is of, if it is of no sequence: a clock, or something else.
CLOCK, MADE = "time", "other"
_DEFAULTS = """
SELECT n.nspname, c.relname, attname, pg_get_expr(adbin, adrelid), of.nspname, of.relname
FROM pg_attrdef d LEFT JOIN LATERAL (
    SELECT sn.nspname, s.relname FROM pg_depend p JOIN pg_class s ON s.oid = refobjid AND s.relkind = 'S'
    JOIN pg_namespace sn ON sn.oid = s.relnamespace
    WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND refclassid = 'pg_class'::regclass LIMIT 1
) AS of ON true
JOIN pg_class c ON c.oid = adrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = adnum
WHERE attgenerated = '' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL
SELECT n.nspname, c.relname, attname, NULL, sn.nspname, s.relname FROM pg_attribute a
JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_depend p ON p.classid = 'pg_class'::regclass AND p.refclassid = p.classid AND p.refobjid = c.oid
    AND refobjsubid = attnum AND deptype = 'i'
JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace
WHERE attidentity <> '' AND NOT attisdropped
"""
#: Not the user's own functions, which may compute from rows: what they make up shows when a schedule is run twice.
_MAKING = """
SELECT lower(proname) FROM pg_proc p WHERE proname = ANY(%s) AND provolatile = 'v' AND (
    pronamespace = 'pg_catalog'::regnamespace
    OR EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e'))
"""
_REFERENCES = """
SELECT n.nspname, c.relname, a.attname, fn.nspname, f.relname, fa.attname
FROM pg_constraint k CROSS JOIN LATERAL unnest(conkey, confkey) AS pair(own, other)
JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = own
JOIN pg_class f ON f.oid = confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
JOIN pg_attribute fa ON fa.attrelid = confrelid AND fa.attnum = other
WHERE contype = 'f'
"""


def declared(connection: psycopg.Connection[Any], schema: str) -> dict[Column, str]:
    """The columns that the database fills itself, and those that refer to them, with their domains.

    The schema of this name is called "" in them. Raises psycopg.Error.
    """
    defaults = connection.execute(_DEFAULTS).fetchall()
    names = set[str]().union(*(names_in(str(row[3])) for row in defaults if row[3] is not None))
    making = {str(row[0]) for row in connection.execute(_MAKING, (sorted(names),)).fetchall()} | CLOCKS
    found: dict[Column, str] = {}

    def named(name: Any) -> str:
        return "" if name == schema else str(name)

    for own, table, column, default, of, sequence in defaults:
        if sequence is not None:
            found[named(own), str(table), str(column)] = f"{named(of)}.{sequence}"
        elif not making.isdisjoint(called := names_in(str(default))):
            found[named(own), str(table), str(column)] = MADE if called.isdisjoint(CLOCKS) else CLOCK
    references = [tuple(map(str, row)) for row in connection.execute(_REFERENCES).fetchall()]
    references = [(named(one), table, column, named(other), *rest) for one, table, column, other, *rest in references]
    while True:
        more = {
            (row[0], row[1], row[2]): found[row[3], row[4], row[5]]
            for row in references
            if (row[3], row[4], row[5]) in found and (row[0], row[1], row[2]) not in found
        }
        if not more:
            return found
        found |= more
