"""A host runs one job at a time: the advisory lock's key is made from all arguments of the job, not from the host.

As in good_job, where a key made of all arguments differed between jobs that exclude each other. Each session takes
its lock, and none waits. The fix makes the key from what is shared.
"""

from __future__ import annotations

from . import Connection, Program, value

SCHEMA = "CREATE TABLE running (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, host int NOT NULL, job text NOT NULL);"


def _start(connection: Connection, host: int, job: str, key: str) -> bool:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [key])
        if value(connection, "SELECT count(*) FROM running WHERE host = %s", host):
            return False
        connection.execute("INSERT INTO running (host, job) VALUES (%s, %s)", [host, job])
    return True


def start_backup(connection: Connection) -> bool:
    return _start(connection, 1, "backup", "host 1, backup")


def start_upgrade(connection: Connection) -> bool:
    return _start(connection, 1, "upgrade", "host 1, upgrade")


def start_backup_locked(connection: Connection) -> bool:
    return _start(connection, 1, "backup", "host 1")


def start_upgrade_locked(connection: Connection) -> bool:
    return _start(connection, 1, "upgrade", "host 1")


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(start_backup, start_upgrade),
    fixed=(start_backup_locked, start_upgrade_locked),
    invariant="SELECT host FROM running GROUP BY host HAVING count(*) > 1",
)
