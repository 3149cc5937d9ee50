"""Which reads of serializable transactions are known to conflict with which writes, in whichever order they come.

A read leaves a predicate lock, and the server notes a rw-conflict with a concurrent write: when the write comes later,
it meets the lock; when it came first, the read meets the row. The first is coarser than the second: it may be a page of
an index that is locked, so that a write to another row conflicts too. Hence the two orders are the same only if the
read surely conflicts with the write. It does if its answer is another one when the writing transaction has committed,
as was seen in a schedule of this search: then neither order can miss the conflict, or executions would not be
serializable.

That holds as long as no serializable transaction has committed while another was under way: from then on a conflict may
end a transaction at once, and which one depends on the order (`retained`).
Source: PostgreSQL's source, README-SSI, and predicate.c: CheckForSerializableConflictOut, CheckTargetForConflictsIn,
OnConflict_CheckForSerializationFailure (fails only if a transaction has been prepared or has committed).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from racebench.core.model import Script, Statement
from racebench.exploration.independence import Footprint, names_in
from racebench.postgres.compiler.transactions import begins

#: Columns whose values depend on how many rows were inserted before, kept or not, or on the clock; and what fires.
_DRAWN = """
SELECT lower(attname) FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relnamespace = %(schema)s::regnamespace AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped
  AND (attidentity <> '' OR strpos(pg_get_expr(adbin, adrelid), '(') > 0)
"""
_MORE = """
SELECT FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE relnamespace = %(schema)s::regnamespace AND NOT tgisinternal
UNION ALL
SELECT FROM pg_class JOIN pg_am ON pg_am.oid = relam
WHERE relnamespace = %(schema)s::regnamespace AND amname NOT IN ('heap', 'btree')
UNION ALL
SELECT FROM pg_class WHERE relnamespace = %(schema)s::regnamespace AND relkind NOT IN ('r', 'i', 'S', 't')
LIMIT 1
"""
_COUNTED = re.compile(r"\bcount\s*\(\s*\*\s*\)", re.IGNORECASE)
#: What a statement is not to have: whole rows, what differs each time, and transactions that only read.
_UNCERTAIN = re.compile(
    r"\*|\bTABLE\b|\b(?:nextval|random\w*|uuid\w*|gen_\w+|now|clock_\w+|current_\w+|local\w+|timeofday|txid_\w+|pg_\w+"
    r"|ctid|xmin|READ\s+ONLY|DEFERRABLE|PREPARE|PREPARED)\b",
    re.IGNORECASE,
)

#: Columns of types that are no domains, without functions as defaults; no constraint but NOT NULL and unique keys, and
#: these only with an identity column.
_ADDABLE = """
SELECT lower(relname) FROM pg_class
WHERE relnamespace = %(schema)s::regnamespace AND relkind = 'r' AND NOT relhasrules AND NOT relrowsecurity
  AND NOT relhassubclass AND NOT relispartition
  AND NOT EXISTS (SELECT FROM pg_constraint
      WHERE pg_class.oid IN (conrelid, confrelid) AND contype NOT IN ('p', 'u', 'n'))
  AND NOT EXISTS (SELECT FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
      WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped AND (typtype <> 'b' OR attgenerated <> ''))
  AND NOT EXISTS (SELECT FROM pg_attrdef WHERE adrelid = pg_class.oid AND strpos(pg_get_expr(adbin, adrelid), '(') > 0)
  AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = pg_class.oid AND (indexprs IS NOT NULL OR indpred IS NOT NULL
      OR EXISTS (SELECT FROM unnest(indclass::oid[]) AS class WHERE class >= 16384)
      OR indisunique AND NOT EXISTS (SELECT FROM pg_attribute
          WHERE attrelid = indrelid AND attnum = ANY(indkey) AND attidentity <> '')))
"""
#: Constants, with their types; the columns are named.
_CONSTANT = r"\s*(?:'(?:[^'\\]|'')*'|[-+]?[\d.]+|NULL|TRUE|FALSE)(?:::\w+)?\s*"
_ROW = rf"\s*\({_CONSTANT}(?:,{_CONSTANT})*\)\s*"
_INSERT = re.compile(
    rf"\s*INSERT\s+INTO\s+(\w+)\s*\([\w\s,]+\)\s*VALUES{_ROW}(?:,{_ROW})*(?:RETURNING\s[\w\s,]+)?;?\s*", re.IGNORECASE
)

_LEVEL = re.compile(r"\bISOLATION\s+LEVEL\s+(\w+)", re.IGNORECASE)
_PLAIN = frozenset({"SELECT", "VALUES", "WITH", "INSERT", "UPDATE", "DELETE", "MERGE", "COMMIT", "END", "ROLLBACK"})


def can_be_known(
    connection: psycopg.Connection[Any],
    schema: str,
    script: Script,
    isolation: str | None,
    invariants: Iterable[str] = (),
) -> bool:
    """Whether every transaction is serializable, and the same statements always do the same to the same rows.

    Only of tables whose indexes are B-trees. `isolation`: of a transaction that does not name its own. `invariants`:
    queries that are to say the same of the same rows, too.
    """
    if not all(_is_serializable(statement, isolation) for statement in script.statements):
        return False
    drawn = {str(row[0]) for row in connection.execute(_DRAWN, {"schema": schema}).fetchall()}
    if connection.execute(_MORE, {"schema": schema}).fetchone() is not None:
        return False
    texts = [*(statement.sql for statement in script.statements), *invariants]
    return not any(names_in(text) & drawn or _UNCERTAIN.search(_COUNTED.sub("", text)) for text in texts)


def addable(connection: psycopg.Connection[Any], schema: str) -> frozenset[str]:
    """The names of the tables of a schema in which rows that are added by two sessions are never compared.

    They have unique indexes only of columns that a sequence fills, and nothing runs when a row is added. Then no order
    of two INSERTs of VALUES differs from another, as long as no transaction has committed: a conflict ends none.
    """
    return frozenset(str(row[0]) for row in connection.execute(_ADDABLE, {"schema": schema}).fetchall())


def _adds(text: str, tables: AbstractSet[str]) -> bool:
    """Whether a statement only adds rows of constants to one of these tables."""
    found = _INSERT.fullmatch(text)
    return found is not None and found[1].lower() in tables


def _is_serializable(statement: Statement, isolation: str | None) -> bool:
    """Whether a statement, if it begins a transaction, begins a serializable one; False if it may change the level."""
    if begins(statement):
        named = _LEVEL.search(statement.sql)
        return (isolation if named is None else named[1].lower()) == "serializable"
    return statement.keyword in _PLAIN


@dataclass(slots=True)
class _Transaction:
    """A transaction under way: the committed rows that it sees, and what it has sent."""

    snapshot: int
    sent: list[str] = field(default_factory=list)
    writes: int = 0
    reads: list[Read] = field(default_factory=list)
    #: What its writes are known to make of the rows, if all that they do is add some.
    added: int | None = None
    #: It has read something whose conflicts are not known, such as what it had written itself.
    unsure: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """A read of a serializable transaction that sees some committed rows."""

    conflicts: RwConflicts
    rows: int
    text: str

    def conflicts_with(self, rows: int) -> bool:
        """Whether its answer is known to be another one with these committed rows."""
        answers = self.conflicts.answers
        here, there = answers.get((self.rows, self.text)), answers.get((rows, self.text))
        return here is not None and there is not None and here != there


class RwConflicts:
    """What serializable transactions of one search read and wrote, of sessions that run a script.

    Committed rows are known by number: those that the schedule begins with are 0, and each committed transaction makes
    others of them. `answers`: to each read, by the number of the rows and its text. `addable`: see the function.
    """

    def __init__(self, addable: AbstractSet[str] = frozenset()) -> None:
        self._addable = addable
        self.answers: dict[tuple[int, str], str] = {}
        self._numbers: dict[tuple[int, int, tuple[str, ...]], int] = {}
        self.begin()

    def begin(self) -> None:
        """Begin a schedule."""
        self._rows = 0
        self._open: dict[int, _Transaction] = {}
        self._retained = self._lost = False
        self._committed: dict[int, tuple[int, ...]] = {}

    @property
    def rows(self) -> int | None:
        """The number of the committed rows, if no transaction is under way; None if one is, or if it is not known."""
        return None if self._lost or self._open else self._rows

    def committed(self, session: int) -> tuple[int, ...]:
        """The numbers that the rows had after each commit of a session in this schedule."""
        return self._committed.get(session, ())

    def give_up(self) -> None:
        """Know nothing more in this schedule: a session waited, so that its steps are not what was seen of them."""
        self._lost = True

    def sent(self, session: int, sent: str, touched: Footprint, answers: Sequence[str], *, ended: bool) -> Footprint:
        """A session sent a statement; return the step's footprint with what is known of its conflicts.

        `sent`: "" for the end of a transaction. `ended`: it is in no transaction now.
        """
        if self._lost:
            return touched
        failed = any(answer.startswith("ERROR") for answer in answers)
        transaction = self._open.setdefault(session, _Transaction(self._rows))
        if sent:
            touched = self._noted(transaction, sent, touched, answers, failed=failed)
        if ended:
            del self._open[session]
            if not failed and transaction.writes:
                self._rows = self._number(transaction)
                self._committed[session] = (*self.committed(session), self._rows)
            self._retained = bool(self._open) and (self._retained or not failed)
        return touched

    def _noted(
        self, transaction: _Transaction, sent: str, touched: Footprint, answers: Sequence[str], *, failed: bool
    ) -> Footprint:
        transaction.sent.append(sent)
        if touched.is_read:
            if failed or transaction.writes or not touched.guards:
                transaction.unsure = True
                return touched
            self.answers[transaction.snapshot, sent] = "\n".join(answers)
            transaction.reads.append(Read(self, transaction.snapshot, sent))
            return touched if self._retained else replace(touched, read=transaction.reads[-1])
        transaction.writes += 1
        transaction.added = None
        if failed or self._retained or transaction.writes > 1:
            return touched
        becomes, adds = self._number(transaction), _adds(sent, self._addable)
        transaction.added = becomes if adds else None
        return replace(touched, becomes=becomes, adds=adds)

    def commutes(self, session: int, touched: Footprint) -> bool:
        """Whether a step of a transaction under way commutes with all that others did that are under way.

        Asked of a read, and of a write that adds rows.
        """
        others = [transaction for number, transaction in self._open.items() if number != session]
        if touched.adds and touched.becomes is not None:
            return all(
                not other.unsure
                and (other.added is not None or not other.writes)
                and all(read.conflicts_with(touched.becomes) for read in other.reads)
                for other in others
            )
        read = touched.read
        return all(
            not other.writes or (read is not None and other.added is not None and read.conflicts_with(other.added))
            for other in others
        )

    def _number(self, transaction: _Transaction) -> int:
        """The number of the rows when the transaction has committed."""
        known = (self._rows, transaction.snapshot, tuple(transaction.sent))
        return self._numbers.setdefault(known, len(self._numbers) + 1)
