"""A wallet pays two others: each transfer checks that the balance is enough, then moves the amount.

As in laravel-wallet and many more: two withdrawals both see the whole balance. The fix is SERIALIZABLE, with the
retry that it needs.
"""

from __future__ import annotations

from psycopg import IsolationLevel
from psycopg.errors import SerializationFailure

from . import Connection, Program, value

SCHEMA = """
CREATE TABLE wallets (owner text PRIMARY KEY, balance int NOT NULL);
INSERT INTO wallets VALUES ('alice', 100), ('bob', 0), ('carol', 0);
"""


def _pay(connection: Connection, payee: str) -> bool:
    with connection.transaction():
        if value(connection, "SELECT balance FROM wallets WHERE owner = 'alice'") < 60:
            return False
        connection.execute("UPDATE wallets SET balance = balance - 60 WHERE owner = 'alice'")
        connection.execute("UPDATE wallets SET balance = balance + 60 WHERE owner = %s", [payee])
    return True


def _pay_serializable(connection: Connection, payee: str) -> bool:
    connection.isolation_level = IsolationLevel.SERIALIZABLE
    for _ in range(5):
        try:
            return _pay(connection, payee)
        except SerializationFailure:
            continue
    raise RuntimeError("refused five times")


def pay_bob(connection: Connection) -> bool:
    return _pay(connection, "bob")


def pay_carol(connection: Connection) -> bool:
    return _pay(connection, "carol")


def pay_bob_serializable(connection: Connection) -> bool:
    return _pay_serializable(connection, "bob")


def pay_carol_serializable(connection: Connection) -> bool:
    return _pay_serializable(connection, "carol")


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(pay_bob, pay_carol),
    fixed=(pay_bob_serializable, pay_carol_serializable),
    invariant="SELECT owner, balance FROM wallets WHERE balance < 0",
)
