"""What every command of the command line has: settings, --color, a way to turn a flag off, and suggestions."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import click

from racebench.cli import settings
from racebench.core.errors import RacebenchError, UsageProblem, suggest

_COLOUR = "racebench.colour"


class Command(click.Command):
    """A command whose options can be set in a file or the environment (racebench.cli.settings)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for parameter in self.params:
            if isinstance(parameter, click.Option):
                _make_refutable(parameter)
        self.params.append(_colour_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line, then fill in what is set elsewhere. --help has done its work before."""
        if ctx.resilient_parsing:
            return self._parse_for_completion(ctx, args)
        rest = super().parse_args(ctx, args)
        held = settings.read(ctx.find_root().command)
        settings.fill(ctx, held)
        for variable in held.unknown_variables:
            click.echo(f"racebench: warning: {variable}", err=True)
        return rest

    def _parse_for_completion(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what a shell has of the line: trouble with settings is not for now."""
        # An option that still waits for its value would end the parsing, and with it go the arguments.
        rest = super().parse_args(ctx, args[:-1] if args and args[-1].startswith("-") else args)
        with contextlib.suppress(RacebenchError):
            settings.fill(ctx, settings.read(ctx.find_root().command))
        return rest


class Group(click.Group):
    """A group of such commands, that suggests the command that was probably meant."""

    command_class = Command
    group_class = type  # a group below is of the same class

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise UsageProblem(f"command '{args[0]}' not found{suggest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def _make_refutable(option: click.Option) -> None:
    """Give a flag its opposite, so that the command line can say no to a setting that says yes."""
    if not option.is_flag or option.secondary_opts or not option.is_bool_flag or option.is_eager:
        return
    name = max(option.opts, key=len).removeprefix("--")
    option.secondary_opts.append(f"--{name.removeprefix('no-')}" if name.startswith("no-") else f"--no-{name}")


def _colour_option() -> click.Option:
    return click.Option(
        ["--color"],
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        expose_value=False,
        callback=_note_colour,
        help="Colours; auto: on a terminal, and as NO_COLOR and FORCE_COLOR say.",
    )


def _note_colour(context: click.Context, _option: click.Parameter, value: str) -> str:
    context.meta[_COLOUR] = value
    return value


def coloured(*, stderr: bool = False) -> bool:
    """Whether what the running command prints has colours: as --color says, else NO_COLOR, FORCE_COLOR, a terminal."""
    context = click.get_current_context(silent=True)
    said = context.meta.get(_COLOUR, "auto") if context is not None else "auto"
    if said != "auto":
        return bool(said == "always")
    if os.environ.get("NO_COLOR"):
        return False
    if (force := os.environ.get("FORCE_COLOR")) is not None and force not in ("", "0"):
        return True
    stream = sys.stderr if stderr else sys.stdout
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
