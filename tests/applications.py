"""Application code as people write it, right and wrong: what tests/test_own_code.py explores and hammers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

SCHEMA = """
CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number int NOT NULL);
CREATE TABLE stock (item int PRIMARY KEY, left_over int NOT NULL);
INSERT INTO stock VALUES (1, 1), (2, 100);
"""
UNIQUE = SCHEMA + "ALTER TABLE orders ADD UNIQUE (number);"
TWINS = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"
OVERSOLD = "SELECT item FROM stock WHERE left_over < 0"

Connection = psycopg.Connection[Any]
AsyncConnection = psycopg.AsyncConnection[Any]


class OutOfStock(Exception):  # noqa: N818 - a refusal
    """The application's own way to say no."""


def create_order(connection: Connection) -> None:
    with connection.transaction():
        row = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()
        assert row is not None
        connection.execute("INSERT INTO orders (number) VALUES (%s)", [row[0]])


def create_order_and_commit(connection: Connection) -> None:
    row = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()
    assert row is not None
    connection.execute("INSERT INTO orders (number) VALUES (%s)", [row[0]])
    connection.commit()


def create_order_locked(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(42)")
        create_order(connection)


def create_order_again_and_again(connection: Connection) -> None:
    """Right with a unique constraint."""
    for _ in range(10):
        try:
            return create_order(connection)
        except psycopg.errors.UniqueViolation:
            time.sleep(random.uniform(0, 0.01))
    raise RuntimeError("still refused")


def create_order_in_one_statement() -> None:
    """One statement, autocommitted, over a connection of its own: two sessions read the same maximum all the same."""
    with psycopg.connect(os.environ["RACEBENCH_DSN"], autocommit=True) as connection:
        connection.execute("INSERT INTO orders (number) SELECT coalesce(max(number), 0) + 1 FROM orders")


def create_order_one() -> None:
    """The same number every time: alone, too, the second is refused."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("INSERT INTO orders (number) VALUES (1)")


def buy(connection: Connection) -> None:
    """Check, then act: two sessions both see the last one."""
    with connection.transaction():
        row = connection.execute("SELECT left_over FROM stock WHERE item = 1").fetchone()
        assert row is not None
        if row[0] < 1:
            raise OutOfStock
        connection.execute("UPDATE stock SET left_over = left_over - 1 WHERE item = 1")


def buy_locked(connection: Connection) -> None:
    with connection.transaction():
        row = connection.execute("SELECT left_over FROM stock WHERE item = 1 FOR UPDATE").fetchone()
        assert row is not None
        if row[0] < 1:
            raise OutOfStock
        connection.execute("UPDATE stock SET left_over = left_over - 1 WHERE item = 1")


def move_up(connection: Connection) -> None:
    _move(connection, 1, 2)


def move_down(connection: Connection) -> None:
    _move(connection, 2, 1)


def _move(connection: Connection, one: int, other: int) -> None:
    """Locks its rows in the order in which it was told of them."""
    with connection.transaction():
        connection.execute("UPDATE stock SET left_over = left_over - 1 WHERE item = %s", [one])
        connection.execute("UPDATE stock SET left_over = left_over + 1 WHERE item = %s", [other])


def savepoints(connection: Connection) -> None:
    """A block inside a block that fails, as frameworks nest them."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(7)")
        try:
            with connection.transaction():
                connection.execute("INSERT INTO stock VALUES (1, 1)")
        except psycopg.errors.UniqueViolation:
            create_order(connection)


def create_order_nested(connection: Connection) -> None:
    """Blocks inside a block, each a savepoint: what they set and forget is nobody else's affair."""
    with connection.transaction():
        with connection.transaction():
            row = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()
        assert row is not None
        with connection.transaction():
            connection.execute("INSERT INTO orders (number) VALUES (%s)", [row[0]])


def create_order_and_say_so(connection: Connection) -> None:
    print("an order")  # noqa: T201 - what applications do
    create_order(connection)


def create_order_or_give_up(connection: Connection) -> None:
    """What a user is told when it could not be done is the application's own exception."""
    try:
        create_order(connection)
    except psycopg.errors.UniqueViolation:
        raise RuntimeError("<give up>") from None


def create_order_elsewhere(connection: Connection) -> None:
    """Half of its work is done by a thread of its own."""
    connection.execute("SELECT 1")
    connection.commit()
    helper = threading.Thread(target=create_order_in_one_statement)
    helper.start()
    helper.join()


def create_order_over_its_own() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        create_order(connection)


def create_order_locked_over_its_own() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        create_order_locked(connection)


_helpers = ThreadPoolExecutor(2)


def create_order_in_an_executor() -> None:
    _helpers.submit(create_order_over_its_own).result()


def create_order_locked_in_an_executor() -> None:
    _helpers.submit(create_order_locked_over_its_own).result()


async def create_order_in_a_thread() -> None:
    await asyncio.to_thread(create_order_over_its_own)


async def create_order_locked_in_a_thread() -> None:
    await asyncio.to_thread(create_order_locked_over_its_own)


async def create_order_async(connection: AsyncConnection) -> None:
    async with connection.transaction():
        row = await (await connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders")).fetchone()
        assert row is not None
        await connection.execute("INSERT INTO orders (number) VALUES (%s)", [row[0]])


async def create_order_locked_async(connection: AsyncConnection) -> None:
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(42)")
        await create_order_async(connection)


async def _create_order_async_over_its_own(create: Callable[[AsyncConnection], Coroutine[Any, Any, None]]) -> None:
    async with await psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"]) as connection:
        await create(connection)


def create_order_in_a_loop() -> None:
    """A loop of its own."""
    asyncio.run(_create_order_async_over_its_own(create_order_async))


def create_order_locked_in_a_loop() -> None:
    asyncio.run(_create_order_async_over_its_own(create_order_locked_async))


_engines: list[Any] = []


def _sqlalchemys(**options: Any) -> Any:
    from sqlalchemy.ext.asyncio import create_async_engine

    url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
    return create_async_engine(url, **options)


async def create_order_over_sqlalchemy(*, locked: bool = False) -> None:
    """An engine for each call: an event loop ends with its call."""
    from sqlalchemy import text
    from sqlalchemy.pool import NullPool

    if not _engines:
        _engines.append(_sqlalchemys(poolclass=NullPool))
    async with _engines[0].begin() as connection:
        if locked:
            await connection.execute(text("SELECT pg_advisory_xact_lock(42)"))
        number = await connection.scalar(text("SELECT coalesce(max(number), 0) + 1 FROM orders"))
        await connection.execute(text("INSERT INTO orders (number) VALUES (:number)"), {"number": number})


async def create_order_locked_over_sqlalchemy() -> None:
    await create_order_over_sqlalchemy(locked=True)


async def writes_in_every_way_async(connection: AsyncConnection) -> None:
    """Every way that an asynchronous connection has to send something. It leaves autocommit on."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(42)")
        async with connection.cursor() as cursor:
            await cursor.executemany("INSERT INTO orders (number) VALUES (%s)", [(1,), (2,)])
            await cursor.execute("INSERT INTO orders (number) VALUES (7); DELETE FROM orders WHERE number = 7")
            async with cursor.copy("COPY orders (number) FROM STDIN") as copy:
                await copy.write_row((3,))
            assert [row async for row in cursor.stream("SELECT number FROM orders")]
        with contextlib.suppress(psycopg.errors.UndefinedTable):
            async with connection.transaction():
                await connection.execute("SELECT FROM nowhere")
        async with connection.pipeline():
            await connection.execute("DELETE FROM orders WHERE number = 1")
            await connection.execute("DELETE FROM orders WHERE number = 2")
    # Two tasks over one connection: psycopg sends their statements one after the other.
    await asyncio.gather(*(connection.execute("DELETE FROM orders WHERE number = 3") for _ in range(2)))
    await connection.commit()
    await connection.set_autocommit(True)


async def create_order_over_asyncpg() -> None:
    import asyncpg

    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    async with connection.transaction():
        number = await connection.fetchval("SELECT coalesce(max(number), 0) + 1 FROM orders")
        await connection.execute("INSERT INTO orders (number) VALUES ($1)", number)
    await connection.close()


def sends_from_two_threads() -> None:
    for helper in [_helpers.submit(create_order_in_one_statement) for _ in range(2)]:
        helper.result()


def sends_from_two_threads_over_one_connection(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("SELECT 1")
        for helper in [_helpers.submit(connection.execute, "SELECT 2") for _ in range(2)]:
            helper.result()


async def sends_from_two_tasks() -> None:
    await asyncio.gather(*(_create_order_async_over_its_own(create_order_locked_async) for _ in range(2)))


def does_not_wait_for_its_thread(connection: Connection) -> None:
    create_order_locked(connection)
    _helpers.submit(create_order_over_its_own)


def does_not_wait_for_a_late_thread(connection: Connection) -> None:
    """The thread sends its statement when the call has ended."""
    create_order_locked(connection)
    ended = threading.Event()
    _helpers.submit(lambda: (ended.wait(0.1), create_order_in_one_statement()))


async def cancels_its_statement(connection: AsyncConnection) -> None:
    """A time limit that no statement keeps."""
    async with connection.transaction(), asyncio.timeout(0):
        await connection.execute("SELECT 1")


_past_psycopg: list[psycopg.pq.abc.PGconn] = []


def sends_over_another_driver_too(connection: Connection) -> None:
    """What psycopg does not know of stands for another driver."""
    create_order_locked(connection)
    other = psycopg.pq.PGconn.connect(os.environ["DATABASE_URL"].encode())
    _past_psycopg.append(other)
    other.exec_(b"UPDATE stock SET left_over = left_over - 1 WHERE item = 2")


def sends_under_another_name() -> None:
    """As above, with a name by which racebench does not know whose statement it is."""
    other = psycopg.pq.PGconn.connect(f"{os.environ['DATABASE_URL']}&application_name=shop".encode())
    _past_psycopg.append(other)
    other.exec_(b"UPDATE stock SET left_over = left_over - 1 WHERE item = 2")


@functools.cache
def keeps_what_it_has_read() -> None:
    create_order_locked_over_its_own()


_worker: dict[str, Any] = {"__name__": "psycopg_pool.pool_async"}
exec("async def worker(task):\n    await task", _worker)


async def create_order_of_a_growing_pool() -> None:
    """Tasks of the pool configure connections at once, while the call works."""

    async def configure() -> None:
        async with await AsyncConnection.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
            await connection.execute("SET timezone = 'UTC'")

    growing = [asyncio.create_task(_worker["worker"](configure())) for _ in range(2)]
    await _create_order_async_over_its_own(create_order_async)
    await asyncio.gather(*growing)


def sends_from_another_program() -> None:
    statement = "INSERT INTO orders (number) SELECT coalesce(max(number), 0) + 1 FROM orders"
    program = f"import os, psycopg\npsycopg.connect(os.environ['DATABASE_URL'], autocommit=True).execute({statement!r})"
    subprocess.run([sys.executable, "-c", program], check=True)


def ends_its_process(connection: Connection) -> None:
    connection.execute("SELECT 1")
    os._exit(7)


def forgets_where_it_is(connection: Connection) -> None:
    raise KeyError("TENANT")


_pools: list[Any] = []


def create_order_of_a_careful_pool() -> None:
    """A pool that asks of each connection whether it lives."""
    if not _pools:
        from sqlalchemy import create_engine

        url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
        _pools.append(create_engine(url, pool_pre_ping=True))
    connection = _pools[0].raw_connection()
    try:
        create_order(connection.driver_connection)
    finally:
        connection.close()


_names = iter(range(10**9))


def create_order_in_a_named_savepoint(connection: Connection) -> None:
    """As Django names them: after the thread, numbered from the first on."""
    with connection.transaction():
        name = f"s{threading.get_ident()}_x{next(_names)}"
        connection.execute(f'SAVEPOINT "{name}"')
        row = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()
        assert row is not None
        connection.execute(f'RELEASE SAVEPOINT "{name}"')
        connection.execute("INSERT INTO orders (number) VALUES (%s)", [row[0]])


def create_orders_in_bulk(connection: Connection) -> None:
    """Every way that psycopg has to send something."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(42)")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO orders (number) VALUES (%s)", [(1,), (2,)])
            with cursor.copy("COPY orders (number) FROM STDIN") as copy:
                copy.write_row((3,))
            with cursor.copy("COPY orders (number) TO STDOUT") as copy:
                assert len(list(copy.rows())) >= 3
            list(cursor.stream("SELECT number FROM orders"))
        with connection.cursor("named") as named:
            named.execute("SELECT number FROM orders")
            assert named.fetchone() is not None
        with connection.pipeline():
            connection.execute("DELETE FROM orders WHERE number = 1")
            connection.execute("DELETE FROM orders WHERE number = 2")
    connection.execute("DELETE FROM orders WHERE number = 3")
    connection.commit()


def audited(connection: Connection) -> None:
    """A second connection writes a log while the first holds a lock."""
    with connection.transaction():
        connection.execute("UPDATE stock SET left_over = left_over - 1 WHERE item = 2")
        with psycopg.connect(os.environ["DATABASE_URL"]) as other:
            other.execute("INSERT INTO orders (number) VALUES ((SELECT count(*) FROM orders))")


def audited_under_a_lock(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(42)")
        audited(connection)


def crossed_up(connection: Connection) -> None:
    _cross(connection, 1, 2)


def crossed_down(connection: Connection) -> None:
    _cross(connection, 2, 1)


def _cross(connection: Connection, one: int, other: int) -> None:
    """Holds a lock over one connection while it waits over another: a deadlock that no server sees."""
    with connection.transaction():
        connection.execute("UPDATE stock SET left_over = left_over WHERE item = %s", [one])
        with psycopg.connect(os.environ["DATABASE_URL"]) as second:
            second.execute("UPDATE stock SET left_over = left_over WHERE item = %s", [other])


def swallows_its_error(connection: Connection) -> None:
    with contextlib.suppress(psycopg.errors.UniqueViolation):
        create_order(connection)


def swallows_its_error_in_a_savepoint(connection: Connection) -> None:
    """The transaction goes on after ROLLBACK TO SAVEPOINT, and is committed."""
    with connection.transaction(), contextlib.suppress(psycopg.errors.UniqueViolation):
        create_order(connection)


# What no application should do


def left_open(connection: Connection) -> None:
    connection.execute("SELECT 1")


def leaves(_connection: Connection) -> None:
    sys.exit(3)


def says_nothing() -> None:
    pass


@functools.cache
def _pool() -> Connection:
    return psycopg.connect(os.environ["DATABASE_URL"])


def keeps_a_connection_alone() -> None:
    """As an application whose pool has connections that no call uses."""
    _pool()


def needs_two(connection: Connection, customer: int) -> None:
    raise AssertionError((connection, customer))


async def is_an_async_generator(connection: Connection) -> AsyncIterator[Connection]:
    yield connection


def is_a_generator(connection: Connection) -> Iterator[Connection]:
    yield connection


def fails(connection: Connection) -> None:
    connection.execute("SELECT * FROM nowhere")


def elsewhere() -> None:
    """Its connection is not where racebench's tables are."""
    with psycopg.connect(os.environ["RACEBENCH_DSN"], options="-csearch_path=public") as connection:
        connection.execute("SELECT 1")


_lock = threading.Lock()


def holds_a_lock_in_python(connection: Connection) -> None:
    with _lock:
        create_order(connection)


_turn = [0]


def takes_turns(connection: Connection) -> None:
    """Sends something else every time, whoever calls."""
    _turn[0] += 1
    with connection.transaction():
        connection.execute(f"SELECT 1 AS a{_turn[0]}".encode())
        connection.execute("SELECT 2")


CHANGED: list[str] = []


def does_more_when_something_changes(connection: Connection) -> None:
    """Not deterministic, and wrong: what it does depends on more than the schedule."""
    create_order(connection)
    if CHANGED:
        connection.execute("SELECT 1")
        connection.commit()


def swallows_everything(connection: Connection) -> None:
    for _ in range(10_000):
        try:
            connection.execute("SELECT 1")
            connection.commit()
        except BaseException:  # noqa: BLE001 - that is the point
            while True:
                with contextlib.suppress(BaseException):
                    threading.Event().wait()
        else:
            return


not_callable = 3


def no_twins(connection: Connection) -> list[Any]:
    return connection.execute(TWINS).fetchall()


def assert_no_twins(connection: Connection) -> None:
    assert not no_twins(connection), "two orders have the same number"


def set_up(connection: Connection) -> None:
    connection.execute(SCHEMA)


def no_set_up(connection: Connection) -> None:
    connection.execute("CREATE TABLE broken (")


# Connections that calls make and close


def leaves_nothing(seen: list[tuple[int, tuple[Any, ...]]]) -> None:
    """Look for what another call left in the session, then leave everything that a session can hold."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        row = connection.execute(
            "SELECT current_setting('work_mem'), to_regclass('pg_temp.mine') IS NULL,"
            " (SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'),"
            " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),"
            " (SELECT count(*) FROM pg_listening_channels())"
        ).fetchone()
        assert row is not None
        seen.append((connection.info.backend_pid, row))
        connection.execute("SET work_mem = '1MB'")
        connection.execute("CREATE TEMP TABLE mine ()")
        connection.execute("PREPARE mine AS SELECT 1")
        connection.execute("SELECT pg_advisory_lock(7)")
        connection.execute("LISTEN mine")


def closes_without_commit() -> None:
    connection = psycopg.connect(os.environ["DATABASE_URL"])
    connection.execute("INSERT INTO orders (number) VALUES (1)")
    connection.close()


def goes_on_after_closing() -> None:
    """What a closed connection, and a cursor of it, say."""
    connection = psycopg.connect(os.environ["DATABASE_URL"])
    cursor = connection.execute("SELECT 1")
    connection.commit()
    connection.close()
    assert connection.closed
    for each in (connection, cursor):
        try:
            each.execute("INSERT INTO orders (number) VALUES (1)")
        except psycopg.OperationalError as problem:
            if "the connection is closed" not in str(problem):
                raise
        else:
            raise AssertionError("a closed connection goes on")
    connection.close()


_STAMP = "INSERT INTO stamped (at) VALUES (extract(epoch FROM now()) * 1e6)"


def stamp_in_a_block(connection: Connection) -> None:
    """Under a lock, but now() is when the transaction began: before it waited."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(42)")
        connection.execute(_STAMP)


def stamp_and_commit(connection: Connection) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(42)")
    connection.execute(_STAMP)
    connection.commit()


def stamp_late(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(42)")
        connection.execute(_STAMP.replace("now", "clock_timestamp").encode())


STAMPED = "CREATE TABLE stamped (id int GENERATED ALWAYS AS IDENTITY, at bigint NOT NULL)"
OUT_OF_ORDER = "SELECT FROM stamped one JOIN stamped two ON one.id < two.id AND one.at > two.at"


class Seen(Exception):  # noqa: N818 - a sign
    """What is only seen between an error and the ROLLBACK after it."""


def fails_after_a_savepoint(connection: Connection) -> None:
    """The error lets go of lock 2, the ROLLBACK of lock 1, the end of lock 3."""
    connection.execute("SELECT pg_advisory_xact_lock(1)")
    connection.execute("SAVEPOINT before")
    connection.execute("SELECT pg_advisory_xact_lock(2), pg_advisory_lock(3)")
    with contextlib.suppress(psycopg.errors.UniqueViolation):
        connection.execute("INSERT INTO stock VALUES (1, 1)")
    connection.rollback()
    connection.execute("SELECT pg_advisory_unlock(3)")
    connection.commit()


def looks_between(connection: Connection) -> None:
    with connection.transaction():
        names = ", ".join(f"pg_try_advisory_xact_lock({number})" for number in (1, 2, 3))
        if connection.execute(f"SELECT {names}".encode()).fetchone() == (False, True, False):
            raise Seen
