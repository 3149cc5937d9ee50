"""The settings that strategies are defined under: which of a role or a database differ, and what replaces them.

A strategy of a scenario, and what racebench asks itself, run with PostgreSQL's defaults; the user's own code runs with
what its role has. environment.py reports the differences, connection.py sets what replaces them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import psycopg

#: What the result of a strategy depends on, with PostgreSQL's defaults (PostgreSQL manual, "Server Configuration").
_OF_STRATEGIES = {
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
    "idle_session_timeout": "0",
    "session_replication_role": "origin",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "row_security": "on",
}
#: How values are written, which changes no result; replaced without a word.
_OF_VALUES = {"IntervalStyle": "postgres", "bytea_output": "hex"}
_OF_SUPERUSERS = "session_replication_role"


def differing(connection: psycopg.Connection[Any]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The settings of a session that strategies are not defined under, and the values that replace settings.

    What may not be replaced is only in the first. Nothing replaces default_transaction_read_only: it says that nothing
    may be written.
    """
    names = [*_OF_STRATEGIES, *_OF_VALUES, "DateStyle", "synchronous_commit"]
    values = _values(connection, names)
    found = {name: values[name] for name, value in _OF_STRATEGIES.items() if values.get(name, value) != value}
    replaced = {name: _OF_STRATEGIES[name] for name in found}
    if values["synchronous_commit"] == "off":
        # "local" too keeps what is acknowledged when the server crashes, and waits for no standby.
        found["synchronous_commit"], replaced["synchronous_commit"] = "off", "local"
    if _OF_SUPERUSERS in replaced and not _may_set(connection, _OF_SUPERUSERS, replaced[_OF_SUPERUSERS]):
        del replaced[_OF_SUPERUSERS]
    replaced |= {name: value for name, value in _OF_VALUES.items() if values[name] != value}
    if not values["DateStyle"].startswith("ISO"):
        replaced["DateStyle"] = "ISO, MDY"
    return found, replaced


def loses_commits(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server may lose acknowledged commits of this session when it crashes."""
    values = _values(connection, ["synchronous_commit", "fsync", "full_page_writes"])
    return "off" in values.values()


def _values(connection: psycopg.Connection[Any], names: Iterable[str]) -> dict[str, str]:
    """The values of the settings that the server knows. pg_settings would do, but a role may be denied it."""
    rows = connection.execute(
        "SELECT name, current_setting(name, true) FROM unnest(%s::text[]) AS name", (list(names),)
    ).fetchall()
    return {name: value for name, value in rows if value is not None}


def _may_set(connection: psycopg.Connection[Any], name: str, value: str) -> bool:
    """Whether the role may change a setting; it is changed for this statement only."""
    try:
        connection.execute("SELECT set_config(%s, %s, true)", (name, value))
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
