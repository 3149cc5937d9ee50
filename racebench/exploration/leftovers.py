"""What code may leave behind when its transactions have ended, besides rows and numbers of its tables.

Decided from the text of statements and of the bodies that they run. A word in a literal counts, because SQL may be put
together at run time. What was really left is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum


class Leftover(Enum):
    """What may be left, in the session (the first seven) or in the database.

    NUMBERS: the numbers that currval() and lastval() answer. CATALOG: definitions of tables, columns, functions …
    MATERIALIZED: the rows of a materialized view. ELSEWHERE: rows of a table in a schema that is named. HIDDEN: SQL
    that is put together at run time, or code in another language: any of the others.
    """

    SETTINGS = "settings"
    NUMBERS = "numbers"
    TEMPORARY = "temporary tables"
    PREPARED = "prepared statements"
    CURSORS = "cursors"
    ADVISORY = "advisory locks"
    LISTENING = "channels"
    CATALOG = "definitions"
    MATERIALIZED = "materialized views"
    LARGE_OBJECTS = "large objects"
    ELSEWHERE = "rows of other schemas"
    HIDDEN = "hidden code"


#: Those that are left in a session.
OF_SESSIONS = frozenset(
    {
        *(Leftover.SETTINGS, Leftover.NUMBERS, Leftover.TEMPORARY, Leftover.PREPARED, Leftover.CURSORS),
        *(Leftover.ADVISORY, Leftover.LISTENING, Leftover.HIDDEN),
    }
)
_OBJECT = (
    r"(?:ACCESS\s+METHOD|AGGREGATE|CAST|COLLATION|CONVERSION|DATABASE|DOMAIN|EXTENSION|FUNCTION|GROUP|INDEX|LANGUAGE"
    r"|OPERATOR|OWNED|POLICY|PRIVILEGES|PROCEDURE|PUBLICATION|ROLE|ROUTINE|RULE|SCHEMA|SEQUENCE|SERVER|STATISTICS"
    r"|SUBSCRIPTION|SYSTEM|TABLE|TABLESPACE|TEXT\s+SEARCH|TRANSFORM|TRIGGER|TYPE|USER|VIEW|WRAPPER)"
)
#: A temporary object is left in the session only.
_TEMPORARY = r"(?:OR\s+REPLACE\s+)?(?:(?:LOCAL|GLOBAL)\s+)?TEMP(?:ORARY)?\s"
_DDL = re.compile(
    rf"\b(?:CREATE|ALTER|DROP)\s+(?!{_TEMPORARY})(?:[A-Z]+\s+){{0,4}}?{_OBJECT}\b"
    r"|(?:^|[;'$]|\b(?:BEGIN|THEN|ELSE|LOOP)\b)\s*(?:GRANT|REVOKE|COMMENT\s+ON|SECURITY\s+LABEL|REASSIGN|IMPORT\s+FOREIGN)\b",
    re.IGNORECASE,
)
#: SELECT … INTO makes a table. In PL/pgSQL it sets a variable.
_SELECTS = re.compile(r"\s*\(*\s*(?:SELECT|WITH|TABLE|VALUES)\b", re.IGNORECASE)
_INTO = re.compile(rf"(\w+|\S)\s+INTO\s+(?!{_TEMPORARY})", re.IGNORECASE)
_LEAVING = {
    Leftover.SETTINGS: (
        r"(?:^|[;'$]|\b(?:BEGIN|THEN|ELSE|LOOP)\b)\s*(?:SET\s+(?!LOCAL\b|TRANSACTION\b|CONSTRAINTS\b)|RESET\s)"
        r"|\bset_config\s*\((?![^()]*,\s*true\s*\))"
    ),
    Leftover.NUMBERS: r"\b(?:currval|lastval)\b",
    Leftover.TEMPORARY: r"\b(?:TEMP|TEMPORARY|pg_temp)\b",
    Leftover.PREPARED: r"\bPREPARE\b(?!\s+TRANSACTION\b)",
    Leftover.CURSORS: r"\bWITH\s+HOLD\b",
    Leftover.ADVISORY: r"\bpg_(?:try_)?advisory_lock(?:_shared)?\b",
    Leftover.LISTENING: r"\bLISTEN\b",
    Leftover.MATERIALIZED: r"\bREFRESH\s+MATERIALIZED\b",
    Leftover.LARGE_OBJECTS: r"\b(?:lo_\w+|lowrite)\b",
    Leftover.HIDDEN: r"\bEXECUTE\b(?!\s+(?:FUNCTION|PROCEDURE)\b)",
}
_PATTERNS = {leftover: re.compile(pattern, re.IGNORECASE) for leftover, pattern in _LEAVING.items()}
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
#: A write to a table whose schema is named.
_WRITES = re.compile(
    r"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE(?:\s+TABLE)?|COPY)\s+(?:ONLY\s+)?"
    r'(?:"((?:[^"]|"")+)"|(\w+))\s*\.\s*["\w]',
    re.IGNORECASE,
)
#: A setting that is no server's own: after it was set once it is empty, before that it is unknown.
_CUSTOM = re.compile(r"\b(?:SET\s+(?:(?:SESSION|LOCAL)\s+)?|set_config\s*\(\s*')(\w+\.\w+)\b", re.IGNORECASE)


def leaves(statement: str, bodies: Iterable[str] = (), *, schema: str = "") -> frozenset[Leftover]:
    """What a statement may leave behind; `bodies`: the code that it runs indirectly; `schema`: of the tables."""
    # With its comments too: what looks like one may be in a literal.
    readings = (statement, _COMMENT.sub(" ", statement))
    texts = (*readings, *bodies, *(_COMMENT.sub(" ", body) for body in bodies))
    left = set().union(*map(_in, texts))
    if any(_schemas_written(text) - {schema.lower()} for text in texts):
        left.add(Leftover.ELSEWHERE)
    if any(_SELECTS.match(text) and _makes_table(text) for text in readings):
        left.add(Leftover.CATALOG)
    return frozenset(left)


def changes_catalog(statement: str, bodies: Iterable[str] = ()) -> bool:
    """Whether a statement, or the code that it runs indirectly, may be DDL on something that is not temporary."""
    return Leftover.CATALOG in leaves(statement, bodies)


def custom_settings(texts: Iterable[str]) -> frozenset[str]:
    """The names of the settings with a dot in their name that code sets."""
    return frozenset(name.lower() for text in texts for name in _CUSTOM.findall(text))


def _schemas_written(text: str) -> set[str]:
    named = {(quoted.replace('""', '"') or plain).lower() for quoted, plain in _WRITES.findall(text)}
    return {name for name in named if not name.startswith("pg_temp")}


def _makes_table(select: str) -> bool:
    return any(match[1].upper() not in ("INSERT", "MERGE") for match in _INTO.finditer(select))


def _in(text: str) -> set[Leftover]:
    left = {leftover for leftover, pattern in _PATTERNS.items() if pattern.search(text)}
    return left | ({Leftover.CATALOG} if _DDL.search(text) else set())
