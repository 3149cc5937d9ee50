"""A number that is taken is tried again: in autocommit mode, so that the retry repeats what the first try had done.

As wherever a retry is put around several statements that are no transaction: the stock goes down by one for each try.
The fix makes them one transaction, which the violation rolls back.
"""

from __future__ import annotations

import random
import time

from psycopg.errors import UniqueViolation

from . import Connection, Program, value

SCHEMA = """
CREATE TABLE orders (number int PRIMARY KEY);
CREATE TABLE stock (item int PRIMARY KEY, quantity int NOT NULL);
INSERT INTO stock VALUES (1, 10);
"""


def order(connection: Connection) -> int:
    connection.autocommit = True
    return _until_accepted(connection)


def order_in_a_transaction(connection: Connection) -> int:
    return _until_accepted(connection)


def _until_accepted(connection: Connection) -> int:
    for _ in range(5):
        try:
            connection.execute("UPDATE stock SET quantity = quantity - 1 WHERE item = 1")
            number = value(connection, "SELECT coalesce(max(number), 0) + 1 FROM orders")
            connection.execute("INSERT INTO orders VALUES (%s)", [number])
            connection.commit()
        except UniqueViolation:
            connection.rollback()
            time.sleep(random.uniform(0, 0.01))
        else:
            return int(number)
    raise RuntimeError("every number was taken")


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(order,),
    fixed=(order_in_a_transaction,),
    invariant="SELECT quantity FROM stock WHERE quantity + (SELECT count(*) FROM orders) <> 10",
)
