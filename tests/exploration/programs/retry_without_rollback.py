"""A refused INSERT is tried again in the transaction that it has aborted: every further try fails, and it gives up.

As in Solid Queue, and wherever "current transaction is aborted" was the message that reached the log. No exception
reaches the caller: the order is missing, and the call returns None. The fix is the rollback.
"""

from __future__ import annotations

import psycopg

from . import Connection, Program, value

SCHEMA = "CREATE TABLE orders (number int PRIMARY KEY);"


def create_order(connection: Connection) -> int | None:
    for _ in range(3):
        try:
            number: int = _insert(connection)
        except psycopg.Error:
            continue
        return number
    connection.rollback()
    return None


def create_order_after_a_rollback(connection: Connection) -> int | None:
    for _ in range(3):
        try:
            number: int = _insert(connection)
        except psycopg.Error:
            connection.rollback()
            continue
        return number
    return None


def _insert(connection: Connection) -> int:
    number = value(connection, "SELECT coalesce(max(number), 0) + 1 FROM orders")
    connection.execute("INSERT INTO orders VALUES (%s)", [number])
    connection.commit()
    return int(number)


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(create_order,),
    fixed=(create_order_after_a_rollback,),
    invariant="SELECT count(*) FROM orders HAVING count(*) <> 2",
)
