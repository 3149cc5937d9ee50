"""The user's server: its DSN is parsed, and checked before anything starts."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.core.passwords import masked
from racebench.core.plain_text import one_line
from racebench.core.quantity import quantity
from racebench.core.target import Target
from racebench.postgres import pooler
from racebench.postgres.connection import connect
from racebench.postgres.schemas import new_name
from racebench.postgres.session_settings import differing

OLDEST_VERSION = 140000


def external(dsn: str) -> Target:
    """Parse a libpq connection string or URI.

    Raises UsageProblem for one that is not valid, without quoting it: it may hold a password.
    """
    try:
        if any(mark.search(dsn) for mark in _MISPLACED):
            raise UsageProblem(
                "the DSN has an '@' or '/' in its user, password or parameters (not shown: it may hold a password); "
                "write '@' as %40 and '/' as %2F there"
            )
        parsed = conninfo_to_dict(dsn)
    except (psycopg.Error, UnicodeError):
        raise UsageProblem(
            "the DSN cannot be parsed (not shown: it may hold a password); "
            "write postgresql://user@host:5432/database or 'host=… dbname=…'"
        ) from None
    parameters = {name: str(value) for name, value in parsed.items() if value is not None}
    if not _PORTS.fullmatch(parameters.get("port", "")):
        raise UsageProblem(
            "the DSN's port is not a number (not shown: it may be a password); "
            "write postgresql://user:password@host:5432/database"
        )
    if "://" in parameters.get("dbname", "") or "password" in parameters.get("dbname", ""):
        raise UsageProblem(
            "the DSN's dbname is another connection string (not shown: it may hold a password); give that as --dsn"
        )
    if parameters.pop("replication", "false").lower() not in _FALSE:
        raise UsageProblem("the DSN has 'replication', with which no ordinary statement can be run; leave it out")
    service = parameters.get("service") or os.environ.get("PGSERVICE")
    if "options" not in parameters and not service and (options := os.environ.get("PGOPTIONS")):
        parameters["options"] = options  # libpq reads it only where no options are given
    host = parameters.get("host") or parameters.get("hostaddr") or "the default host"
    port = f":{parameters['port']}" if parameters.get("port") else ""
    database = f"/{parameters['dbname']}" if "dbname" in parameters else ""
    return Target(kind="external", parameters=parameters, label=one_line(f"{host}{port}{database}"))


def shown(dsn: str) -> str:
    """A connection string without its password; of one that is not valid nothing, for its password may be anywhere."""
    try:
        parameters = external(dsn).parameters
    except UsageProblem:
        return "(not shown: it is no valid connection string, and may hold a password)"
    secrets = {name: value for name, value in parameters.items() if name in ("password", "sslpassword") and value}
    text = masked(dsn)
    if text.count("***") < len(secrets) or any(secret in text for secret in secrets.values()):  # unusually written
        return make_conninfo("", **{**parameters, **dict.fromkeys(secrets, "***")})
    return text


#: What libpq would take for a host, a port or a database, though it is part of a password that is not encoded.
_MISPLACED = (re.compile(r"^postgres(ql)?://.*@.*@", re.DOTALL), re.compile(r"^postgres(ql)?://[^@]*/.*@", re.DOTALL))
_PORTS = re.compile(r"[\d\s,]*")
_FALSE = ("false", "off", "no", "0", "f", "n", "")


def reached(target: Target) -> Target:
    """Connect to a user's server for the first time, and return the target with what is known of it then.

    Raises DatabaseProblem if it cannot be reached, is older than 14, does not answer as PostgreSQL does, or is behind a
    pooler that does not give each client a session of its own.
    """
    with first_connection(target) as (_, known):
        pass
    if known.pooled:
        pooler.check(known, 2)
    return known


@contextlib.contextmanager
def first_connection(target: Target) -> Iterator[tuple[psycopg.Connection[Any], Target]]:
    """A connection to a user's server, and the target with what is known of it then. Raises DatabaseProblem."""
    probe = new_name()
    try:
        connection = connect(target, own_code=True, settings={"search_path": probe})
    except DatabaseProblem as problem:
        if "startup parameter" not in str(problem):
            raise
        connection = connect(target, own_code=True)  # a pooler that refuses options
    with contextlib.closing(connection):
        version = connection.info.server_version
        if version < OLDEST_VERSION:
            raise DatabaseProblem(
                f"{target.label} is PostgreSQL {version // 10000}; racebench needs {OLDEST_VERSION // 10000} or newer"
            )
        try:
            row = connection.execute("SELECT current_setting('search_path'), pg_backend_pid()").fetchone()
            found, settings = differing(connection)
        except psycopg.Error as problem:
            raise DatabaseProblem(f"the server does not answer as PostgreSQL does: {one_line(str(problem))}") from None
        assert row is not None
        # A pooler gives its clients keys of its own in place of the server's (BackendKeyData).
        yield (
            connection,
            replace(
                target,
                pooled=row[1] != connection.info.backend_pid,
                keeps_search_path=row[0] == probe,
                found=found,
                settings=settings,
            ),
        )


def usable(target: Target, connections: int, *, superuser: bool = False) -> Target:
    """Return the target with what is known of it, once it is sure that a command can use the server.

    Raises DatabaseProblem unless the server is 14 or newer, commits, allows a schema and has connections free.
    `connections`: how many racebench is about to open, besides the one that asks. `superuser`: the role must be one.
    """
    with first_connection(target) as (connection, known):
        _check(connection, known, connections, superuser=superuser)
    if known.pooled:
        pooler.check(known, connections)
    return known


def _check(connection: psycopg.Connection[Any], target: Target, connections: int, *, superuser: bool) -> None:
    row = ask(connection, _QUESTION)
    assert row is not None
    if row["recovery"] or row["read_only"]:
        why = "is a standby" if row["recovery"] else "has default_transaction_read_only on"
        raise DatabaseProblem(f"{target.label} is read-only ({why}); give a DSN that may write")
    if row["commits_wait"] and not _has_standby(connection):
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
    room = ask(connection, _ROOM)
    if room is None or target.pooled:  # what a pooler keeps open is in use, and can be had
        return
    free, limit = min((room[f"{name}_free"], name) for name in ("server", "database", "role"))
    if free < connections:
        raise DatabaseProblem(
            f"{target.label} has {quantity(max(free, 0), 'free connection')} ({_LIMITS[limit]}), "
            f"{connections} are needed; use fewer --workers or raise the limit"
        )


def _has_standby(connection: psycopg.Connection[Any]) -> bool:
    """Whether a standby is connected; taken for granted if the role may not see it."""
    row = ask(connection, "SELECT EXISTS (SELECT FROM pg_stat_replication) AS standby", denied={"standby": True})
    return row is not None and bool(row["standby"])


_LIMITS = {
    "server": "max_connections less what is reserved and in use",
    "database": "the database's CONNECTION LIMIT",
    "role": "the role's CONNECTION LIMIT",
}

_QUESTION = """
SELECT current_user AS role, current_database() AS database, pg_is_in_recovery() AS recovery,
       current_setting('is_superuser')::bool AS superuser,
       current_setting('default_transaction_read_only')::bool AS read_only,
       current_setting('synchronous_standby_names') AS standbys,
       current_setting('synchronous_standby_names') <> ''
         AND current_setting('synchronous_commit') NOT IN ('off', 'local') AS commits_wait,
       has_database_privilege(current_database(), 'CREATE') AS may_create
"""

# A limit of -1 is none. Free slots are counted without the connection that asks.
_ROOM = """
WITH used AS (SELECT datname, usename FROM pg_stat_activity WHERE backend_type = 'client backend')
SELECT current_setting('max_connections')::int - (SELECT count(*) FROM used)
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


def ask(
    connection: psycopg.Connection[Any], question: str, *, denied: Mapping[str, Any] | None = None
) -> Mapping[str, Any] | None:
    """The first row, `denied` if the role may not see it; raises DatabaseProblem."""
    try:
        with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            return cursor.execute(question.encode()).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return denied
    except psycopg.Error as problem:
        raise DatabaseProblem(f"the server does not answer as PostgreSQL does: {one_line(str(problem))}") from None
