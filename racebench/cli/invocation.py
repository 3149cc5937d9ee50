"""The command line as the user typed it, which the documents of a command record. Passwords are masked in it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click

from racebench.core.passwords import masked


def as_typed(arguments: Sequence[str]) -> str:
    """The command line, quoted for a shell, without the passwords of connection strings."""
    return shlex.join(["racebench", *map(masked, arguments)])


def command() -> str:
    """The running command as it was typed; "" where the command line was not called as a program."""
    context = click.get_current_context(silent=True)
    return context.obj if context is not None and isinstance(context.obj, str) else ""
