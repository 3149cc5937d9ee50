"""Commands that take the same way under a fault as another command that is tried: their cells need --twins.

The reference figures leave them out, so that the others have more trials.
"""

from __future__ import annotations

from collections.abc import Mapping

#: By the name of the fault.
TWINS: Mapping[str, tuple[str, ...]] = {
    "nothing": (
        "run several",
        "compare",
        "matrix",
        "demo",
    ),
    "worker killed": (
        "run several",
        "pytest",
    ),
    "worker paused": ("run --call",),
    "command killed": (
        "compare",
        "demo",
    ),
    "command paused": ("run",),
    "embedded, command killed": ("explore",),
    "worker terminated": ("run",),
    "consumer terminated": ("matrix",),
    "command terminated": (
        "explore --call",
        "pytest",
    ),
    "all terminated": (
        "explore",
        "pytest",
    ),
    "backend killed": (
        "run several",
        "pytest",
    ),
    "backend paused": ("explore --call",),
    "postmaster killed": (
        "run --call",
        "explore",
    ),
    "server restarted": (
        "run",
        "pytest",
    ),
    "server crashed": ("run --call",),
    "server gone": (
        "explore",
        "pytest",
    ),
    "embedded, postmaster killed": (
        "run --call",
        "explore",
    ),
    "embedded, backend killed": (
        "run",
        "run --call",
    ),
    "cut before COMMIT": ("run several",),
    "cut inside COMMIT": (
        "run several",
        "run --call",
    ),
    "cut after COMMIT": ("run",),
    "cut behind a refusal": ("run several",),
    "cut at a message": ("compare",),
    "stall": ("explore",),
    "black hole": ("run --call",),
    "black hole behind COMMIT": ("run --call",),
    "half-closed": ("run --call",),
    "seven bytes at a time": (
        "run --call",
        "explore --call",
    ),
    "PgBouncer, session pooling": ("explore",),
    "PgBouncer, session pooling, options ignored": (
        "run --call",
        "explore",
    ),
    "PgBouncer, transaction pooling, options ignored": ("explore --call",),
    "PgBouncer, statement pooling, options ignored": ("pytest",),
    "PgBouncer killed": ("explore",),
    "standby": ("explore",),
    "read-only role": ("run",),
    "no rights": ("pytest",),
    "few connections": ("explore",),
    "role serializable": (
        "explore",
        "explore --call",
    ),
    "role repeatable read": (
        "run --call",
        "explore",
    ),
    "role time-outs": (
        "explore",
        "explore --call",
    ),
    "role idle time-out": (
        "run",
        "explore",
        "explore --call",
    ),
    "role formats": ("explore --call",),
    "role search_path": ("explore --call",),
    "client encoding LATIN1": ("explore --call",),
    "client encoding SQL_ASCII": ("run",),
    "PGCLIENTENCODING": ("explore --call",),
    "database LATIN1": ("explore --call",),
    "database SQL_ASCII": ("run",),
    "PostgreSQL 14": ("explore",),
    "PostgreSQL 16": ("run",),
    "PostgreSQL 17": ("explore",),
    "PostgreSQL 18": ("run",),
    "disk full": ("pytest",),
    "few descriptors": (
        "run --call",
        "explore",
        "check",
    ),
    "little memory": (
        "run --call",
        "check",
    ),
    "SIGINT": (
        "explore",
        "pytest",
    ),
    "SIGTERM": (
        "run",
        "explore",
    ),
    "SIGHUP": (
        "explore",
        "pytest",
    ),
    "SIGTERM to the group": (
        "run",
        "pytest",
    ),
    "SIGINT twice": (
        "run --call",
        "explore --call",
    ),
    "SIGHUP ignored": ("pytest",),
    "embedded, SIGINT to the group": ("pytest",),
}
