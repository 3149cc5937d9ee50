"""What a step may touch, and which steps do not depend on each other.

Only what is certain counts as independent. Under READ COMMITTED and REPEATABLE READ an uncommitted write is invisible,
and a plain read takes no lock and leaves no trace: reads are independent of reads and of writes, not of commits. Under
SERIALIZABLE a read leaves a predicate lock: reads are independent of reads alone.
Source: PostgreSQL manual 13.2 (isolation levels), 13.3 (locks).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from enum import StrEnum

from racebench.compiling import begins, ends
from racebench.model import Statement


class Footprint(StrEnum):
    """What a step may touch."""

    NOTHING = "nothing"
    READ = "read"
    SERIALIZABLE_READ = "serializable read"
    WRITE = "write"
    ANYTHING = "anything"


_LOCKING = re.compile(r"\bFOR\s+(NO\s+KEY\s+)?(UPDATE|SHARE|KEY\s+SHARE)\b", re.IGNORECASE)
_DML = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE|INTO)\b", re.IGNORECASE)
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\(")
_READS = frozenset({"SELECT", "VALUES", "WITH", "TABLE"})
_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE"})
#: What sets a savepoint or forgets one: seen by nobody else. ROLLBACK TO one is none of them: it gives locks up.
_MARKS = frozenset({"SAVEPOINT", "RELEASE"})


def independent(one: Footprint, other: Footprint) -> bool:
    """Whether two steps of two sessions lead to the same place in either order."""
    pair = {one, other}
    if Footprint.NOTHING in pair:
        return True
    if pair <= {Footprint.READ, Footprint.SERIALIZABLE_READ}:
        return True
    return pair == {Footprint.READ, Footprint.WRITE}


def calls(statement: Statement) -> set[str]:
    """The names that a statement may call as functions."""
    return {name.lower() for name in _CALL.findall(statement.sql)}


def footprint(statements: Sequence[Statement], *, isolation: str | None, volatile: Collection[str]) -> Footprint:
    """What sending these statements may touch; `volatile` are functions that may do anything."""
    found = [_of(statement, isolation, volatile) for statement in statements]
    for worst in (Footprint.ANYTHING, Footprint.WRITE, Footprint.SERIALIZABLE_READ, Footprint.READ):
        if worst in found:
            return worst
    return Footprint.NOTHING


def _of(statement: Statement, isolation: str | None, volatile: Collection[str]) -> Footprint:
    if begins(statement) or statement.keyword in _MARKS:
        return Footprint.NOTHING
    if ends(statement):
        return Footprint.ANYTHING
    if statement.keyword in _WRITES:
        return Footprint.WRITE
    plain = statement.keyword in _READS and not _LOCKING.search(statement.sql) and not _DML.search(statement.sql)
    if not plain or calls(statement) & set(volatile):
        return Footprint.ANYTHING
    return Footprint.SERIALIZABLE_READ if isolation == "serializable" else Footprint.READ
