"""Invoices are numbered without gaps: an INSERT that takes the highest number and one more.

As in PrestaShop, where two orders of one moment got one invoice number. One statement is not enough: two of them read
the same maximum. The fix is a row that keeps the last number, which an UPDATE locks until the invoice is committed.
"""

from __future__ import annotations

from . import Connection, Program, value

SCHEMA = """
CREATE TABLE invoices (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number int NOT NULL);
CREATE TABLE last_numbers (series text PRIMARY KEY, number int NOT NULL);
INSERT INTO last_numbers VALUES ('invoices', 0);
"""


def create_invoice(connection: Connection) -> int:
    with connection.transaction():
        number = value(
            connection,
            "INSERT INTO invoices (number) SELECT coalesce(max(number), 0) + 1 FROM invoices RETURNING number",
        )
    return int(number)


def create_invoice_from_a_row(connection: Connection) -> int:
    with connection.transaction():
        number = value(
            connection, "UPDATE last_numbers SET number = number + 1 WHERE series = 'invoices' RETURNING number"
        )
        connection.execute("INSERT INTO invoices (number) VALUES (%s)", [number])
    return int(number)


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(create_invoice,),
    fixed=(create_invoice_from_a_row,),
    invariant="SELECT number FROM invoices GROUP BY number HAVING count(*) > 1",
)
