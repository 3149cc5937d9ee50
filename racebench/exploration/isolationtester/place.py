"""Where a spec runs: a database of its own, or a schema of its own in the user's database.

Both are dropped at the end, whatever happens. A database of its own is what PostgreSQL's pg_isolation_regress gives a
spec: it has the name and the settings that PostgreSQL's own specs rely on, a spec may do anything in it, and it can be
dropped even if the spec damages the catalog. On the user's server racebench creates no database.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.core.signals import shielded
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.requirements import check_steps
from racebench.postgres.schemas import empty_schema, new_name

#: The database that pg_isolation_regress creates. Some specs name it.
DATABASE = "isolation_regression"
#: The settings that pg_regress gives this database (src/test/regress/pg_regress.c, create_database).
_SETTINGS = {
    **dict.fromkeys(("lc_messages", "lc_monetary", "lc_numeric", "lc_time"), "C"),
    "bytea_output": "hex",
    "timezone_abbreviations": "Default",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The database to connect to, and the schema to work in: None is the server's default, which is `public`."""

    target: Target
    schema: str | None = None


@contextlib.contextmanager
def place_on(target: Target) -> Iterator[Place]:
    """A place on a server: a database of its own on the embedded server, a schema of its own on the user's."""
    with own_database(target) if target.sealed else _own_schema(target) as place:
        yield place


@contextlib.contextmanager
def _own_schema(target: Target) -> Iterator[Place]:
    check_steps(target)
    schema = new_name()
    with empty_schema(target, schema):
        with connect(target) as connection:
            # Specs make roles and act as them.
            connection.execute(sql.SQL("GRANT ALL ON SCHEMA {} TO PUBLIC").format(sql.Identifier(schema)))
        yield Place(target=target, schema=schema)


@contextlib.contextmanager
def own_database(target: Target) -> Iterator[Place]:
    """Create the database, drop it at the end, and with it the transactions that the spec has only prepared.

    On the embedded server the roles that the spec has made are dropped too. Raises DatabaseProblem.
    """
    with shielded(), _asking(target) as connection:
        roles = _roles(connection)
        try:
            connection.execute(_creation(connection))
        except psycopg.Error as problem:
            raise DatabaseProblem(
                f"cannot create the database {DATABASE} on {target.label}: {one_line(str(problem))}; "
                + _next_move(target)
            ) from None
    inside = replace(target, parameters={**target.parameters, "dbname": DATABASE})
    kept = roles if target.sealed else None
    try:
        _configure(inside)
        yield Place(target=inside)
    except BaseException as first:
        with shielded():
            try:
                _drop(target, inside, kept)
            except DatabaseProblem as second:  # the first failure is reported, with a note of what is left
                first.add_note(str(second))
        raise
    with shielded():
        _drop(target, inside, kept)


def _asking(target: Target) -> psycopg.Connection[Any]:
    """A connection that reads names as text in a database of any encoding, SQL_ASCII included."""
    return connect(target, settings={"client_encoding": "UTF8"})


def _creation(connection: psycopg.Connection[Any]) -> sql.Composed:
    """The statement that creates the database as pg_regress does; the embedded server has no template0."""
    row = connection.execute(
        "SELECT coalesce((SELECT datname FROM pg_database WHERE datname = 'template0'), current_database())"
    ).fetchone()
    assert row is not None
    return sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(DATABASE), sql.Identifier(row[0]))


def _configure(inside: Target) -> None:
    try:
        with _asking(inside) as connection:
            for setting, value in _SETTINGS.items():
                statement = sql.SQL("ALTER DATABASE {} SET {} TO {}")
                connection.execute(
                    statement.format(sql.Identifier(DATABASE), sql.Identifier(setting), sql.Literal(value))
                )
    except psycopg.Error as problem:
        raise DatabaseProblem(
            f"cannot configure the database {DATABASE} on {inside.label}: {one_line(str(problem))}; "
            "give a role that is a superuser, as pg_isolation_regress has"
        ) from None


def _roles(connection: psycopg.Connection[Any]) -> set[str]:
    return {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}


def _drop(target: Target, inside: Target, kept: set[str] | None) -> None:
    """Drop the database, and the roles that are not in `kept`, unless that is None."""
    try:
        with _asking(inside) as connection:
            prepared = connection.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
            for (gid,) in prepared.fetchall():
                connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
        with _asking(target) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(DATABASE)))
            for role in _roles(connection) - kept if kept is not None else ():
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    except (psycopg.Error, DatabaseProblem) as problem:
        raise DatabaseProblem(
            f"cannot remove the database {DATABASE}, or the roles of the spec, from {target.label}: "
            f"{one_line(str(problem))}; {_next_move(target)}"
        ) from None


def _next_move(target: Target) -> str:
    if target.sealed:
        return "`racebench server reset` makes the embedded server anew"
    return f"if it is not in use, drop it yourself: DROP DATABASE {DATABASE} WITH (FORCE)"
