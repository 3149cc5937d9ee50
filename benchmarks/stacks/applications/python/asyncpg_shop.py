"""FastAPI over a pool of asyncpg's. POOL is its size; CACHE=0 disables the cache of prepared statements."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
from fastapi import BackgroundTasks, FastAPI

NEXT = "SELECT coalesce(max(number), 0) + 1 FROM orders"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    options = {"statement_cache_size": 0} if os.environ.get("CACHE") == "0" else {}
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=1, max_size=int(os.environ.get("POOL", "10")), **options
    ) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


async def insert(connection: asyncpg.Connection) -> int:
    number = await connection.fetchval(NEXT)
    await connection.execute("INSERT INTO orders (number) VALUES ($1)", number)
    return number


async def insert_locked(connection: asyncpg.Connection) -> int:
    await connection.execute("SELECT pg_advisory_xact_lock(42)")
    return await insert(connection)


async def transaction(work: Callable[[asyncpg.Connection], Awaitable[int]], isolation: str = "read_committed") -> int:
    async with app.state.pool.acquire() as connection, connection.transaction(isolation=isolation):
        return await work(connection)


@app.post("/orders")
async def create_order() -> int:
    return await transaction(insert)


@app.post("/orders/autocommit")
async def create_order_by_autocommit() -> int:
    async with app.state.pool.acquire() as connection:
        return await insert(connection)


@app.post("/orders/locked")
async def create_order_locked() -> int:
    return await transaction(insert_locked)


@app.post("/orders/unique")
async def create_order_again_and_again() -> int:
    for _ in range(10):
        try:
            return await transaction(insert)
        except asyncpg.UniqueViolationError:
            pass
    raise RuntimeError("still refused")


@app.post("/orders/repeatable-read")
async def create_order_in_repeatable_read() -> int:
    return await transaction(insert, "repeatable_read")


@app.post("/orders/afterwards")
async def create_order_afterwards(tasks: BackgroundTasks) -> None:
    """The order is made after the response."""
    tasks.add_task(transaction, insert)
