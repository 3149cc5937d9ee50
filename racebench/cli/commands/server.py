"""`racebench server`: where the embedded PostgreSQL lives, a fresh start for it, and a user's server cleaned."""

from __future__ import annotations

import click

from racebench.cli.base_command import Command, Group, option
from racebench.cli.help_page import Example
from racebench.cli.streams import say


@click.group(cls=Group)
def server() -> None:
    """Manage the embedded PostgreSQL server, and clean your own."""


@server.command("path", cls=Command)
@option(
    "--server",
    "version",
    type=click.Choice(["18", "16"]),
    default="18",
    show_default=True,
    help="PostgreSQL version of the embedded server.",
)
def server_path(version: str) -> None:
    """Print the folder of the embedded server."""
    from racebench.postgres import embedded

    say(embedded.server_folder(int(version)))


@server.command("reset", cls=Command)
@option(
    "--server",
    "version",
    type=click.Choice(["18", "16", "all"]),
    default="all",
    show_default=True,
    help="PostgreSQL version of the embedded server.",
)
def server_reset(version: str) -> None:
    """Delete the data of the embedded server; the next command creates it again."""
    from racebench.postgres import embedded

    versions = embedded.VERSIONS if version == "all" else (int(version),)
    deleted = [path for number in versions for path in embedded.reset(number)]
    for path in deleted:
        say(f"deleted {path}")
    if not deleted:
        say("nothing to delete")


_EXAMPLES = (
    Example(
        "Your own server, after a command was killed", "racebench server clean --dsn postgresql://app@db.example/app"
    ),
)


@server.command("clean", cls=Command, examples=_EXAMPLES)
@option(
    "--dsn",
    envvar="RACEBENCH_DSN",
    show_envvar=True,
    metavar="DSN",
    help="Connection string of your own server. Without it only this machine is cleaned.",
)
def server_clean(dsn: str | None) -> None:
    """Drop what killed commands left: schemas, publications, temporary folders.

    On this machine also the data of embedded servers. What a running command
    uses, and what was kept by --keep, stays.
    """
    from racebench.cli.cleaning import clean

    lines = clean(dsn)
    for line in lines:
        say(line)
    if not lines:
        say("nothing to drop")
