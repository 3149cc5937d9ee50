"""Two bookings of a room may not overlap: the search for an overlap and the INSERT are two statements.

As in Cal.com, LibreBooking and many more: two requests both find the time free. The fix is PostgreSQL's own, an
exclusion constraint, whose violation is an answer to the guest and no error.
"""

from __future__ import annotations

from psycopg.errors import ExclusionViolation

from . import Connection, Program, value

SCHEMA = "CREATE TABLE bookings (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, during int4range NOT NULL);"


def _book(connection: Connection, first: int, last: int) -> bool:
    with connection.transaction():
        if value(connection, "SELECT count(*) FROM bookings WHERE during && int4range(%s, %s)", first, last):
            return False
        connection.execute("INSERT INTO bookings (during) VALUES (int4range(%s, %s))", [first, last])
    return True


def _book_excluded(connection: Connection, first: int, last: int) -> bool:
    try:
        return _book(connection, first, last)
    except ExclusionViolation:
        return False


def book_from_9_to_11(connection: Connection) -> bool:
    return _book(connection, 9, 11)


def book_from_10_to_12(connection: Connection) -> bool:
    return _book(connection, 10, 12)


def book_from_9_to_11_excluded(connection: Connection) -> bool:
    return _book_excluded(connection, 9, 11)


def book_from_10_to_12_excluded(connection: Connection) -> bool:
    return _book_excluded(connection, 10, 12)


PROGRAM = Program(
    schema=SCHEMA,
    fixed_schema="ALTER TABLE bookings ADD EXCLUDE USING gist (during WITH &&);",
    buggy=(book_from_9_to_11, book_from_10_to_12),
    fixed=(book_from_9_to_11_excluded, book_from_10_to_12_excluded),
    invariant="SELECT a.during, b.during FROM bookings a JOIN bookings b ON a.id < b.id AND a.during && b.during",
)
