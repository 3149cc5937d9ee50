"""The SQLSTATEs of operations that fail only because another session is at work."""

from __future__ import annotations

#: The classes of integrity constraints, and of rollbacks (serialization failure, deadlock).
CLASSES = ("23", "40")
#: Of a column, an object and a table that another session has just made.
ALREADY_MADE = ("42701", "42710", "42P07")


def is_refusal(sqlstate: str) -> bool:
    """Whether an error was caused by another session."""
    return sqlstate[:2] in CLASSES or sqlstate in ALREADY_MADE
