"""pg8000, a driver in Python alone, with a connection for each request."""

import os
from collections.abc import Callable
from urllib.parse import urlsplit

import pg8000.dbapi
from threads import serve


def connect():
    url = urlsplit(os.environ["DATABASE_URL"])
    return pg8000.dbapi.connect(
        user=url.username, password=url.password, host=url.hostname, port=url.port, database=url.path[1:]
    )


def insert(cursor) -> None:
    cursor.execute("SELECT coalesce(max(number), 0) + 1 FROM orders")
    cursor.execute("INSERT INTO orders (number) VALUES (%s)", cursor.fetchone())


def insert_locked(cursor) -> None:
    cursor.execute("SELECT pg_advisory_xact_lock(42)")
    insert(cursor)


def transaction(work: Callable[..., None], autocommit: bool = False) -> None:
    connection = connect()
    try:
        connection.autocommit = autocommit
        work(connection.cursor())
        if not autocommit:
            connection.commit()
    finally:
        connection.close()


def insert_again_and_again() -> None:
    for _ in range(10):
        try:
            return transaction(insert)
        except pg8000.dbapi.DatabaseError as error:
            if error.args[0]["C"] != "23505":
                raise
    raise RuntimeError("still refused")


serve(
    {
        "/orders": lambda: transaction(insert),
        "/orders/autocommit": lambda: transaction(insert, autocommit=True),
        "/orders/locked": lambda: transaction(insert_locked),
        "/orders/unique": insert_again_and_again,
    }
)
