"""A coupon has a number of uses: whether one is left is checked before the coupon is locked.

As in eventyay's carts, where a coupon for three was used five times: the check came before the lock, and what was
checked was not read again behind it. The calls are asynchronous.
"""

from __future__ import annotations

from . import AsyncConnection, Program

SCHEMA = """
CREATE TABLE coupons (code text PRIMARY KEY, uses_left int NOT NULL);
INSERT INTO coupons VALUES ('SPRING', 1);
"""


async def redeem(connection: AsyncConnection) -> bool:
    async with connection.transaction():
        uses_left = await _uses_left(connection, "")
        if uses_left == 0:
            return False
        await _uses_left(connection, "FOR UPDATE")
        await connection.execute("UPDATE coupons SET uses_left = uses_left - 1")
    return True


async def redeem_behind_the_lock(connection: AsyncConnection) -> bool:
    async with connection.transaction():
        if await _uses_left(connection, "FOR UPDATE") == 0:
            return False
        await connection.execute("UPDATE coupons SET uses_left = uses_left - 1")
    return True


async def _uses_left(connection: AsyncConnection, lock: str) -> int:
    row = await (await connection.execute(f"SELECT uses_left FROM coupons WHERE code = 'SPRING' {lock}")).fetchone()
    assert row is not None
    return int(row[0])


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(redeem,),
    fixed=(redeem_behind_the_lock,),
    invariant="SELECT uses_left FROM coupons WHERE uses_left < 0",
)
