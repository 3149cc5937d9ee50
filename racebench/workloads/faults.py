"""Faults of the surroundings in the exceptions of an application's code: a lost connection, a server that ended.

psycopg's OperationalError has no SQLSTATE then. An application often wraps it, or raises an exception of its own while
it handles it, so all that led to an exception is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from racebench.core.faults import CONNECTION_LOST, is_fault
from racebench.workloads.callables import own_sqlstate

#: Exceptions of drivers, by the names of the package and the class: none of them is imported for this.
_LOST = {("psycopg", "OperationalError"), ("psycopg2", "OperationalError"), ("psycopg2", "InterfaceError")}
_FOLLOWS_A_REFUSAL = ("psycopg", "PipelineAborted")


def fault(error: BaseException, counts: Callable[[str], bool] = is_fault) -> str:
    """The SQLSTATE of the fault that led to an exception, CONNECTION_LOST if it has none; "" if no fault did.

    `counts`: whether a SQLSTATE is that of a fault. A connection that is lost at any point makes the outcome of the
    call unknown, whatever the application raises then: a commit may have been sent, and the refusal of a second try may
    come from the first.
    """
    return next((state for cause in _causes(error) if (state := _fault(cause, counts))), "")


def _fault(error: BaseException, counts: Callable[[str], bool]) -> str:
    if state := own_sqlstate(error):
        return state if counts(state) else ""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    lost = isinstance(error, ConnectionError) or not kinds.isdisjoint(_LOST)
    return CONNECTION_LOST if lost and _FOLLOWS_A_REFUSAL not in kinds else ""


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
