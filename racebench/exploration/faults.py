"""Faults that stop a schedule: a lost connection, a server that has ended, too little memory, an expired time-out.

No session of the schedule causes them, so such a schedule counts for nothing. What happens then (the schedule is run
again, or the search ends) is decided by made_world.py and explorer.py.
"""

from __future__ import annotations

import re

import psycopg

from racebench.core.errors import ConnectionLost, DatabaseProblem, RacebenchError
from racebench.core.faults import CONNECTION_LOST, stops_a_schedule
from racebench.core.model import Script
from racebench.core.plain_text import message_of
from racebench.workloads.faults import fault

#: What a method of a world may raise because of a fault.
PROBLEMS = (RacebenchError, psycopg.Error)
_TIMEOUT = re.compile(r"\b(lock|statement|transaction|idle_in_transaction_session)_timeout\b", re.IGNORECASE)


class Fault(DatabaseProblem):
    """A fault stopped a schedule. The message names what was stopped, and the SQLSTATE."""

    def __init__(self, what: str, sqlstate: str) -> None:
        super().__init__(what if f"({sqlstate})" in what else f"{what} ({sqlstate})")
        self.sqlstate = sqlstate


def fault_of(problem: BaseException) -> Fault | None:
    """The fault that a problem stands for; None if it is none."""
    if isinstance(problem, Fault):
        return problem
    sqlstate = fault(problem, stops_a_schedule)
    if not sqlstate and isinstance(problem, ConnectionLost):
        sqlstate = CONNECTION_LOST
    if not sqlstate:
        return None
    said = message_of(problem)
    return Fault(said if isinstance(problem, RacebenchError) else f"a connection of racebench's own: {said}", sqlstate)


def sets_timeout(script: Script) -> bool:
    """Whether a script names a time-out, so that one that expires in it is its own."""
    return _TIMEOUT.search(script.text) is not None
