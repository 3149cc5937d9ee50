"""Whether one schedule may stand for another because its sessions only swap their names.

Two sessions are alike if swapping them changes only their names. A script that reads its client's number makes them
different; so do numbers that a session has from earlier schedules, and code that asks the server which session it is.
Random draws do not: all sessions draw the same.

Alike sessions stay alike while they only read, and while only reads are between their reads: a plain read leaves no
trace that another session, or the server, could see. They are alike again after a rollback of everything they did. They
also stay alike if they add rows, and every order of these steps and of the others' reads leads to the same state
(rw_conflicts.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from racebench.core.model import Assign, Branch, Script, Statement
from racebench.exploration.independence import Footprint

#: Variables that differ between sessions. `operation` may be sent to the server, where it only identifies a row.
_OWN = frozenset({"client_id", "random_seed"})


#: Expressions that return the start time of the transaction or of another one.
_BEGUN = re.compile(
    r"\b(now|transaction_timestamp|current_(timestamp|time|date)|localtime(stamp)?|age|pg_stat_(get_)?activity)\b", re.I
)
_INSERTED = re.compile(r'\bINSERT\s+INTO\s+(?:[\w$"]+\.)?"?([\w$]+)"?\s*(\([^()]*\))?\s*(VALUES)?', re.IGNORECASE)
_SAME = re.compile(r'(?:[\w$"]+\.)?"?([\w$]+)"?\s*=\s*:operation\b', re.IGNORECASE)
#: What follows a value that stands by itself.
_AFTER = re.compile(r"(\s*::\s*\w+)?\s*([,);]|$|(FROM|WHERE|ON|AS|RETURNING)\b)", re.IGNORECASE)


#: Names whose value depends on the session, on what it did before, or on how many schedules were run before. Of the
#: names that begin with pg_, all but those of which it is known that they answer every session alike.
_TELLING = re.compile(
    r"(?<![\w$:])(pg_(?!(?:(?:try_)?advisory_\w+|relation_\w+|sleep\w*|notify|typeof|catalog|get_serial_sequence"
    r"|class|attribute|namespace|type|proc|index|constraint|sequence)(?![\w$]))[\w$]+"
    r"|txid_\w+|inet_(?:client|server)_\w+|current_setting|current_query|currval|lastval|show"
    r"|xmin|xmax|cmin|cmax|ctid)(?![\w$])",
    re.IGNORECASE,
)
#: SQL that is put together when it runs, and names in code points: they may name anything.
_HIDDEN = re.compile(r"\bEXECUTE\b(?!\s+(?:FUNCTION|PROCEDURE)\b)|\b(?:query_to_|dblink)\w*|\bU&\"", re.IGNORECASE)
#: What takes a row's columns without naming them.
_WHOLE = re.compile(
    r"(?:\bSELECT|\bRETURNING|\bDISTINCT|\bALL|[.,])\s*\*"
    r"|(?:^|[(;]|\b(?:AS|UNION|ALL|EXCEPT|INTERSECT|QUERY)|\bINTO\s+[\w.$\"]+)\s*\bTABLE\s+[\w\"]"
    r"|(?<!')(?<!RETURN )\b(?:NEW|OLD)\b(?!\s*\.|\s+TABLE\b)"
    r"|\b(?:row_to_json|to_jsonb?|jsonb?_agg|record_\w+|hash_record\w*|ROWTYPE)\b",
    re.IGNORECASE,
)
#: Whole rows that are only returned, or of which only the existence matters.
_RETURNED = re.compile(r"^\s*SELECT\s+(?:\w+\.)?\*", re.IGNORECASE)
_EXISTS = re.compile(r"\bEXISTS\s*\(\s*SELECT\s*\*", re.IGNORECASE)


def begin_is_seen(texts: Iterable[str]) -> bool:
    """Whether scripts or DDL may ask when a transaction began: then BEGIN is a step, because now() is its time."""
    return any(_BEGUN.search(text) for text in texts)


def tells_apart(texts: Iterable[str]) -> bool:
    """Whether code may ask something whose answer depends on the session: its backend, its settings, its xid …

    An xid is compared with a number that the schedules before have moved, hence it counts too.
    """
    return any(_TELLING.search(text) or _HIDDEN.search(text) for text in texts)


def alike(
    script: Script,
    tables: Mapping[str, Sequence[str]] | None = None,
    elsewhere: Iterable[str] = (),
    invariants: Iterable[str] = (),
) -> bool:
    """Whether all sessions that run the same script do the same, and the invariants do not tell them apart.

    `tables`: the columns of each; `elsewhere`: other code that reads them (functions, views, consumers). An operation's
    number that is kept in a column tells sessions apart where it may be compared, not where a row is looked up by it.
    """
    tables, elsewhere, invariants = tables or {}, list(elsewhere), list(invariants)
    if tells_apart([*(statement.text for statement in script.statements), *elsewhere, *invariants]):
        return False
    kept: set[str] = set()
    for statement in script.statements:
        if "operation" in statement.slots and (columns := _kept(statement.text, tables)) is not None:
            kept |= columns
        elif "operation" in statement.slots:
            return False
    readers = [*map(_rest, script.statements), *elsewhere, *(_RETURNED.sub("", text) for text in invariants)]
    if kept and any(_mentions(text, kept) or _WHOLE.search(_EXISTS.sub("", text)) for text in readers):
        return False
    for step in script.steps:
        if isinstance(step, Statement) and _OWN & {*step.parameters, *step.slots}:
            return False
        if isinstance(step, Assign | Branch) and (_OWN | {"operation"}) & _words(step.tree):
            return False
    return True


def _kept(text: str, tables: Mapping[str, Sequence[str]]) -> set[str] | None:
    """The columns that hold :operation after a statement; None if it does anything else with it."""
    kept = {match[1].lower() for match in _SAME.finditer(text)}
    text = _SAME.sub("", text)
    places = [match.start() for match in re.finditer(r":operation\b", text)]
    if not places:
        return kept
    into = _INSERTED.search(text)
    if into is None:
        return None
    named = re.findall(r"[\w$]+", into[2] or "") or tables.get(into[1].lower())
    for place in places:
        opening, item = _item(text, into.end(), place)
        before = text[:place].rstrip()
        by_itself = before.endswith((",", "(")) or before.upper().endswith("SELECT")
        if opening or not by_itself or not _AFTER.match(text, place + len(":operation")):
            return None
        if named is not None:
            kept |= {named[item].lower()} if item < len(named) else set()
    return kept


def _item(text: str, start: int, place: int) -> tuple[int, int]:
    """How many parentheses enclose a place within its row, and the index of the row's item that it is in."""
    row = text[start:place]
    values = row.lstrip().startswith("(")
    depth = item = 0
    for character in row:
        depth += (character == "(") - (character == ")")
        if depth == values and character == ",":
            item += 1
        elif values and depth == 1 and character == "(":
            item = 0
    return depth - values, item


def _rest(statement: Statement) -> str:
    """A statement without what names a kept column but compares nothing: the columns of INSERT, and a look-up."""
    return _SAME.sub("", _INSERTED.sub("", statement.text, count=1))


def _mentions(text: str, columns: set[str]) -> bool:
    return any(re.search(rf"(?<![\w$:]){re.escape(column)}(?![\w$])", text, re.IGNORECASE) for column in columns)


def _words(tree: Any) -> set[str]:
    """Every name in an expression."""
    if isinstance(tree, str):
        return {tree}
    return set().union(*map(_words, tree)) if isinstance(tree, tuple | list) else set()


@dataclass(slots=True)
class _Past:
    """The moments at which a session read; None if it has left a trace, `lasting` if no rollback removes that.

    Negative: it added rows at the moment -1 - number, which commuted with what the others had done.
    """

    reads: list[int] | None = field(default_factory=list)
    lasting: bool = False


class Pasts:
    """The part of the sessions' history in a schedule that makes them different.

    A moment is the number of steps so far, of all sessions, that may have changed something: reads at the same moment
    see the same. Steps that commute with each other do not end a moment, even if they change something.
    """

    def __init__(self) -> None:
        self._moment = 0
        #: Whether a step at this moment has changed something.
        self._changed = False
        self._pasts: dict[int, _Past] = {}

    def took(
        self,
        session: int,
        touches: Footprint,
        *,
        undone: bool = False,
        waits: bool = False,
        commutes: bool = False,
    ) -> None:
        """A session took a step; `undone`: it failed, and its transaction with it; `waits`: it has no answer yet.

        `commutes`: with every step of a transaction under way of another session.
        """
        past = self._pasts.setdefault(session, _Past())
        plain = touches.is_harmless
        if touches.adds and commutes and not waits:
            self._changed = True
            if past.reads is not None:
                past.reads.append(-1 - self._moment)
            return
        if not plain or (self._changed and not commutes):
            self._moment += 1
            self._changed = False
        if not plain or waits:
            past.reads = None
            past.lasting |= touches.lasts and not undone
        elif past.reads is not None:
            past.reads.append(self._moment)

    def begins_again(self, session: int) -> None:
        """Everything that a session did was rolled back, and it begins another try."""
        past = self._pasts.setdefault(session, _Past())
        if not past.lasting:
            past.reads = []

    def of(self, session: int) -> tuple[int, ...] | None:
        """Equal for sessions that are alike; None for a session that is like no other."""
        past = self._pasts.get(session, _Past())
        return None if past.reads is None else tuple(past.reads)
