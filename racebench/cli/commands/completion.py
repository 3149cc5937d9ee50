"""`racebench completion`: the script that makes a shell complete racebench."""

from __future__ import annotations

import click

from racebench.cli import completion as completions
from racebench.cli.base_command import Command
from racebench.cli.streams import say


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(completions.SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell. See docs/settings.md."""
    say(completions.script(context.find_root().command, shell))
