"""An order is pending, then paid or canceled: two requests both find it pending.

As in Shopware, Spree and the state_machine gem: the transition is checked in memory, and saved whatever the row has
become. The fix checks it in the UPDATE, and only the call that changed the row goes on.
"""

from __future__ import annotations

from . import Connection, Program, value

SCHEMA = """
CREATE TABLE orders (id int PRIMARY KEY, status text NOT NULL);
CREATE TABLE transitions (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text NOT NULL);
INSERT INTO orders VALUES (1, 'pending');
"""


def _change(connection: Connection, status: str) -> bool:
    with connection.transaction():
        if value(connection, "SELECT status FROM orders WHERE id = 1") != "pending":
            return False
        connection.execute("UPDATE orders SET status = %s WHERE id = 1", [status])
        connection.execute("INSERT INTO transitions (status) VALUES (%s)", [status])
    return True


def _change_if_pending(connection: Connection, status: str) -> bool:
    with connection.transaction():
        changed = connection.execute(
            "UPDATE orders SET status = %s WHERE id = 1 AND status = 'pending'", [status]
        ).rowcount
        if changed:
            connection.execute("INSERT INTO transitions (status) VALUES (%s)", [status])
    return bool(changed)


def pay(connection: Connection) -> bool:
    return _change(connection, "paid")


def cancel(connection: Connection) -> bool:
    return _change(connection, "canceled")


def pay_if_pending(connection: Connection) -> bool:
    return _change_if_pending(connection, "paid")


def cancel_if_pending(connection: Connection) -> bool:
    return _change_if_pending(connection, "canceled")


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(pay, cancel),
    fixed=(pay_if_pending, cancel_if_pending),
    invariant="SELECT count(*) FROM transitions HAVING count(*) > 1",
)
