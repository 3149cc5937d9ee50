"""Shared by the tables of isolation levels: the levels, the servers, and cells that are the same on every server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from psycopg.conninfo import make_conninfo

from benchmarks.measurement import output_option
from racebench.core.target import Target
from racebench.postgres import environment
from racebench.postgres.embedded import EmbeddedServer
from racebench.postgres.external import external

_Command = TypeVar("_Command", bound=Callable[..., Any])
LEVELS = ("read committed", "repeatable read", "serializable")
_CONNECTIONS = 20


@contextmanager
def running(server: str, settings: Mapping[str, str]) -> Iterator[tuple[Target, Mapping[str, Any]]]:
    """A server and its description: an embedded one, by its major version, or that of a DSN; with these settings."""
    if server.isdecimal():
        with EmbeddedServer(version=int(server), connections=_CONNECTIONS, settings=settings) as target:
            yield target, environment.describe(target)
    else:
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        target = external(make_conninfo(server, **({"options": options} if options else {})))
        yield target, environment.describe(target)


def united(
    versions: Sequence[str], cells: Sequence[Mapping[str, Any]], show: Callable[[Mapping[str, Any]], str]
) -> str:
    """The text of the cells of several servers: once if all have the same, else with the version of each."""
    texts = {cell["server"]: show(cell) for cell in cells}
    if not texts:
        return "–"
    if len({*texts.values()}) == 1 and len(texts) == len(versions):
        return next(iter(texts.values()))
    return "; ".join(f"{short(version)}: {texts[version]}" for version in versions if version in texts)


def spent(versions: Sequence[str], cells: Sequence[Mapping[str, Any]]) -> str:
    """The number of schedules, and the seconds of each server."""
    seconds = (
        f"{sum(cell['seconds'] for cell in cells if cell['server'] == version):.0f} s on {short(version)}"
        for version in versions
    )
    return f"{sum(cell['schedules'] for cell in cells):,} schedules: {', '.join(seconds)}."


def short(version: str) -> str:
    """A server's version without the name of a distribution."""
    return version.partition(" ")[0]


def servers_and_output(name: str) -> Callable[[_Command], _Command]:
    """The options of a table: the servers, and the file, by default the reference file."""

    def decorate(command: _Command) -> _Command:
        command = output_option(name)(command)
        return click.option(
            "--server",
            "servers",
            multiple=True,
            default=("18", "16"),
            show_default=True,
            help="An embedded server by its major version, or the DSN of another; may be repeated.",
        )(command)

    return decorate
