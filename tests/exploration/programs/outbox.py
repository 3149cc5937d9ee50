"""Events are written to an outbox; after its commit each call relays what is new, from where the last relay ended.

As in Eventuous, SQLStreamStore, message-db and nearly every event store on PostgreSQL: an event takes its position at
its INSERT, and is visible at its COMMIT. The relay passes the position of an event that is not committed yet, and
never comes back. The fix lets events take their positions in the order of their commits.
"""

from __future__ import annotations

from . import Connection, Program

SCHEMA = """
CREATE TABLE outbox (position int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event text NOT NULL);
CREATE TABLE delivered (position int PRIMARY KEY);
"""
RELAY = """
INSERT INTO delivered SELECT position FROM outbox
WHERE position > (SELECT coalesce(max(position), 0) FROM delivered)
"""


def place_order(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("INSERT INTO outbox (event) VALUES ('order placed')")
    _relay(connection)


def place_order_in_line(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        connection.execute("INSERT INTO outbox (event) VALUES ('order placed')")
    _relay(connection)


def _relay(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("LOCK TABLE delivered IN EXCLUSIVE MODE")
        connection.execute(RELAY)


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(place_order,),
    fixed=(place_order_in_line,),
    invariant="SELECT position FROM outbox EXCEPT SELECT position FROM delivered",
)
