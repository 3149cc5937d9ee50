"""A service with FastAPI that numbers orders 1, 2, 3 …, over psycopg 3."""

import os
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import psycopg
from fastapi import Depends, FastAPI
from psycopg import AsyncConnection, Connection

SCHEMA = """
CREATE TABLE orders (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number int NOT NULL
);
"""
NEXT = "SELECT coalesce(max(number), 0) + 1 FROM orders"

app = FastAPI()


def connect() -> Iterator[Connection]:
    """A connection and a transaction for each request."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        yield connection


async def connect_async() -> AsyncIterator[AsyncConnection]:
    async with await AsyncConnection.connect(os.environ["DATABASE_URL"]) as connection:
        yield connection


@app.post("/orders")
def create_order(connection: Annotated[Connection, Depends(connect)]):
    """Wrong: two requests can read the same maximum. FastAPI runs this in a thread."""
    (number,) = connection.execute(NEXT).fetchone()
    connection.execute("INSERT INTO orders (number) VALUES (%s)", [number])
    return {"number": number}


@app.post("/orders/fixed")
def create_order_fixed(connection: Annotated[Connection, Depends(connect)]):
    """Right: the second session waits until the first has committed."""
    connection.execute("SELECT pg_advisory_xact_lock(42)")
    return create_order(connection)


@app.post("/orders/async")
async def create_order_async(connection: Annotated[AsyncConnection, Depends(connect_async)]):
    """Wrong as well, in the event loop."""
    (number,) = await (await connection.execute(NEXT)).fetchone()
    await connection.execute("INSERT INTO orders (number) VALUES (%s)", [number])
    return {"number": number}


@app.post("/orders/async/fixed")
async def create_order_async_fixed(connection: Annotated[AsyncConnection, Depends(connect_async)]):
    await connection.execute("SELECT pg_advisory_xact_lock(42)")
    return await create_order_async(connection)
