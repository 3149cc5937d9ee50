"""`racebench completion`: the script that makes a shell complete racebench."""

from __future__ import annotations

import click

from racebench.cli import completion as completions
from racebench.cli.base_command import Command
from racebench.cli.help_page import Example
from racebench.cli.streams import say

_EXAMPLES = (
    Example("In ~/.bashrc, of bash 4.4 or newer", 'eval "$(racebench completion bash)"'),
    Example("In ~/.zshrc, after compinit", 'eval "$(racebench completion zsh)"'),
    Example("In ~/.config/fish/config.fish", "racebench completion fish | source"),
)


@click.command("completion", cls=Command, examples=_EXAMPLES)
@click.argument("shell", type=click.Choice(completions.SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell. See docs/settings.md."""
    say(completions.script(context.find_root().command, shell))
