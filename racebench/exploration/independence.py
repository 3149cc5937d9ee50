"""What a step may touch, and which steps are independent: both orders lead to the same state.

Steps count as independent only if that is certain. A read is plain if nothing that it names does more than read tables
from a snapshot (inspection.py asks the server). Under READ COMMITTED and REPEATABLE READ an uncommitted write is
invisible, and a plain read takes no lock and leaves no trace: reads are independent of reads and of writes, not of
commits. Under SERIALIZABLE a read leaves a predicate lock: reads are independent of reads alone.
Source: PostgreSQL manual 13.2 (isolation levels), 13.3 (locks).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from enum import StrEnum

from racebench.core.model import Statement
from racebench.postgres.compiler.transactions import begins, ends


class Footprint(StrEnum):
    """What a step may touch."""

    NOTHING = "nothing"
    READ = "read"
    SERIALIZABLE_READ = "serializable read"
    WRITE = "write"
    ANYTHING = "anything"


#: Anything may be between the words: white space, KEY, comments.
_LOCKING = re.compile(r"\bFOR\b.*\b(UPDATE|SHARE)\b", re.IGNORECASE | re.DOTALL)
_DML = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE|INTO)\b", re.IGNORECASE)
_NAME = re.compile(r'"((?:[^"]|"")+)"|([^\W\d][\w$]*)|([-+*/<>=~!@#%^&|`?]+)')
_ESCAPED = re.compile(r'u&"', re.IGNORECASE)
_READS = frozenset({"SELECT", "VALUES", "WITH", "TABLE"})
_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE"})
#: Setting or releasing a savepoint is invisible to other sessions. ROLLBACK TO one is not: it releases locks.
_MARKS = frozenset({"SAVEPOINT", "RELEASE"})

#: Names that read the clock, at the statement or at the begin of its transaction: such steps depend on each other.
CLOCKS = frozenset(
    {
        *("now", "statement_timestamp", "transaction_timestamp", "clock_timestamp", "timeofday"),
        *("current_timestamp", "current_time", "current_date", "localtimestamp", "localtime"),
    }
)
#: System columns of a row that other transactions change before they commit.
_UNCOMMITTED = frozenset({"xmax", "cmax"})
#: Markers among the volatile names: every write may do anything; every read leaves a predicate lock; a procedure may
#: commit.
ANY_WRITE, SERIALIZABLE, COMMITTING = "any write", "serializable transactions", "procedures that commit"
#: SQL that may begin a serializable transaction; the setting may be the parameter of a function.
_SERIALIZABLE = re.compile(r"serializable|transaction_isolation|set_config\s*\(\s*[$%:]", re.IGNORECASE)


def independent(one: Footprint, other: Footprint) -> bool:
    """Whether steps of two sessions with these footprints are independent."""
    pair = {one, other}
    if Footprint.NOTHING in pair:
        return True
    if pair <= {Footprint.READ, Footprint.SERIALIZABLE_READ}:
        return True
    return pair == {Footprint.READ, Footprint.WRITE}


def calls(statement: Statement) -> set[str]:
    """Every name in a statement, in lower case: a view, a column or an operator may call a function."""
    return names_in(statement.sql)


def names_in(text: str) -> set[str]:
    """Every name and operator in SQL, in lower case, those in literals and comments included."""
    names = set()
    for quoted, word, operator in _NAME.findall(text):
        names.add((quoted.replace('""', '"') or word or operator).lower())
        names |= {inner.lower() for inner in re.findall(r"[^\W\d][\w$]*", quoted)}
    return names


def footprint(statements: Sequence[Statement], *, isolation: str | None, volatile: Collection[str]) -> Footprint:
    """What sending these statements may touch; `volatile`: names of objects that may do anything."""
    footprints = [_of(statement, isolation, volatile) for statement in statements]
    for worst in (Footprint.ANYTHING, Footprint.WRITE, Footprint.SERIALIZABLE_READ, Footprint.READ):
        if worst in footprints:
            return worst
    return Footprint.NOTHING


def may_be_serializable(text: str) -> bool:
    """Whether SQL may begin a serializable transaction, or have later ones be serializable."""
    return _SERIALIZABLE.search(text) is not None


def is_write(statement: Statement) -> bool:
    """Whether a statement is a command that writes rows."""
    return statement.keyword in _WRITES


def _of(statement: Statement, isolation: str | None, volatile: Collection[str]) -> Footprint:
    if begins(statement) or statement.keyword in _MARKS:
        return Footprint.NOTHING
    if ends(statement):
        return Footprint.ANYTHING
    if is_write(statement):
        return Footprint.ANYTHING if ANY_WRITE in volatile else Footprint.WRITE
    plain = statement.keyword in _READS and not any(
        pattern.search(statement.sql) for pattern in (_LOCKING, _DML, _ESCAPED)
    )
    if not plain or calls(statement) & (CLOCKS | _UNCOMMITTED | set(volatile)):
        return Footprint.ANYTHING
    serializable = isolation == "serializable" or SERIALIZABLE in volatile
    return Footprint.SERIALIZABLE_READ if serializable else Footprint.READ
