"""Where a result was measured: the server's version and the settings that matter, the machine, the software."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psycopg

import racebench
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.extension import extension

_SETTINGS = (
    "autovacuum",
    "commit_delay",
    "deadlock_timeout",
    "default_transaction_isolation",
    "fsync",
    "full_page_writes",
    "huge_pages",
    "io_method",
    "jit",
    "max_connections",
    "shared_buffers",
    "synchronous_commit",
    "synchronous_standby_names",
    "track_commit_timestamp",
    "wal_level",
)


def describe(target: Target, more: Iterable[str] = (), *, own_code: bool = False) -> Mapping[str, Any]:
    """Ask the server and the machine; the answer has no password, host name or user name. `more`: further settings.

    The settings are those of the sessions of strategies, or of the user's `own_code`. `role_settings` are those that
    the role, the database or the server has, and that strategies are not defined under. `client`: whether the compiled
    extension runs what it can of a script. `standby`: where consumers read too, if they do.
    """
    names = sorted({*_SETTINGS, *more})
    with connect(target, own_code=own_code) as connection:
        # Not from pg_settings: a role may be denied it.
        rows = connection.execute(
            "SELECT name, current_setting(name, true) FROM unnest(%s::text[]) AS name ORDER BY name", (names,)
        ).fetchall()
        version = connection.info.parameter_status("server_version")
    return {
        "racebench": racebench.__version__,
        "target": target.kind,
        "server_version": version,
        **({} if target.standby is None else {"standby": _standby(target.standby)}),
        "server_settings": {name: value for name, value in rows if value is not None},
        "role_settings": dict(target.found),
        "cpu_count": os.cpu_count(),
        "machine": platform.machine(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "psycopg": psycopg.__version__,
        "libpq": psycopg.pq.version(),
        "client": "Python" if extension() is None else "extension",
    }


def _standby(standby: Target) -> Mapping[str, Any]:
    return {"target": standby.kind, "delay_ms": standby.behind_ms if standby.kind == "embedded" else None}


def _processor() -> str:
    """The processor's model as the system names it; if it does not, as Python does."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
