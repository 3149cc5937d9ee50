"""Removes what a subject has made outside racebench's schema, on a server that no other program uses.

Found by comparing the catalogs with those before it. Objects that were there before and were changed stay changed;
outside.py names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

#: Catalogs whose objects DROP removes by the type and the identity that pg_identify_object gives, in this order.
_CATALOGS: tuple[LiteralString, ...] = (
    "pg_extension",
    "pg_publication",
    "pg_event_trigger",
    "pg_namespace",
    "pg_class",
    "pg_proc",
    "pg_cast",
    "pg_operator",
    "pg_opclass",
    "pg_opfamily",
    "pg_type",
    "pg_collation",
    "pg_conversion",
    "pg_statistic_ext",
    "pg_ts_config",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_foreign_server",
    "pg_foreign_data_wrapper",
    "pg_language",
)
#: The OIDs of initdb's objects are smaller.
_OURS = 16384
_OBJECTS: LiteralString = " UNION ALL ".join(
    f"SELECT {place}, '{catalog}'::regclass::oid, oid FROM {catalog} WHERE oid >= {_OURS}"
    for place, catalog in enumerate(_CATALOGS)
)
#: What belongs to another object goes with it; schemas of racebench's are dropped by those that made them.
_NEW = f"""
SELECT type, identity FROM ({_OBJECTS}) AS object (place, class, oid)
CROSS JOIN LATERAL pg_identify_object(class, oid, 0)
WHERE NOT (class, oid) IN (SELECT * FROM unnest(%(classes)s::oid[], %(oids)s::oid[]))
    AND coalesce(schema, CASE type WHEN 'schema' THEN name END, '') !~ '^(pg|racebench)_'
    AND type NOT IN ('index', 'toast table', 'composite type')
    AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = class AND d.objid = oid AND deptype IN ('a', 'e', 'i'))
ORDER BY place, identity
"""
#: What belongs to the server, or has no command of its own: as an expression or a command that removes it.
_OTHERS = """
SELECT 'replication slot', slot_name::text, format('SELECT pg_drop_replication_slot(%L)', slot_name)
FROM pg_replication_slots WHERE NOT active
UNION ALL
SELECT 'prepared transaction', gid, format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts
WHERE database = current_database()
UNION ALL
SELECT 'large object', oid::text, format('SELECT lo_unlink(%s)', oid) FROM pg_largeobject_metadata
UNION ALL
SELECT 'setting', concat_ws(' ', 'of', datname, rolname) || ' ' || array_to_string(setconfig, ', '),
    CASE WHEN setdatabase = 0 THEN format('ALTER ROLE %I RESET ALL', rolname)
        WHEN setrole = 0 THEN format('ALTER DATABASE %I RESET ALL', datname)
        ELSE format('ALTER ROLE %I IN DATABASE %I RESET ALL', rolname, datname) END
FROM pg_db_role_setting LEFT JOIN pg_database AS d ON d.oid = setdatabase LEFT JOIN pg_roles AS r ON r.oid = setrole
UNION ALL
SELECT 'database', datname, format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database
UNION ALL
SELECT 'role', rolname, format('DROP OWNED BY %1$I CASCADE; DROP ROLE %1$I', rolname) FROM pg_roles
"""
#: They can be dropped when nothing is left that belongs to them.
_LAST = ("database", "role")
#: Only a superuser makes and sees these.
_SYSTEM = "SELECT DISTINCT name FROM pg_file_settings WHERE sourcefile LIKE '%/postgresql.auto.conf' ORDER BY 1"


#: On a server of racebench's own, whether anything is outside racebench's schemas that its making has not put there.
_ANYTHING = f"""
SELECT EXISTS ({_NEW.split("ORDER BY", maxsplit=1)[0]})
    OR EXISTS (SELECT FROM pg_replication_slots) OR EXISTS (SELECT FROM pg_prepared_xacts)
    OR EXISTS (SELECT FROM pg_largeobject_metadata) OR EXISTS (SELECT FROM pg_db_role_setting)
    OR EXISTS (SELECT FROM pg_database WHERE oid >= {_OURS})
    OR EXISTS (SELECT FROM pg_roles WHERE oid >= {_OURS} AND rolname <> session_user)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What there was: objects by catalog and OID, others by kind and name, and settings of the whole server."""

    objects: frozenset[tuple[int, int]]
    others: frozenset[tuple[str, str]]
    system: frozenset[str]


def take(connection: psycopg.Connection[Any]) -> Inventory:
    """What there is now, in a database and on its server. Raises psycopg.Error."""
    return Inventory(
        objects=frozenset((int(row[1]), int(row[2])) for row in connection.execute(_OBJECTS).fetchall()),
        others=frozenset(_others(connection)),
        system=_system(connection),
    )


def is_anything(connection: psycopg.Connection[Any]) -> bool:
    """Whether anything is outside racebench's schemas on a server of its own. Raises psycopg.Error."""
    row = connection.execute(_ANYTHING.encode(), {"classes": [], "oids": []}, prepare=True).fetchone()
    return row is None or bool(row[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What was removed, as "table public.t"; `unchanged`: nothing was there that had not been there before."""

    removed: tuple[str, ...] = ()
    unchanged: bool = False


def remove_since(connection: psycopg.Connection[Any], before: Inventory) -> Removal:
    """Remove what was not there before, as far as the role may.

    The connection is in no transaction. Raises psycopg.Error.
    """
    removed: list[str] = []
    others = {other: command for other, command in _others(connection).items() if other not in before.others}
    # First what keeps the rest from being dropped: locks, uses.
    for (kind, name), command in others.items():
        if kind not in _LAST and _done(connection, command):
            removed.append(f"{kind} {name}")
    pairs = sorted(before.objects)
    asked = {"classes": [one for one, _ in pairs], "oids": [two for _, two in pairs]}
    objects = connection.execute(_NEW.encode(), asked).fetchall()
    for kind, identity in objects:
        if _done(connection, f"DROP {str(kind).upper()} IF EXISTS {identity} CASCADE"):
            removed.append(f"{kind} {identity}")
    for (kind, name), command in others.items():
        if kind in _LAST and _done(connection, command):
            removed.append(f"{kind} {name}")
    if new := _system(connection) - before.system:
        for name in sorted(new):
            connection.execute(sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(*name.split("."))))
        connection.execute("SELECT pg_reload_conf()")
    return Removal(
        removed=(*removed, *(f"setting {name}" for name in sorted(new))),
        unchanged=not (others or objects or new),
    )


def _others(connection: psycopg.Connection[Any]) -> dict[tuple[str, str], str]:
    """The other things, each with the command that removes it."""
    rows = connection.execute(_OTHERS.encode()).fetchall()
    return {(str(kind), str(name)): str(command) for kind, name, command in rows}


def _system(connection: psycopg.Connection[Any]) -> frozenset[str]:
    try:
        return frozenset(str(row[0]) for row in connection.execute(_SYSTEM).fetchall())
    except psycopg.errors.InsufficientPrivilege:
        return frozenset()


def _done(connection: psycopg.Connection[Any], command: str) -> bool:
    """Send a command; False if the server refuses it. What stays is named by outside.py."""
    try:
        connection.execute(command.encode())
    except psycopg.Error:
        if connection.broken:
            raise
        return False
    return True
