"""Functions that run several statements of SQL: all of them are inside one step, and other sessions take none between.

Under READ COMMITTED each statement of a volatile function has a snapshot of its own, so that another session's commit
may come between two of them; at any level two sessions may wait for each other there. A search of steps does not see
either. A stable function only reads, from the snapshot of the query that calls it.
Source: PostgreSQL manual 36.7 (function volatility categories).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import psycopg

from racebench.exploration import batches
from racebench.exploration.hidden_effects import reached

#: The languages whose bodies are read; a function in another one may run any number of statements.
_READ = ("sql", "plpgsql")
_BODIES = """
SELECT DISTINCT lower(proname), lanname, concat_ws(' ', prosrc, pg_get_function_sqlbody(pg_proc.oid))
FROM pg_proc JOIN pg_language ON pg_language.oid = prolang
WHERE provolatile = 'v' AND lanname NOT IN ('c', 'internal')
  AND pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
"""
_STATEMENT = re.compile(
    r"\b(SELECT|INSERT|UPDATE|DELETE|MERGE|PERFORM|EXECUTE|CALL|TABLE|VALUES|LOCK)\b", re.IGNORECASE
)
#: What separates the statements of plpgsql, besides semicolons.
_BORDER = re.compile(r"\b(THEN|ELSE|BEGIN|(?:END\s+)?LOOP)\b", re.I)
_WORD = re.compile(r"[^\W\d][\w$]*")


def with_several_statements(connection: psycopg.Connection[Any], names: Iterable[str]) -> frozenset[str]:
    """Of the functions that statements with these names may run, to any depth, those that run several statements.

    A procedure or a trigger's function is one too. Names are compared in lower case, without regard to schemas.
    """
    rows = connection.execute(_BODIES).fetchall()
    own: dict[str, int] = {}
    called: dict[str, set[str]] = {}
    for name, language, body in rows:
        own[name] = max(own.get(name, 0), statements_in(body) if language in _READ else 2)
        called.setdefault(name, set()).update(word.lower() for word in _WORD.findall(body))
    counts = dict(own)
    for _ in own:  # as deep as there are functions
        counts = {
            name: min(2, own[name] + sum(counts[other] for other in called[name] & own.keys() - {name})) for name in own
        }
    several = {name for name, count in counts.items() if count > 1}
    return reached(connection, names) & several if several else frozenset()


def statements_in(body: str) -> int:
    """How many statements a body of sql or plpgsql runs; one in a loop counts as two, and what is uncertain too."""
    parts = batches.split(body)
    if parts is None:
        return 2
    count = loops = 0
    for piece in (piece for part in parts for piece in _BORDER.split(part)):
        if _BORDER.fullmatch(piece):
            word = piece.upper()
            loops += (word == "LOOP") - word.startswith("END")
        elif _STATEMENT.search(piece):
            count += 2 if loops else 1
    return count
