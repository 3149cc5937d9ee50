"""Faults of the surroundings in the exceptions of an application's code: a lost connection, a server that ended.

psycopg's OperationalError has no SQLSTATE then. An application often wraps it, or raises an exception of its own while
it handles it, so all that led to an exception is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from racebench.core.faults import CONNECTION_LOST, is_fault
from racebench.workloads.callables import own_sqlstate

#: Classes of psycopg2, by name: an application may use it, racebench does not.
_PSYCOPG2 = ("OperationalError", "InterfaceError")


def fault(error: BaseException) -> str:
    """The SQLSTATE of the fault that led to an exception, CONNECTION_LOST if it has none; "" if no fault did.

    A connection that is lost at any point makes the outcome of the call unknown, whatever the application raises then:
    a commit may have been sent, and the refusal of a second try may come from the first.
    """
    return next((state for cause in _causes(error) if (state := _fault(cause))), "")


def _fault(error: BaseException) -> str:
    if state := own_sqlstate(error):
        return state if is_fault(state) else ""
    if isinstance(error, psycopg.errors.PipelineAborted):
        return ""  # follows from another statement's refusal
    of_psycopg2 = type(error).__module__.startswith("psycopg2") and type(error).__name__ in _PSYCOPG2
    lost = of_psycopg2 or isinstance(error, psycopg.OperationalError | ConnectionError)
    return CONNECTION_LOST if lost else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that led to it: what it wraps, was raised from, or was raised while handling."""
    left, seen = [error], set[int]()
    while left:
        cause = left.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        # SQLAlchemy keeps psycopg's exception as `orig`, Django as the cause.
        earlier = (getattr(cause, "orig", None), cause.__cause__, cause.__context__)
        left += [inner for inner in reversed(earlier) if isinstance(inner, BaseException)]
