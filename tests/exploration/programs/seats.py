"""The best free seat is sold in one UPDATE: the second buyer is told that none is left, although there is one.

As in queues whose workers come back with nothing, ODK Central's among them: both subqueries find the first seat. The
second UPDATE waits for it, sees that it is taken, and changes no row. The tables look as if one buyer had come; no
constraint is broken. The fix locks the seat that the subquery finds, and skips those that are locked.
"""

from __future__ import annotations

from . import Connection, Program, value

SCHEMA = """
CREATE TABLE seats (name text PRIMARY KEY, taken bool NOT NULL DEFAULT false);
INSERT INTO seats VALUES ('A1'), ('A2');
"""
TAKE = """
UPDATE seats SET taken = true
WHERE NOT taken AND name = (SELECT name FROM seats WHERE NOT taken ORDER BY name LIMIT 1 {lock})
RETURNING name
"""


def take_seat(connection: Connection) -> str | None:
    with connection.transaction():
        seat: str | None = value(connection, TAKE.format(lock=""))
    return seat


def take_seat_that_is_not_locked(connection: Connection) -> str | None:
    with connection.transaction():
        seat: str | None = value(connection, TAKE.format(lock="FOR UPDATE SKIP LOCKED"))
    return seat


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(take_seat,),
    fixed=(take_seat_that_is_not_locked,),
    invariant="SELECT name FROM seats WHERE NOT taken",
)
