"""A voucher can be used once: whether it has been used is read, then written.

As in Saleor, django-oscar, Shopware and many more: two checkouts of one moment both find it unused. The fix asks in
the UPDATE, and only the call that changed the row redeems. No query over the tables shows the race: the voucher has
been used, as it should have been. What the calls return shows it.
"""

from __future__ import annotations

from . import Connection, Program, value

SCHEMA = """
CREATE TABLE vouchers (code text PRIMARY KEY, used bool NOT NULL DEFAULT false);
INSERT INTO vouchers VALUES ('GIFT');
"""


def redeem(connection: Connection) -> bool:
    with connection.transaction():
        if value(connection, "SELECT used FROM vouchers WHERE code = 'GIFT'"):
            return False
        connection.execute("UPDATE vouchers SET used = true WHERE code = 'GIFT'")
    return True


def redeem_in_the_update(connection: Connection) -> bool:
    with connection.transaction():
        used = connection.execute("UPDATE vouchers SET used = true WHERE code = 'GIFT' AND NOT used").rowcount
    return used == 1


PROGRAM = Program(schema=SCHEMA, buggy=(redeem,), fixed=(redeem_in_the_update,))
