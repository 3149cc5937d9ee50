"""How each schedule of a search is kept apart from the schedules before it, one strategy a class.

A world chooses one when it is made, by what its scenario says, and asks nothing else about it.
"""

from __future__ import annotations

from typing import Any, Protocol

import psycopg

from racebench.core.model import Scenario, ScheduleIsolation
from racebench.postgres.snapshot import Snapshot

#: Tenants that a schema serves before it is made anew: scenarios create accounts for this many.
_MOST_TENANTS = 2_000


class Isolation(Protocol):
    """Keeps a schedule apart from the schedules before it.

    `whole_tables`: everything in the tables is the setup's or the current schedule's, whichever tenant it is of.
    """

    whole_tables: bool

    def renew(self) -> bool:
        """Prepare for the next schedule; False if the world must be made anew first. Raises DatabaseProblem."""


class FreshTenants:
    """Each schedule has a tenant of its own: nothing to restore, and nothing in the tables or indexes to trip over."""

    whole_tables = False

    def __init__(self, most: int) -> None:
        self._left = most

    def renew(self) -> bool:
        self._left -= 1
        return self._left >= 0


class RestoredTables:
    """The tables and sequences are restored before each schedule, for code that does not keep to a tenant."""

    whole_tables = True

    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        self._snapshot = Snapshot(connection, schema)

    def renew(self) -> bool:
        self._snapshot.restore()
        return True


def choose(scenario: Scenario, connection: psycopg.Connection[Any], schema: str) -> Isolation:
    """The isolation that a scenario's schedules need, in a schema that is set up. Raises DatabaseProblem."""
    if scenario.schedule_isolation is ScheduleIsolation.RESTORED_TABLES:
        return RestoredTables(connection, schema)
    return FreshTenants(1 if scenario.once else _MOST_TENANTS)
