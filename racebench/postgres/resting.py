"""Connections that rest in a process between its runs: an application's pool does not connect for each request either.

A connection is used again only where it was opened with the same arguments, and after DISCARD ALL, which leaves nothing
of a run in its session: no setting, prepared statement, temporary table, advisory lock or number of a sequence. Its
backend keeps what it has read of the catalogs, so that a later run begins warmer, as a run does behind `--warmup`. What
strategies differ in, their isolation level, is set by a statement, so that the runs of all begin equally warm. Only
strategies and consumers of a scenario rest: the user's own code may leave behind what DISCARD ALL does not remove, such
as a library that was loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import pq

from racebench.core.target import Target
from racebench.postgres.connection import connect, settle

_Opened = tuple[Mapping[str, str], Mapping[str, str], str, str]


class Resting:
    """The connections of one process, each with the arguments that it was opened with."""

    def __init__(self) -> None:
        self._resting: list[tuple[_Opened, psycopg.Connection[Any]]] = []

    def connect(
        self,
        target: Target,
        *,
        schema: str,
        application_name: str,
        settings: Mapping[str, str],
        rests: bool,
    ) -> psycopg.Connection[Any]:
        """A connection that rests, or a new one; those that were opened with other arguments are closed.

        `rests`: it is to rest again. Then its settings are not those that it begins with, to which RESET returns.
        The server may have ended one that rests. Raises DatabaseProblem as `connect`; ConnectionLost.
        """
        wanted = (target.parameters, target.settings, schema, application_name)
        while self._resting:
            opened, connection = self._resting.pop()
            if opened == wanted and not connection.closed:
                break
            connection.close()
        else:
            if not rests:
                return connect(target, schema=schema, application_name=application_name, settings=settings)
            connection = connect(target, schema=schema, application_name=application_name)
        try:
            settle(connection, target, None, settings)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close those that rest."""
        while self._resting:
            self._resting.pop()[1].close()

    def rest(self, connection: psycopg.Connection[Any], target: Target, *, schema: str, application_name: str) -> None:
        """Have a connection rest that was opened with these arguments; it is closed unless DISCARD ALL succeeds.

        The server refuses that in a transaction.
        """
        try:
            done = connection.pgconn.exec_(b"DISCARD ALL").status == pq.ExecStatus.COMMAND_OK
        except psycopg.Error:
            done = False
        if done:
            wanted = (target.parameters, target.settings, schema, application_name)
            self._resting.append((wanted, connection))
        else:
            connection.close()
