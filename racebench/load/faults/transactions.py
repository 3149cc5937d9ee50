"""Follows one connection's messages: which of them is a statement, which a commit, and which answer says so.

It changes nothing and owns no socket. In the extended protocol, statements outside a transaction are committed by the
Sync behind them, and their CommandComplete says nothing yet; everywhere else a commit has happened when its
CommandComplete arrives. Source: PostgreSQL's documentation, "Message Flow"; exec_simple_query and exec_execute_message
in postgres.c.
"""

from __future__ import annotations

import functools
import re
from collections import deque
from enum import Enum

from racebench.postgres.proxy.messages import Message

_IDLE = b"I"
_WORD = re.compile(
    rb"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*([A-Za-z]+)(?:\s+(?:WORK|TRANSACTION))?(\s+TO\b)?", re.S | re.I
)
_COMMITS = frozenset({b"COMMIT", b"END"})
_BEGINS = frozenset({b"BEGIN", b"START"})
_ROLLS_BACK = frozenset({b"ROLLBACK", b"ABORT"})
#: Statements, and the tags of their answers, that leave nothing behind which a commit makes durable.
_SILENT = frozenset(
    {
        *(b"SET", b"SHOW", b"RESET", b"EXPLAIN", b"PREPARE", b"DEALLOCATE", b"DISCARD", b"LISTEN", b"UNLISTEN"),
        *(b"SAVEPOINT", b"RELEASE", b"DECLARE", b"FETCH", b"MOVE", b"CLOSE", b"LOCK", b"CHECKPOINT", b"LOAD"),
    }
)


class Effect(Enum):
    """What a statement does to its transaction. SILENT: it leaves nothing that would be committed."""

    BEGINS = "begins"
    COMMITS = "commits"
    ROLLS_BACK = "rolls back"
    SILENT = "silent"
    WORKS = "works"


@functools.lru_cache(maxsize=4096)
def effects(text: bytes) -> tuple[Effect, ...]:
    """The effects of the statements of a text, told from their first words."""
    return tuple(_effect(part) for part in text.split(b";") if part.strip())


def _effect(statement: bytes) -> Effect:
    match = _WORD.match(statement)
    if match is None:
        return Effect.WORKS
    word, to_savepoint = match[1].upper(), match[2] is not None
    if word in _BEGINS:
        return Effect.BEGINS
    if word in _COMMITS:
        return Effect.COMMITS
    if word in _ROLLS_BACK and not to_savepoint:
        return Effect.ROLLS_BACK
    return Effect.SILENT if word in _SILENT or word in _ROLLS_BACK else Effect.WORKS


class Role(Enum):
    """What a message of the client is. COMMIT: a statement, or a Sync, by which something is committed."""

    OTHER = "other"
    STATEMENT = "statement"
    COMMIT = "commit"
    SYNC_COMMIT = "commit by a Sync"


class Transactions:
    """The transactions of one connection, as its messages tell them."""

    def __init__(self) -> None:
        self._prepared: dict[bytes, bytes] = {}
        self._portals: dict[bytes, bytes] = {}
        #: Whether a transaction is open once the client's messages so far are carried out, and whether statements
        #: outside one wait for their Sync.
        self._opens = self._implicit = False
        #: The kinds of the client's messages that a ReadyForQuery will answer.
        self._unanswered: deque[bytes] = deque()
        #: As the answers tell: whether a transaction is open; whether statements outside one were carried out.
        self._open = self._worked = False

    @property
    def commit_is_near(self) -> bool:
        """Whether a ReadyForQuery, which will come without another message of the client, may say a commit."""
        return self._worked and bool(self._unanswered)

    def sent(self, message: Message) -> Role:
        """Take a message that the client sends; the server refuses one that is malformed."""
        try:
            return self._sent(*message)
        except ValueError:
            return Role.OTHER

    def _sent(self, kind: bytes, raw: bytes) -> Role:
        if kind == b"P":
            name, text, _ = raw[5:].split(b"\0", 2)
            self._prepared[name] = text
        elif kind == b"B":
            portal, name, _ = raw[5:].split(b"\0", 2)
            self._portals[portal] = self._prepared.get(name, b"")
        elif kind == b"Q":
            self._unanswered.append(kind)
            return self._executed(raw[5:-1], simple=True)
        elif kind == b"E":
            return self._executed(self._portals.get(raw[5 : raw.index(b"\0", 5)], b""), simple=False)
        elif kind == b"S":
            self._unanswered.append(kind)
            implicit, self._implicit = self._implicit, False
            return Role.SYNC_COMMIT if implicit else Role.OTHER
        elif kind == b"F":
            self._unanswered.append(kind)
            return Role.STATEMENT if self._opens else Role.COMMIT
        return Role.OTHER

    def _executed(self, text: bytes, *, simple: bool) -> Role:
        commits = works = False
        for effect in effects(text):
            if effect is Effect.COMMITS:
                commits |= self._opens or works
                works = False
            works |= effect is Effect.WORKS and not self._opens
            if effect in (Effect.BEGINS, Effect.COMMITS, Effect.ROLLS_BACK):
                self._opens = effect is Effect.BEGINS
        if works and not simple:
            self._implicit = True
            return Role.STATEMENT
        return Role.COMMIT if commits or works else Role.STATEMENT

    def answered(self, message: Message) -> bool:
        """Take a message of the server; whether it says that something has been committed."""
        kind, raw = message
        if kind == b"C":
            tag = raw[5:-1].partition(b" ")[0]
            if tag == b"COMMIT":
                self._open = self._worked = False
                return True
            if tag in _BEGINS:
                self._open = True
            elif tag == b"ROLLBACK":
                self._open = False
            elif not self._open and tag not in _SILENT:
                self._worked = True
        elif kind == b"V":
            self._worked |= not self._open
        elif kind == b"E":
            self._worked = False
        elif kind == b"Z":
            worked, self._worked = self._worked, False
            status = raw[5:6]
            self._open = status != _IDLE
            if self._unanswered:
                self._unanswered.popleft()
            if not self._unanswered:
                self._opens, self._implicit = self._open, False
            return worked and not self._open
        return False
