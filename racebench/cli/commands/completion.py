"""`racebench completion`: the script that makes a shell complete racebench."""

from __future__ import annotations

import click

from racebench.cli import completion as completions
from racebench.cli.base_command import Command


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(completions.SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell. See docs/settings.md."""
    click.echo(completions.script(context.find_root().command, shell))
