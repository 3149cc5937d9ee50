"""The explorer's verdicts are those of Hermitage's table for PostgreSQL, for every anomaly and isolation level.

Hermitage runs one schedule of each anomaly by hand (Martin Kleppmann, github.com/ept/hermitage). Here every schedule of
small transactions of our own is run, and an invariant says which outcome is the anomaly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration.explorer import explore
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration
from racebench.workloads import catalog

LEVELS = ("read committed", "repeatable read", "serializable")
#: Two rows for each tenant, 10 and 20. A transaction notes in `seen` what it read, so that only commits count.
SCHEMA = """
CREATE TABLE item (tenant int, id int, value int NOT NULL, PRIMARY KEY (tenant, id));
CREATE TABLE seen (tenant int, by int, what text, value int, PRIMARY KEY (tenant, by, what));
"""
PROLOGUE = "INSERT INTO item VALUES (:tenant, 1, 10), (:tenant, 2, 20);\n"
MANIFEST = """
summary = "made for a test"
schema = "schema.sql"
forbid = ["violations"]
explore = "prologue.sql"
[invariants]
anomaly = \"\"\"{invariant}\"\"\"
"""
STRATEGY = """
[strategies.{name}]
summary = "it"
script = "it.sql"
isolation = "{level}"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One column of the table: the transactions, the condition that is the anomaly, and the levels that allow it.

    `when` is SQL of final values, and of the values that transactions noted: null if they did not commit.
    """

    transactions: tuple[tuple[str, ...], ...]
    when: str
    allowed: frozenset[str] = frozenset()


def read(by: int, what: str, query: str) -> str:
    """A statement that notes the one value that a query returns."""
    return f"INSERT INTO seen SELECT :tenant, {by}, '{what}', ({query})"


def value(row: int) -> str:
    return f"SELECT value FROM item WHERE tenant = :tenant AND id = {row}"


def count(condition: str) -> str:
    return f"SELECT count(*) FROM item WHERE tenant = :tenant AND {condition}"


def update(row: int, new: str) -> str:
    return f"UPDATE item SET value = {new} WHERE tenant = :tenant AND id = {row}"


def noting(by: int, what: str, write: str) -> str:
    """A write that notes how many rows it wrote."""
    return (
        f"WITH written AS ({write} RETURNING 1) INSERT INTO seen SELECT :tenant, {by}, '{what}', count(*) FROM written"
    )


def final(row: int) -> str:
    return f"(SELECT value FROM item WHERE tenant = t.tenant AND id = {row})"


def saw(by: int, what: str) -> str:
    return f"(SELECT value FROM seen WHERE tenant = t.tenant AND by = {by} AND what = '{what}')"


NEVER: frozenset[str] = frozenset()
UNTIL_REPEATABLE_READ = frozenset({"read committed"})
UNTIL_SERIALIZABLE = frozenset({"read committed", "repeatable read"})
ANOMALIES = {
    "G0": Anomaly(
        transactions=((update(1, "11"), update(2, "21")), (update(1, "12"), update(2, "22"))),
        when=f"({final(1)}, {final(2)}) IN ((11, 22), (12, 21))",
        allowed=NEVER,
    ),
    "G1a": Anomaly(
        transactions=((update(1, "101"), "ROLLBACK"), (read(2, "x", value(1)),)),
        when=f"{saw(2, 'x')} = 101",
        allowed=NEVER,
    ),
    "G1b": Anomaly(
        transactions=((update(1, "101"), update(1, "11")), (read(2, "x", value(1)),)),
        when=f"{saw(2, 'x')} = 101",
        allowed=NEVER,
    ),
    "G1c": Anomaly(
        transactions=((update(1, "11"), read(1, "y", value(2))), (update(2, "22"), read(2, "x", value(1)))),
        when=f"{saw(1, 'y')} = 22 AND {saw(2, 'x')} = 11",
        allowed=NEVER,
    ),
    "OTV": Anomaly(
        transactions=(
            ("UPDATE item SET value = id + 100 WHERE tenant = :tenant",),
            (update(1, "201"), update(2, "202")),
            (read(3, "y", value(2)), read(3, "x", value(1))),
        ),
        # Of the transaction that wrote y, or of a later one, x must be seen too. The final x says which one was later.
        when=f"({saw(3, 'y')} > 100 AND {saw(3, 'x')} = 10)"
        f" OR ({saw(3, 'y')}, {saw(3, 'x')}, {final(1)}) IN ((202, 101, 201), (102, 201, 101))",
        allowed=NEVER,
    ),
    "PMP": Anomaly(
        transactions=(
            (read(1, "before", count("value = 30")), read(1, "after", count("value % 3 = 0"))),
            ("INSERT INTO item VALUES (:tenant, 3, 30)",),
        ),
        when=f"{saw(1, 'before')} = 0 AND {saw(1, 'after')} = 1",
        allowed=UNTIL_REPEATABLE_READ,
    ),
    "PMP, write predicate": Anomaly(
        transactions=(
            ("UPDATE item SET value = value + 10 WHERE tenant = :tenant",),
            (noting(2, "deleted", "DELETE FROM item WHERE tenant = :tenant AND value = 20"),),
        ),
        when=f"{saw(2, 'deleted')} = 0",
        allowed=UNTIL_REPEATABLE_READ,
    ),
    "P4": Anomaly(
        transactions=tuple((f"{value(1)} \\gset", noting(by, "written", update(1, ":value + 1"))) for by in (1, 2)),
        when=f"{saw(1, 'written')} = 1 AND {saw(2, 'written')} = 1 AND {final(1)} = 11",
        allowed=UNTIL_REPEATABLE_READ,
    ),
    "G-single": Anomaly(
        transactions=(
            (read(1, "x", value(1)), read(1, "y", value(2))),
            (update(1, "12"), update(2, "18")),
        ),
        when=f"({saw(1, 'x')}, {saw(1, 'y')}) IN ((10, 18), (12, 20))",
        allowed=UNTIL_REPEATABLE_READ,
    ),
    "G2-item": Anomaly(
        transactions=tuple((read(by, "x", value(3 - by)), update(by, "value + 1")) for by in (1, 2)),
        when=f"{saw(1, 'x')} = 20 AND {saw(2, 'x')} = 10",
        allowed=UNTIL_SERIALIZABLE,
    ),
    "G2": Anomaly(
        transactions=tuple(
            (read(by, "count", count("value % 3 = 0")), f"INSERT INTO item VALUES (:tenant, {by + 2}, 30)")
            for by in (1, 2)
        ),
        when=f"{saw(1, 'count')} = 0 AND {saw(2, 'count')} = 0",
        allowed=UNTIL_SERIALIZABLE,
    ),
    # Fekete, O'Neil, O'Neil 2004: without the transaction that only reads, the other two are serializable.
    "G2, two edges": Anomaly(
        transactions=(
            (read(1, "y", value(2)), update(1, "0")),
            (update(2, "value + 5"),),
            (read(3, "sum", "SELECT sum(value) FROM item WHERE tenant = :tenant"),),
        ),
        when=f"{saw(1, 'y')} = 20 AND {saw(3, 'sum')} = 35 AND {final(1)} = 0",
        allowed=UNTIL_SERIALIZABLE,
    ),
}

Run = Callable[[Anomaly, str], Exploration]


@pytest.fixture
def run(embedded: Target, tmp_path: Path) -> Run:
    def explored(anomaly: Anomaly, level: str) -> Exploration:
        invariant = f"SELECT tenant FROM (SELECT DISTINCT tenant FROM item) AS t WHERE {anomaly.when}"
        (tmp_path / "scenario.toml").write_text(
            MANIFEST.format(invariant=invariant) + STRATEGY.format(name="it", level=level)
        )
        (tmp_path / "schema.sql").write_text(SCHEMA)
        (tmp_path / "prologue.sql").write_text(PROLOGUE)
        (tmp_path / "it.sql").write_text(script(anomaly))
        scenario = catalog.find_scenario(str(tmp_path))
        return explore(
            embedded,
            ExplorationRequest(
                scenario=scenario,
                strategy=scenario.strategies["it"],
                sessions=len(anomaly.transactions),
                stop_at_first=level in anomaly.allowed,
            ),
        )

    return explored


def script(anomaly: Anomaly) -> str:
    """A pgbench script in which each session runs its own transaction."""
    lines = []
    for number, statements in enumerate(anomaly.transactions):
        lines.append(f"\\{'elif' if number else 'if'} :client_id = {number}")
        lines.append("BEGIN;")
        lines += [statement if "\\gset" in statement else f"{statement};" for statement in statements]
        if statements[-1] != "ROLLBACK":
            lines.append("COMMIT;")
    return "\n".join([*lines, "\\endif"]) + "\n"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ANOMALIES)
def test_the_verdict_is_that_of_hermitages_table(run: Run, name: str, level: str) -> None:
    allowed = level in ANOMALIES[name].allowed
    exploration = run(ANOMALIES[name], level)
    assert exploration.verdict is (Verdict.INVALID if allowed else Verdict.VALID)
    assert exploration.complete or allowed
