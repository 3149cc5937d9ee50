"""A service with FastAPI that numbers orders 1, 2, 3 …, over a pool of asyncpg's."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import Depends, FastAPI, Request


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


async def transaction(request: Request) -> AsyncIterator[asyncpg.Connection]:
    """A connection and a transaction for each request. It commits before the response is sent."""
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        yield connection


Transaction = Annotated[asyncpg.Connection, Depends(transaction, scope="function")]


async def insert(connection: asyncpg.Connection) -> int:
    number: int = await connection.fetchval("SELECT coalesce(max(number), 0) + 1 FROM orders")
    await connection.execute("INSERT INTO orders (number) VALUES ($1)", number)
    return number


@app.post("/orders", status_code=201)
async def create_order(connection: Transaction) -> int:
    """Wrong: two requests can read the same maximum."""
    return await insert(connection)


@app.post("/orders/fixed", status_code=201)
async def create_order_fixed(connection: Transaction) -> int:
    """Right: the second transaction waits until the first has committed."""
    await connection.execute("SELECT pg_advisory_xact_lock(42)")
    return await insert(connection)
