"""Orders that are numbered 1, 2, 3 …, over psycopg 3."""

import os

import psycopg

SCHEMA = """
CREATE TABLE orders (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number int NOT NULL
);
"""


def create_order():
    """Wrong: two requests can read the same maximum."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        (number,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()
        connection.execute("INSERT INTO orders (number) VALUES (%s)", [number])
        return number


def create_order_fixed():
    """Right: the second session waits until the first has committed."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(42)")
        (number,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()
        connection.execute("INSERT INTO orders (number) VALUES (%s)", [number])
        return number
