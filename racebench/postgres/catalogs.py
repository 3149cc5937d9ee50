"""Whether users' objects in the catalogs are the same as before: one text, which every DDL changes.

Of most objects it has the row's OID and the transaction that wrote the row: to alter an object writes its row anew. A
table's row is in it as text, without what TRUNCATE, REINDEX, VACUUM and ANALYZE change: they define nothing.
PostgreSQL's own objects are not in it, which only a superuser can change.
Source: PostgreSQL manual 51 (system catalogs); FirstNormalObjectId in access/transam.h.
"""

from __future__ import annotations

from typing import Any

import psycopg

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line

#: The first OID that the server gives to an object that is not its own.
_FIRST = 16384
_OF_OBJECTS = """
pg_namespace pg_attrdef pg_constraint pg_trigger pg_rewrite pg_policy pg_proc pg_type pg_enum pg_operator pg_opclass
pg_opfamily pg_amop pg_amproc pg_am pg_cast pg_language pg_extension pg_collation pg_conversion pg_event_trigger
pg_statistic_ext pg_transform pg_foreign_server pg_foreign_data_wrapper
"""
#: The catalogs, each with the column of the OIDs of its objects, or of those to which its rows belong.
_CATALOGS = {
    **dict.fromkeys(_OF_OBJECTS.split(), "oid"),
    "pg_attribute": "attrelid",
    "pg_index": "indexrelid",
    "pg_inherits": "inhrelid",
    "pg_sequence": "seqrelid",
    "pg_partitioned_table": "partrelid",
    "pg_foreign_table": "ftrelid",
    "pg_aggregate": "aggfnoid",
    "pg_range": "rngtypid",
    "pg_depend": "objid",
}
_STORAGE = "relfilenode relpages reltuples relallvisible relallfrozen relfrozenxid relminmxid"
_PARTS = " UNION ALL ".join(
    [
        f"SELECT 'pg_class' AS name, c.oid, (to_jsonb(c) - '{{{','.join(_STORAGE.split())}}}'::text[])::text AS written"
        f" FROM pg_class c WHERE c.oid >= {_FIRST}",
        *(
            f"SELECT '{name}', {column}::oid, xmin::text FROM {name} WHERE {column} >= {_FIRST}"
            for name, column in _CATALOGS.items()
        ),
        "SELECT 'pg_db_role_setting', setrole, concat_ws(' ', setdatabase, setconfig) FROM pg_db_role_setting",
        "SELECT 'pg_prepared_xacts', owner, gid FROM pg_prepared_xact() AS x (xid, gid, at, owner, of)",
        "SELECT 'pg_roles', oid, concat_ws(' ', rolname, rolsuper) FROM pg_roles",
    ]
)
_QUERY = f"""
SELECT md5(string_agg(concat_ws(' ', name, oid, written), ',' ORDER BY name, oid, written)) FROM ({_PARTS}) AS part
"""


def state(connection: psycopg.Connection[Any]) -> str:
    """A text that is equal as long as no user's object is made, altered or dropped. Raises DatabaseProblem."""
    try:
        row = connection.execute(_QUERY.encode(), prepare=True).fetchone()
    except psycopg.Error as problem:
        raise DatabaseProblem(f"the catalogs cannot be read: {one_line(str(problem))}") from None
    return str(row[0]) if row else ""
