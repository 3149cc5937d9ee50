"""What must hold before a schedule may stand for another: sessions that are alike, and that begin alike each time.

Two sessions are alike if swapping them changes nothing but their names. A script that asks which client it is tells
them apart; so do numbers that a session holds from before. What is drawn at random does not: all draw the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from racebench.model import Assign, Branch, Pipeline, Script, Statement

#: Variables that differ from session to session. `operation` may be sent to the server, where it is a name.
_OWN = frozenset({"client_id", "random_seed"})


def alike(script: Script) -> bool:
    """Whether sessions that run the same script cannot be told apart by what they do."""
    for step in script.steps:
        if isinstance(step, Statement) and _OWN & {*step.parameters, *step.slots}:
            return False
        if isinstance(step, Assign | Branch) and (_OWN | {"operation"}) & _words(step.tree):
            return False
    return True


def _words(tree: Any) -> set[str]:
    """Every name in an expression."""
    if isinstance(tree, str):
        return {tree}
    return set().union(*map(_words, tree)) if isinstance(tree, tuple | list) else set()


def in_pipelines(script: Script) -> frozenset[int]:
    """The identities of the statements that are sent in a pipeline, which commits at its end if nothing was begun."""
    found, piped = set(), False
    for step in script.steps:
        if isinstance(step, Pipeline):
            piped = step.start
        elif isinstance(step, Statement) and piped:
            found.add(id(step))
    return frozenset(found)


def warm(sessions: Sequence[psycopg.Connection[Any]], sequences: Sequence[str]) -> None:
    """Have each session hold numbers of each sequence that is cached, the first session the lowest, as after some use.

    Otherwise what a schedule shows would depend on the schedules before it, or, in sessions that have never taken a
    number, on nothing: the first one's come first.
    """
    for connection in sessions:
        pgconn = connection.pgconn
        pgconn.exec_(b"DISCARD SEQUENCES")
        for sequence in sequences:
            pgconn.exec_params(b"SELECT nextval($1::text::regclass)", [sequence.encode()])
