"""psycopg2, which sends simple queries, with a connection for each request."""

import os
from collections.abc import Callable

import psycopg2
from threads import serve


def insert(cursor) -> None:
    cursor.execute("SELECT coalesce(max(number), 0) + 1 FROM orders")
    cursor.execute("INSERT INTO orders (number) VALUES (%s)", cursor.fetchone())


def insert_locked(cursor) -> None:
    cursor.execute("SELECT pg_advisory_xact_lock(42)")
    insert(cursor)


def transaction(work: Callable[..., None], autocommit: bool = False) -> None:
    connection = psycopg2.connect(os.environ["DATABASE_URL"])
    try:
        connection.autocommit = autocommit
        with connection.cursor() as cursor:
            work(cursor)
        if not autocommit:
            connection.commit()
    finally:
        connection.close()


def insert_again_and_again() -> None:
    for _ in range(10):
        try:
            return transaction(insert)
        except psycopg2.errors.UniqueViolation:
            pass
    raise RuntimeError("still refused")


serve(
    {
        "/orders": lambda: transaction(insert),
        "/orders/autocommit": lambda: transaction(insert, autocommit=True),
        "/orders/locked": lambda: transaction(insert_locked),
        "/orders/unique": insert_again_and_again,
    }
)
