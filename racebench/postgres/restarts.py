"""Recognizes that the server crashed or restarted between two moments, by its own processes: a crash replaces all.

The postmaster survives the crash of a session, so that pg_postmaster_start_time() does not tell.
"""

from __future__ import annotations

import os
from typing import Any

import psycopg

from racebench.core.target import Target

# The checkpointer, the writers and the others that serve all databases. A role that may not see when they began still
# sees their pids.
_QUESTION = """
SELECT pid || ' ' || coalesce(backend_start::text, '') FROM pg_stat_activity WHERE datid IS NULL AND usesysid IS NULL
"""


def server_processes(connection: psycopg.Connection[Any]) -> frozenset[str]:
    """The server's own processes; none if it does not say."""
    try:
        return frozenset(text for (text,) in connection.execute(_QUESTION).fetchall())
    except psycopg.errors.InsufficientPrivilege:
        return frozenset()


def restarted(before: frozenset[str], after: frozenset[str]) -> bool:
    """Whether no process of the server is left of those before."""
    return bool(before) and bool(after) and before.isdisjoint(after)


def has_ended(target: Target) -> bool:
    """Whether the server that this process has started has ended; False of any other server."""
    if target.server_pid is None or not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_PID, target.server_pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
