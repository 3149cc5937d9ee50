"""The transactions of the ten anomalies that benchmarks/hermitage.py explores, and how each anomaly is recognized.

The anomalies are those of Hermitage (Martin Kleppmann, github.com/ept/hermitage, postgres.md). A transaction records
what it was told. An anomaly is recognized by that and by the table at the end, not by the schedule. hermitage.py
decides which schedules are run.

Sources: Adya, "Weak Consistency" (1999), for G0, G1, G-single and G2; Bailis et al., "Highly Available Transactions"
(2014), for OTV and PMP; Berenson et al., "A Critique of ANSI SQL Isolation Levels" (1995), for P4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

#: What the programs of the ten anomalies begin with, as in Hermitage.
SCHEMA = """
CREATE TABLE test (id int PRIMARY KEY, value int NOT NULL);
INSERT INTO test VALUES (1, 10), (2, 20);
"""
#: A table whose GiST index has a root and leaves. No leaf's key reaches the range that is searched.
_GIST_SCHEMA = """
CREATE TABLE test (id int, value int NOT NULL, during int8range NOT NULL);
INSERT INTO test SELECT i, 0, int8range(10 * i, 10 * i + 5) FROM generate_series(1, 1000) AS i;
CREATE INDEX ON test USING gist (during);
ANALYZE test;
"""
_FREE = "int8range(1000000, 1000002)"
#: More SERIALIZABLE transactions than a server with the usual settings remembers one by one.
_SHORT = 5000

#: The rows of the table: value by id.
Rows = Mapping[int, int]


@dataclass(slots=True)
class Told:
    """What one transaction was told: the rows of each read, the row count of each write, and whether it committed."""

    reads: list[Rows] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    committed: bool = False


class Transaction:
    """A transaction of a program. Each method sends one statement, and records what it was answered."""

    def __init__(self, connection: psycopg.Connection[Any], told: Told) -> None:
        self._connection, self._told = connection, told

    def read(self, where: str) -> Rows:
        """Read the rows that satisfy a condition."""
        query = f"SELECT id, value FROM test WHERE {where} ORDER BY id"
        rows: Rows = dict(self._connection.execute(query.encode()).fetchall())
        self._told.reads.append(rows)
        return rows

    def write(self, statement: str) -> None:
        """Send an INSERT, UPDATE or DELETE."""
        self._told.counts.append(self._connection.execute(statement.encode()).rowcount)

    def set(self, identity: int, value: int) -> None:
        """Update the row with an id."""
        self.write(f"UPDATE test SET value = {value} WHERE id = {identity}")

    def short_transactions(self, level: str) -> None:
        """Run many short transactions in one step, after the COMMIT."""
        self._connection.autocommit = True
        self._connection.execute(
            f"DO $$ BEGIN PERFORM set_config('default_transaction_isolation', '{level}', false); COMMIT; "
            f"FOR i IN 1..{_SHORT} LOOP PERFORM 1; COMMIT; END LOOP; END $$".encode()
        )

    def commit(self) -> None:
        """Commit."""
        self._connection.commit()
        self._told.committed = True

    def roll_back(self) -> None:
        """Roll back."""
        self._connection.rollback()


#: The statements of one transaction, its COMMIT or ROLLBACK included.
Body = Callable[[Transaction], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Transactions that may show an anomaly. `shows` decides it from what they were told and the rows at the end.

    `variant` tells programs of one anomaly apart, "" for the first. `at`: the isolation levels at which Hermitage says
    that the anomaly can occur. `schema`: the setup. `hole`: a program of this project's, in which SERIALIZABLE lets the
    anomaly through.
    """

    anomaly: str
    variant: str
    title: str
    bodies: tuple[Body, ...]
    shows: Callable[[Sequence[Told], Rows], bool]
    at: frozenset[str]
    schema: str = SCHEMA
    hole: bool = False

    @property
    def name(self) -> str:
        """The name of its row."""
        return f"{self.anomaly}, {self.variant}" if self.variant else self.anomaly


def _sets(*values: tuple[int, int]) -> Body:
    """Update rows in order, and commit."""

    def body(transaction: Transaction) -> None:
        for identity, value in values:
            transaction.set(identity, value)
        transaction.commit()

    return body


def _reads(*conditions: str) -> Body:
    """Read in order, and commit."""

    def body(transaction: Transaction) -> None:
        for condition in conditions:
            transaction.read(condition)
        transaction.commit()

    return body


def _reads_and_writes(condition: str, statement: str) -> Body:
    """Read once, write once, and commit."""

    def body(transaction: Transaction) -> None:
        transaction.read(condition)
        transaction.write(statement)
        transaction.commit()

    return body


def _writes(statement: str) -> Body:
    """Write once, and commit."""

    def body(transaction: Transaction) -> None:
        transaction.write(statement)
        transaction.commit()

    return body


def _writes_and_reads(statement: str, condition: str) -> Body:
    """Write once, read once, and commit."""

    def body(transaction: Transaction) -> None:
        transaction.write(statement)
        transaction.read(condition)
        transaction.commit()

    return body


def _sets_and_rolls_back(transaction: Transaction) -> None:
    transaction.set(1, 101)
    transaction.roll_back()


def _increments(transaction: Transaction) -> None:
    transaction.set(1, transaction.read("id = 1")[1] + 1)
    transaction.commit()


def _leaves_many_short_ones_behind(transaction: Transaction) -> None:
    _reads_and_writes("id IN (1, 2)", "UPDATE test SET value = 21 WHERE id = 2")(transaction)
    transaction.short_transactions("serializable")


def _all_committed(told: Sequence[Told]) -> bool:
    return all(transaction.committed for transaction in told)


def _g0(told: Sequence[Told], rows: Rows) -> bool:
    """The writes of the two transactions are mixed."""
    return _all_committed(told) and (rows[1], rows[2]) in {(11, 22), (12, 21)}


def _reads_101(told: Sequence[Told], _rows: Rows) -> bool:
    """The second transaction read a value that was never committed."""
    return told[1].committed and told[1].reads == [{1: 101}]


def _g1c(told: Sequence[Told], _rows: Rows) -> bool:
    """Each transaction read what the other wrote."""
    return _all_committed(told) and told[0].reads == [{2: 22}] and told[1].reads == [{1: 11}]


def _otv(told: Sequence[Told], rows: Rows) -> bool:
    """The reader saw a transaction's write of one row, and then an older version of the other row."""
    if not told[2].committed:
        return False
    last = rows[1] - 10  # the transaction that wrote row 1 last: 1 or 2
    age = {10: 0, 20: 0, 10 + last: 2, 20 + last: 2, 13 - last: 1, 23 - last: 1}
    first, second = told[2].reads
    return age[second[2]] < age[first[1]]


def _pmp(told: Sequence[Told], _rows: Rows) -> bool:
    """Two reads of one transaction disagree on whether a row is there."""
    return told[0].committed and told[0].reads != [{}, {}] and told[0].reads != [{3: 30}, {3: 30}]


def _pmp_write(told: Sequence[Told], _rows: Rows) -> bool:
    """A transaction deleted the rows with a value, and then read such a row."""
    return told[1].committed and told[1].reads != [{}]


def _p4(told: Sequence[Told], rows: Rows) -> bool:
    """Both transactions incremented a value, and one increment is lost."""
    return _all_committed(told) and rows[1] == 11


def _g_single(told: Sequence[Told], _rows: Rows) -> bool:
    """A transaction read one row as it was before the other transaction, and the other row as it was after it."""
    return told[0].committed and told[0].reads not in ([{1: 10}, {2: 20}], [{1: 12}, {2: 18}])


def _g_single_predicate(told: Sequence[Told], _rows: Rows) -> bool:
    """A transaction read a row by its old value, and read it by its new value too."""
    return told[0].committed and told[0].reads == [{1: 10, 2: 20}, {1: 12}]


def _g_single_write(told: Sequence[Told], _rows: Rows) -> bool:
    """A transaction read the old value of one row, and did not delete the other row by its old value."""
    return told[0].committed and told[0].reads == [{1: 10}] and told[0].counts == [0]


def _write_skew(told: Sequence[Told], _rows: Rows) -> bool:
    """Neither transaction read what the other wrote, and both committed."""
    return _all_committed(told) and told[0].reads == told[1].reads


def _read_only(told: Sequence[Told], _rows: Rows) -> bool:
    """The reader saw the second transaction and not the first, and the first did not see the second."""
    return _all_committed(told) and told[0].reads == [{1: 10, 2: 20}] and told[2].reads == [{1: 10, 2: 25}]


_NOWHERE: frozenset[str] = frozenset()
_READ_COMMITTED = frozenset({"read committed"})
_BELOW_SERIALIZABLE = frozenset({"read committed", "repeatable read"})

PROGRAMS = (
    Program(
        anomaly="G0",
        variant="",
        title="write cycle: the writes of two transactions to two rows are mixed",
        bodies=(_sets((1, 11), (2, 21)), _sets((1, 12), (2, 22))),
        shows=_g0,
        at=_NOWHERE,
    ),
    Program(
        anomaly="G1a",
        variant="",
        title="aborted read: a value is read that is then rolled back",
        bodies=(_sets_and_rolls_back, _reads("id = 1")),
        shows=_reads_101,
        at=_NOWHERE,
    ),
    Program(
        anomaly="G1b",
        variant="",
        title="intermediate read: a value is read that its transaction then replaces",
        bodies=(_sets((1, 101), (1, 11)), _reads("id = 1")),
        shows=_reads_101,
        at=_NOWHERE,
    ),
    Program(
        anomaly="G1c",
        variant="",
        title="circular information flow: two transactions read each other's writes",
        bodies=(
            _writes_and_reads("UPDATE test SET value = 11 WHERE id = 1", "id = 2"),
            _writes_and_reads("UPDATE test SET value = 22 WHERE id = 2", "id = 1"),
        ),
        shows=_g1c,
        at=_NOWHERE,
    ),
    Program(
        anomaly="OTV",
        variant="",
        title="observed transaction vanishes: its first write is read, and then not its second",
        bodies=(_sets((1, 11), (2, 21)), _sets((1, 12), (2, 22)), _reads("id = 1", "id = 2")),
        shows=_otv,
        at=_NOWHERE,
    ),
    Program(
        anomaly="PMP",
        variant="",
        title="predicate many preceders: a row appears between two searches of one transaction",
        bodies=(_reads("value = 30", "value % 3 = 0"), _writes("INSERT INTO test VALUES (3, 30)")),
        shows=_pmp,
        at=_READ_COMMITTED,
    ),
    Program(
        anomaly="PMP",
        variant="write predicate",
        title="a DELETE leaves a row that its condition describes",
        bodies=(
            _writes("UPDATE test SET value = value + 10"),
            _writes_and_reads("DELETE FROM test WHERE value = 20", "value = 20"),
        ),
        shows=_pmp_write,
        at=_READ_COMMITTED,
    ),
    Program(
        anomaly="P4",
        variant="",
        title="lost update: of two increments one is lost",
        bodies=(_increments, _increments),
        shows=_p4,
        at=_READ_COMMITTED,
    ),
    Program(
        anomaly="G-single",
        variant="",
        title="read skew: one row is read as before another transaction, a second row as after it",
        bodies=(_reads("id = 1", "id = 2"), _sets((1, 12), (2, 18))),
        shows=_g_single,
        at=_READ_COMMITTED,
    ),
    Program(
        anomaly="G-single",
        variant="predicate",
        title="read skew between two searches",
        bodies=(_reads("value % 5 = 0", "value % 3 = 0"), _sets((1, 12))),
        shows=_g_single_predicate,
        at=_READ_COMMITTED,
    ),
    Program(
        anomaly="G-single",
        variant="write predicate",
        title="read skew between a read and a DELETE",
        bodies=(_reads_and_writes("id = 1", "DELETE FROM test WHERE value = 20"), _sets((1, 12), (2, 18))),
        shows=_g_single_write,
        at=_READ_COMMITTED,
    ),
    Program(
        anomaly="G2-item",
        variant="",
        title="write skew: each transaction updates a row that the other has read",
        bodies=(
            _reads_and_writes("id IN (1, 2)", "UPDATE test SET value = 11 WHERE id = 1"),
            _reads_and_writes("id IN (1, 2)", "UPDATE test SET value = 21 WHERE id = 2"),
        ),
        shows=_write_skew,
        at=_BELOW_SERIALIZABLE,
    ),
    Program(
        anomaly="G2",
        variant="",
        title="phantom: each transaction inserts a row that the other has searched for",
        bodies=(
            _reads_and_writes("value % 3 = 0", "INSERT INTO test VALUES (3, 30)"),
            _reads_and_writes("value % 3 = 0", "INSERT INTO test VALUES (4, 42)"),
        ),
        shows=_write_skew,
        at=_BELOW_SERIALIZABLE,
    ),
    Program(
        anomaly="G2",
        variant="read-only transaction",
        title="write skew that only a third transaction sees, which reads",
        bodies=(
            _reads_and_writes("true", "UPDATE test SET value = 0 WHERE id = 1"),
            _writes("UPDATE test SET value = value + 5 WHERE id = 2"),
            _reads("true"),
        ),
        shows=_read_only,
        at=_BELOW_SERIALIZABLE,
    ),
    Program(
        anomaly="G2",
        variant="GiST index of two levels",
        title="phantom: each transaction searches a range outside every leaf, and inserts it",
        bodies=(
            _reads_and_writes(f"during && {_FREE}", f"INSERT INTO test VALUES (1001, 0, {_FREE})"),
            _reads_and_writes(f"during && {_FREE}", f"INSERT INTO test VALUES (1002, 0, {_FREE})"),
        ),
        shows=_write_skew,
        at=_BELOW_SERIALIZABLE,
        schema=_GIST_SCHEMA,
        hole=True,
    ),
    Program(
        anomaly="G2-item",
        variant="summarized transactions",
        title="write skew; the session that commits first then runs 5,000 short transactions",
        bodies=(
            _reads_and_writes("id IN (1, 2)", "UPDATE test SET value = 11 WHERE id = 1"),
            _leaves_many_short_ones_behind,
        ),
        shows=_write_skew,
        at=_BELOW_SERIALIZABLE,
        hole=True,
    ),
)
