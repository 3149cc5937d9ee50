"""What a statement does to its transaction, told from its text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from racebench.core.model import Statement

_COMMITS = frozenset({"COMMIT", "END"})
_BEGINS = frozenset({"BEGIN", "START"})
_ENDS = frozenset({"COMMIT", "END", "ROLLBACK", "ABORT"})
_CHAIN = re.compile(r"\bAND\s+CHAIN\b", re.IGNORECASE)
_TO_SAVEPOINT = re.compile(r"\s*ROLLBACK\s+(WORK\s+|TRANSACTION\s+)?TO\b", re.IGNORECASE)

#: What `--rollback` sends in place of COMMIT.
ROLLBACK = Statement(line=0, text="ROLLBACK", sql="ROLLBACK", parameters=(), fragments=("ROLLBACK",))


def is_commit(statement: Statement) -> bool:
    """Whether a statement asks for a commit."""
    return statement.keyword in _COMMITS


def begins(statement: Statement) -> bool:
    """Whether a statement begins a transaction."""
    return statement.keyword in _BEGINS


def ends(statement: Statement) -> bool:
    """Whether a statement ends a transaction: COMMIT and ROLLBACK, but not ROLLBACK TO a savepoint."""
    return statement.keyword in _ENDS and not _TO_SAVEPOINT.match(statement.sql)


def opens(statement: Statement) -> bool:
    """Whether a transaction is open after a statement that begins or ends one: COMMIT AND CHAIN does both."""
    return begins(statement) or bool(_CHAIN.search(statement.sql))


def leaves_open(statements: Sequence[Statement]) -> bool | None:
    """Whether a transaction is open after an exchange that succeeds; None if it is as it was before."""
    for statement in reversed(statements):
        if begins(statement) or ends(statement):
            return opens(statement)
    return None
