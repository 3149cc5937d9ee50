"""`racebench config`: the value of every option, and where it is from."""

from __future__ import annotations

import click

from racebench.cli.base_command import Command
from racebench.cli.help_page import Example

_EXAMPLES = (Example("What is set for one command", "racebench config run"),)


@click.command(cls=Command, examples=_EXAMPLES)
@click.argument("command", nargs=-1)
@click.pass_context
def config(context: click.Context, command: tuple[str, ...]) -> None:
    """Show the value of every option, and what sets it.

    COMMAND is a command, such as run or server reset; the default is all of them.
    """
    from racebench.cli import settings, settings_table
    from racebench.cli.console import console

    root = context.find_root().command
    current = settings.read(root)
    settings_table.show(console(), current, settings.effective(root, current, " ".join(command)))
