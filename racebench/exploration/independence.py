"""What a step may touch, and which steps are independent: both orders lead to the same state.

Steps count as independent only if that is certain. A read is plain if nothing that it names does more than read tables
from a snapshot (inspection.py asks the server). Under READ COMMITTED and REPEATABLE READ an uncommitted write is
invisible, and a plain read takes no lock and leaves no trace: reads are independent of reads and of writes, not of
commits. Under SERIALIZABLE a read leaves a predicate lock: reads are independent of reads alone.

Where the resources of a statement are known (resources.py), steps that share none of them are independent. A COMMIT
touches what its session has touched: it makes that visible, and releases it.
Source: PostgreSQL manual 13.2 (isolation levels), 13.3 (locks).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

from racebench.core.model import Statement
from racebench.postgres.compiler.transactions import begins, ends, is_commit, opens

#: Tables, sequences, and kinds of locks, by name.
Resources = frozenset[str]
#: The name that stands for every resource, known or not.
EVERY = "*"
NONE: Resources = frozenset()
ALL: Resources = frozenset({EVERY})
#: All advisory locks together, the order in which clocks are read, and what never changes.
ADVISORY, CLOCK, CONSTANTS = "advisory locks", "the clock", "constants"
#: Beside ADVISORY: the end of the transaction releases them.
OF_TRANSACTION = "advisory locks of a transaction"

#: The order in which clients of a pooler take and give back its server sessions.
POOL = "the pool"

#: Finds the resources that a statement may reach, from its text.
Reach = Callable[[str], Resources]


class Conflicting(Protocol):
    """A read of a serializable transaction."""

    def conflicts_with(self, rows: int) -> bool:
        """Whether it surely conflicts with what made these committed rows."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a step may touch.

    `sees`: of what it sees the committed rows. `holds`: what it locks or changes; other sessions see nothing of that
    before it ends, unless they lock or change it too. `guards`: what it leaves predicate locks on. `shows`: what it
    makes visible; `frees`: what it releases. `closes`: it ends the transaction, and so these two may be narrowed to
    what its session has touched so far. `waits`: it waited for another session.
    `read`, `becomes`: what is known of the rw-conflicts of a serializable transaction (rw_conflicts.py). `adds`: all
    that it holds are rows that it adds, which are compared with no row that another session adds.
    """

    sees: Resources = NONE
    holds: Resources = NONE
    guards: Resources = NONE
    shows: Resources = NONE
    frees: Resources = NONE
    closes: bool = False
    waits: bool = False
    read: Conflicting | None = None
    becomes: int | None = None
    adds: bool = False

    NOTHING: ClassVar[Footprint]
    READ: ClassVar[Footprint]
    SERIALIZABLE_READ: ClassVar[Footprint]
    WRITE: ClassVar[Footprint]
    #: The end of a transaction, and one that keeps nothing.
    END: ClassVar[Footprint]
    ROLLBACK: ClassVar[Footprint]
    ANYTHING: ClassVar[Footprint]

    @property
    def is_harmless(self) -> bool:
        """Whether it takes no lock that another session waits for, and changes nothing."""
        return not self.holds and not self.frees

    @property
    def is_read(self) -> bool:
        """Whether it only reads."""
        return self.is_harmless and bool(self.sees)

    @property
    def lasts(self) -> bool:
        """Whether a rollback may leave something of it: a lock of the session, or what was committed."""
        return bool(self.shows) or ADVISORY in self.holds

    def closing(self, held: Resources) -> Footprint:
        """The end of a transaction of a session that has touched no more than this so far."""
        if not self.closes:
            return self
        released = held | self.holds
        if not released & {OF_TRANSACTION, EVERY}:
            released -= {ADVISORY}
        shown = released if self.shows else NONE
        return Footprint(self.sees, self.holds, self.guards, shows=shown, frees=released, closes=True)

    def __or__(self, other: Footprint) -> Footprint:
        """What two steps of one session touch together."""
        return Footprint(
            sees=self.sees | other.sees,
            holds=self.holds | other.holds,
            guards=self.guards | other.guards,
            shows=self.shows | other.shows,
            frees=self.frees | other.frees,
            closes=self.closes or other.closes,
            waits=self.waits or other.waits,
            read=self.read or other.read,
            becomes=self.becomes or other.becomes,
            adds=(self.adds or not self.holds) and (other.adds or not other.holds) and (self.adds or other.adds),
        )


Footprint.NOTHING = Footprint()
Footprint.READ = Footprint(sees=ALL)
Footprint.SERIALIZABLE_READ = Footprint(sees=ALL, guards=ALL)
Footprint.WRITE = Footprint(sees=ALL, holds=ALL)
Footprint.END = Footprint(shows=ALL, frees=ALL, closes=True)
Footprint.ROLLBACK = Footprint(frees=ALL, closes=True)
Footprint.ANYTHING = Footprint(sees=ALL, holds=ALL, guards=ALL, shows=ALL, frees=ALL)

#: What a step touches besides in which a client of a pooler takes a server session or gives one back.
POOLED = Footprint(sees=frozenset({POOL}), holds=frozenset({POOL}))
#: What a step touches besides if it had to wait.
WAITED = Footprint(waits=True)

#: Anything may be between the words: white space, KEY, comments.
_LOCKING = re.compile(r"\bFOR\b.*\b(UPDATE|SHARE)\b", re.IGNORECASE | re.DOTALL)
_LOCKS_ROWS = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+|KEY\s+)?(?:UPDATE|SHARE)\b", re.IGNORECASE)
_DML = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE|INTO)\b", re.IGNORECASE)
_NAME = re.compile(r'"((?:[^"]|"")+)"|([^\W\d][\w$]*)|([-+*/<>=~!@#%^&|`?]+)')
#: A literal; and what it may be taken for, or may hide: escapes, quoted names, dollar quotes, comments.
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_NO_PLAIN_LITERALS = re.compile(r"""[\\"]|\$\w*\$|--|/\*""")
_ESCAPED = re.compile(r'u&"', re.IGNORECASE)
#: The end of a transaction that the server keeps, or that it kept.
_PREPARED = re.compile(r"\bPREPARED\b", re.IGNORECASE)
#: LOCK in a mode that no plain read waits for: any but ACCESS EXCLUSIVE, which is the default.
_WEAK_LOCK = re.compile(
    r'\s*LOCK\b[\w\s.,"$]*\bIN\s+(?:ROW\s+SHARE|ROW\s+EXCLUSIVE|SHARE\s+UPDATE\s+EXCLUSIVE|SHARE|SHARE\s+ROW\s+EXCLUSIVE'
    r"|EXCLUSIVE)\s+MODE(?:\s+NOWAIT)?\s*;?\s*",
    re.IGNORECASE,
)
#: Functions of PostgreSQL's own that only take or release advisory locks.
_ADVISORY = frozenset(
    {
        *("pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared"),
        *("pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"),
        *("pg_try_advisory_xact_lock", "pg_try_advisory_xact_lock_shared"),
        *("pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all"),
    }
)
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
#: commit; the end of a transaction may do anything; a transaction may keep the snapshot of its first statement.
ANY_WRITE, SERIALIZABLE, COMMITTING = "any write", "serializable transactions", "procedures that commit"
ANY_END, ONE_SNAPSHOT = "any end of a transaction", "transactions with one snapshot"
#: SQL that may begin a serializable transaction; the setting may be the parameter of a function.
_SERIALIZABLE = re.compile(r"serializable|transaction_isolation|set_config\s*\(\s*[$%:]", re.IGNORECASE)


def independent(one: Footprint, other: Footprint) -> bool:
    """Whether steps of two sessions with these footprints are independent."""
    if one.waits and other.waits:
        return False  # which of two waits closes a circle decides who looks for the deadlock
    if not (one.adds and other.adds) and _share(one.holds, other.holds):
        return False
    return not (_share(one.frees, other.frees) or _touched(one, other) or _touched(other, one))


def _touched(one: Footprint, other: Footprint) -> bool:
    """Whether a step depends on what another one makes visible, releases or changes."""
    if _share(one.sees | one.guards, other.shows) or _share(one.holds | one.guards, other.frees):
        return True
    certain = one.read is not None and other.becomes is not None and one.read.conflicts_with(other.becomes)
    return not certain and _share(one.guards, other.holds)


def _share(one: Resources, other: Resources) -> bool:
    if not one or not other:
        return False
    return EVERY in one or EVERY in other or not one.isdisjoint(other)


def calls(statement: Statement) -> frozenset[str]:
    """Every name in a statement, in lower case: a view, a column or an operator may call a function."""
    return names_in(statement.sql)


@lru_cache(maxsize=512)
def names_in(text: str) -> frozenset[str]:
    """Every name and operator in SQL, in lower case, those in literals and comments included."""
    names = set()
    for quoted, word, operator in _NAME.findall(text):
        names.add((quoted.replace('""', '"') or word or operator).lower())
        names |= {inner.lower() for inner in re.findall(r"[^\W\d][\w$]*", quoted)}
    return frozenset(names)


def footprint(
    statements: Sequence[Statement],
    *,
    isolation: str | None,
    volatile: Collection[str],
    reach: Reach | None = None,
) -> Footprint:
    """What sending these statements may touch; `volatile`: names of objects that may do anything.

    `isolation`: None for the server's default. `reach`: None where the resources of a statement are not known.
    """
    parts = {_of(statement, isolation, volatile, reach) for statement in statements} - {Footprint.NOTHING}
    for worst in (Footprint.ANYTHING, Footprint.WRITE, Footprint.SERIALIZABLE_READ, Footprint.READ):
        if worst in parts and all(part | worst == worst for part in parts):
            return worst
    together = Footprint.NOTHING
    for part in parts:
        together |= part
    return together


def may_be_serializable(text: str) -> bool:
    """Whether SQL may begin a serializable transaction, or have later ones be serializable."""
    return _SERIALIZABLE.search(text) is not None


def is_write(statement: Statement) -> bool:
    """Whether a statement is a command that writes rows."""
    return statement.keyword in _WRITES


def _of(statement: Statement, isolation: str | None, volatile: Collection[str], reach: Reach | None) -> Footprint:
    if begins(statement) or statement.keyword in _MARKS:
        return Footprint.NOTHING
    serializable = isolation == "serializable" or SERIALIZABLE in volatile
    if ends(statement):
        plain = not (serializable or ANY_END in volatile or opens(statement) or _PREPARED.search(statement.sql))
        if not plain or reach is None:
            return Footprint.ANYTHING
        return Footprint.END if is_commit(statement) else Footprint.ROLLBACK
    narrow = None if serializable else reach
    if is_write(statement):
        if ANY_WRITE in volatile:
            return Footprint.ANYTHING
        return _locks(statement, isolation, volatile, narrow) or Footprint.WRITE
    if _WEAK_LOCK.fullmatch(statement.sql):
        return _locks(statement, isolation, volatile, narrow) or Footprint.ANYTHING
    names = calls(statement)
    if (
        statement.keyword not in _READS
        or _DML.search(_LOCKS_ROWS.sub("", statement.sql))
        or _ESCAPED.search(statement.sql)
        or names & (CLOCKS | _UNCOMMITTED)
    ):
        return Footprint.ANYTHING
    if special := names & set(volatile):
        if not special <= _ADVISORY:
            return Footprint.ANYTHING
        # The name of a table is often the key of the lock.
        return _locks(statement, isolation, volatile, narrow, literals=False) or Footprint.ANYTHING
    if _LOCKING.search(statement.sql):
        return _locks(statement, isolation, volatile, narrow) or Footprint.ANYTHING
    if serializable:
        return Footprint.SERIALIZABLE_READ
    if narrow is None or _keeps_snapshot(isolation, volatile):
        return Footprint.READ
    return Footprint(sees=narrow(statement.sql) or frozenset({CONSTANTS}))


def _locks(
    statement: Statement,
    isolation: str | None,
    volatile: Collection[str],
    reach: Reach | None,
    *,
    literals: bool = True,
) -> Footprint | None:
    """What a statement touches that locks or changes what it reaches; None if that is not known.

    `literals`: names in literals count.
    """
    text = statement.sql
    if not literals and not _NO_PLAIN_LITERALS.search(text):
        text = _LITERAL.sub("''", text)
    resources = NONE if reach is None else reach(text)
    if not resources or EVERY in resources:
        return None
    return Footprint(sees=ALL if _keeps_snapshot(isolation, volatile) else resources, holds=resources)


def _keeps_snapshot(isolation: str | None, volatile: Collection[str]) -> bool:
    """Whether a statement may be the one whose snapshot its transaction keeps."""
    return ONE_SNAPSHOT in volatile or isolation not in (None, "read committed", "read uncommitted")
