"""Removes what killed commands have left: on a user's server, of embedded servers, and in temporary folders."""

from __future__ import annotations

from racebench.cli.streams import say
from racebench.core.errors import DatabaseProblem
from racebench.core.temporary import delete_abandoned
from racebench.postgres import abandoned, embedded
from racebench.postgres.connection import connect, naming_lost_connections
from racebench.postgres.external import external, reached


def clean(dsn: str | None) -> list[str]:
    """Drop what killed commands left on a user's server, of embedded servers and of temporary files; a line for each.

    Raises UsageProblem and DatabaseProblem, the latter after all else is dropped.
    """
    servers = [folder for version in embedded.VERSIONS for folder in embedded.clean(version)]
    folders = [*servers, *delete_abandoned()]
    lines = [f"deleted {folder}" for folder in folders]
    if not dsn:
        return lines
    problems = []
    target = reached(external(dsn))
    with naming_lost_connections(target), connect(target) as connection:
        for item in abandoned.find(connection):
            try:
                abandoned.drop(connection, item)
            except DatabaseProblem as problem:
                problems.append(str(problem))
            else:
                lines.append(f"dropped {item}")
    if problems:
        for line in lines:
            say(line)
        raise DatabaseProblem("; ".join(problems))
    return lines
