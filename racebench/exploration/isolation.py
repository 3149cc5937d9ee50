"""How each schedule of a search is kept apart from the schedules before it: one class for each method.

A world chooses the method when it is made, by its scenario.
"""

from __future__ import annotations

from typing import Any, Protocol

import psycopg

from racebench.core.model import Scenario, ScheduleIsolation
from racebench.postgres.snapshot import Snapshot

#: The tenants that a schema serves before it is created again: scenarios create accounts for this many.
_MOST_TENANTS = 2_000


class Isolation(Protocol):
    """Keeps a schedule apart from the schedules before it.

    `whole_tables`: every row of the tables, of any tenant, is from the setup or from the current schedule.
    """

    whole_tables: bool

    def renew(self) -> bool:
        """Prepare for the next schedule; False if the world must be made again first. Raises DatabaseProblem."""


class FreshTenants:
    """Each schedule has a new tenant, so nothing is restored, and rows and index entries of others do not matter."""

    whole_tables = False

    def __init__(self, most: int) -> None:
        self._left = most

    def renew(self) -> bool:
        self._left -= 1
        return self._left >= 0


class RestoredTables:
    """The tables and sequences are restored before each schedule, for code that has no tenants."""

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
