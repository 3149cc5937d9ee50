"""The user's server: its DSN is parsed, and checked before anything starts."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from racebench.core.errors import DatabaseProblem, UsageProblem, one_line
from racebench.core.target import Target
from racebench.postgres.connection import connect

OLDEST_VERSION = 140000


def external(dsn: str) -> Target:
    """Parse a libpq connection string or URI.

    Raises UsageProblem for one that does not parse, without quoting it: it may hold a password.
    """
    try:
        parsed = conninfo_to_dict(dsn)
    except psycopg.Error:
        raise UsageProblem(
            "the DSN cannot be parsed (not shown: it may hold a password); "
            "write postgresql://user@host:5432/database or 'host=… dbname=…'"
        ) from None
    parameters = {name: str(value) for name, value in parsed.items() if value is not None}
    host = parameters.get("host") or parameters.get("hostaddr") or "the default host"
    port = f":{parameters['port']}" if "port" in parameters else ""
    database = f"/{parameters['dbname']}" if "dbname" in parameters else ""
    return Target(kind="external", parameters=parameters, label=f"{host}{port}{database}")


def check_usable(target: Target, connections: int, *, superuser: bool = False) -> None:
    """Raise DatabaseProblem unless the server is 14 or newer, commits, allows a schema and has connections free.

    `connections`: how many racebench is about to open, besides the one that asks. `superuser`: the role must be one.
    """
    with connect(target) as connection:
        version = connection.info.server_version
        if version < OLDEST_VERSION:
            raise DatabaseProblem(
                f"{target.label} is PostgreSQL {version // 10000}; racebench needs {OLDEST_VERSION // 10000} or newer"
            )
        row = _ask(connection)
        if row["recovery"] or row["read_only"]:
            why = "is a standby" if row["recovery"] else "has default_transaction_read_only on"
            raise DatabaseProblem(f"{target.label} is read-only ({why}); give a DSN that may write")
        if row["commits_wait"]:
            raise DatabaseProblem(
                f"every COMMIT on {target.label} would wait for ever: synchronous_standby_names is "
                f"'{one_line(row['standbys'])}', and no standby is connected; start it, or "
                f'ALTER ROLE "{row["role"]}" SET synchronous_commit = local'
            )
        if not row["may_create"]:
            raise DatabaseProblem(
                f"role '{row['role']}' may not create a schema in database '{row['database']}'; "
                f'GRANT CREATE ON DATABASE "{row["database"]}" TO "{row["role"]}", or use another role'
            )
        if superuser and not row["superuser"]:
            raise DatabaseProblem(
                f"the scenario needs a superuser, and role '{row['role']}' on {target.label} is none; "
                "give the DSN of a superuser, or leave out --dsn"
            )
        free, limit = min((row[f"{name}_free"], name) for name in ("server", "database", "role"))
        if free < connections:
            raise DatabaseProblem(
                f"{target.label} has {max(free, 0)} free connections ({_LIMITS[limit]}), {connections} are needed; "
                "use fewer --workers or raise the limit"
            )


_LIMITS = {
    "server": "max_connections less what is reserved and in use",
    "database": "the database's CONNECTION LIMIT",
    "role": "the role's CONNECTION LIMIT",
}

# A limit of -1 is none. Free slots are counted without the connection that asks.
_QUESTION = """
WITH used AS (SELECT datname, usename FROM pg_stat_activity WHERE backend_type = 'client backend')
SELECT current_user AS role, r.rolsuper AS superuser, current_database() AS database, pg_is_in_recovery() AS recovery,
       current_setting('default_transaction_read_only')::bool AS read_only,
       current_setting('synchronous_standby_names') AS standbys,
       current_setting('synchronous_standby_names') <> ''
         AND current_setting('synchronous_commit') NOT IN ('off', 'local')
         AND NOT EXISTS (SELECT FROM pg_stat_replication) AS commits_wait,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       current_setting('max_connections')::int - (SELECT count(*) FROM used)
         - CASE WHEN r.rolsuper THEN 0
                ELSE current_setting('superuser_reserved_connections')::int
                     + coalesce(current_setting('reserved_connections', true)::int, 0) END AS server_free,
       CASE WHEN d.datconnlimit < 0 OR r.rolsuper THEN 100000
            ELSE d.datconnlimit - (SELECT count(*) FROM used WHERE datname = d.datname) END AS database_free,
       CASE WHEN r.rolconnlimit < 0 OR r.rolsuper THEN 100000
            ELSE r.rolconnlimit - (SELECT count(*) FROM used WHERE usename = r.rolname) END AS role_free
FROM pg_database d, pg_roles r
WHERE d.datname = current_database() AND r.rolname = session_user
"""


def _ask(connection: psycopg.Connection[tuple[Any, ...]]) -> dict[str, Any]:
    try:
        with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            row = cursor.execute(_QUESTION).fetchone()
    except psycopg.Error as problem:
        raise DatabaseProblem(f"the server does not answer as PostgreSQL does: {one_line(str(problem))}") from None
    assert row is not None  # each session has a database and a role
    return row
