"""What every command of the command line has: settings, old spellings, opposites of flags, suggestions, --color.

--progress, which some commands have, is noted in the same way. What its help looks like is in racebench.cli.help_page.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from racebench.cli import help_page, settings
from racebench.cli.help_page import Example, Section
from racebench.cli.streams import say
from racebench.cli.values import warn_once
from racebench.core import documentation
from racebench.core.errors import RacebenchError, UsageProblem, suggest

_COLOR = "racebench.color"
_PROGRESS = "racebench.progress"


class Option(click.Option):
    """An option, in a section of the help.

    `old`: names that it had in earlier versions; they still work, with a warning, and help hides them.
    """

    def __init__(
        self, *args: Any, section: Section = Section.OPTIONS, old: Sequence[str] = (), **attributes: Any
    ) -> None:
        super().__init__(*args, **attributes)
        self.section = section
        self.old = tuple(old)
        self.opposite = ""

    def add_opposite(self) -> None:
        """Give a flag its opposite, so that the command line can override a setting that turns the flag on."""
        if not self.is_flag or self.secondary_opts or not self.is_bool_flag or self.is_eager:
            return
        name = max(self.opts, key=len).removeprefix("--")
        self.opposite = f"--{name.removeprefix('no-')}" if name.startswith("no-") else f"--no-{name}"
        self.secondary_opts.append(self.opposite)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The names and the text in the help. Every flag has an opposite, and to name it would say nothing new."""
        record = super().get_help_record(ctx)
        if record is None or not self.opposite:
            return record
        return record[0].removesuffix(f" / {self.opposite}"), record[1]


def option(*names: str, **attributes: Any) -> Callable[[Any], Any]:
    """The decorator that adds an `Option` to a command."""
    return click.option(*names, cls=Option, **attributes)


class _OldSpelling(click.Option):
    """An option's old names: the value given to one is the option's."""

    def __init__(self, option: Option) -> None:
        super().__init__(
            [*option.old, f"old_{option.name}"],
            type=option.type,
            multiple=option.multiple,
            metavar=option.metavar,
            hidden=True,
            shell_complete=option.shell_complete,
        )
        self.option = option

    def hand_over(self, context: click.Context) -> None:
        """Give the option what the command line gave to the old name."""
        assert self.name is not None
        assert self.option.name is not None
        value = context.params.pop(self.name)
        if context.get_parameter_source(self.name) is not ParameterSource.COMMANDLINE:
            return
        old, new = max(self.opts, key=len), max(self.option.opts, key=len)
        warn_once(f"{old} is the old spelling of {new}; write {new}")
        if context.get_parameter_source(self.option.name) is ParameterSource.COMMANDLINE:
            if not self.option.multiple:
                raise UsageProblem(f"{old} and {new} are the same option; give it once")
            value = (*context.params[self.option.name], *value)
        context.params[self.option.name] = value
        context.set_parameter_source(self.option.name, ParameterSource.COMMANDLINE)


class Command(click.Command):
    """A command whose options can be set in a file or the environment (racebench.cli.settings).

    `examples` are the command lines at the end of its help.
    """

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        for parameter in self.params:
            if isinstance(parameter, Option):
                parameter.add_opposite()
        self.params += [_OldSpelling(option) for option in self.params if isinstance(option, Option) and option.old]
        self.params.append(_color_option())

    def get_help(self, ctx: click.Context) -> str:
        """The help, as text."""
        return documentation.with_addresses(help_page.whole(super().get_help(ctx)))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by section, then the examples."""
        sections = {
            str(parameter.name): parameter.section for parameter in self.params if isinstance(parameter, Option)
        }
        help_page.write_options(ctx, formatter, sections)
        help_page.write_examples(formatter, self.examples)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line, then fill in what is set elsewhere. --help ends the command before that."""
        if ctx.resilient_parsing:
            return self._parse_for_completion(ctx, args)
        rest = self._parse(ctx, args)
        found_settings = settings.read(ctx.find_root().command)
        settings.fill(ctx, found_settings)
        for warning in found_settings.warnings:
            warn_once(warning)
        return rest

    def _parse(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        for parameter in self.params:
            if isinstance(parameter, _OldSpelling):
                parameter.hand_over(ctx)
        return rest

    def _parse_for_completion(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the part of the line that a shell has; errors in settings yield no completions."""
        # An option that still waits for its value would end the parsing, and the arguments would be lost.
        rest = self._parse(ctx, args[:-1] if args and args[-1].startswith("-") else args)
        with contextlib.suppress(RacebenchError):
            settings.fill(ctx, settings.read(ctx.find_root().command))
        return rest


class Group(click.Group):
    """A group of such commands: without a command it prints its help, for an unknown one it suggests a known one.

    `sections` are the headings of the help, with the names of the commands below each.
    """

    command_class = Command
    group_class = type  # a group below is of the same class

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections or {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; without arguments, print the help and exit with 0."""
        if not args and not ctx.resilient_parsing:
            say(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, then the options: the commands are what the reader looks for."""
        help_page.write_commands(ctx, formatter, self.sections)
        help_page.write_options(ctx, formatter, {})

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise UsageProblem(f"command '{args[0]}' not found{suggest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def _color_option() -> click.Option:
    return Option(
        ["--color"],
        section=Section.OTHER,
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        expose_value=False,
        callback=_note,
        help="When to use colors. auto: on a terminal, and as NO_COLOR and FORCE_COLOR say.",
    )


def _note(context: click.Context, option: click.Parameter, value: str) -> str:
    """Keep the value of --color or --progress with the running command."""
    context.meta[f"racebench.{option.name}"] = value
    return value


def progress_option(*, section: Section) -> Callable[[Any], Any]:
    """--progress, which the console reads by itself."""
    return option(
        "--progress",
        section=section,
        type=click.Choice(["auto", "never"]),
        default="auto",
        show_default=True,
        expose_value=False,
        callback=_note,
        help="When to show progress on stderr. auto: a bar on a terminal, a line every 10 seconds elsewhere.",
    )


def shows_progress() -> bool:
    """Whether the running command shows progress."""
    context = click.get_current_context(silent=True)
    return context is None or context.meta.get(_PROGRESS, "auto") != "never"


def uses_color(*, stderr: bool = False) -> bool:
    """Whether the running command prints colors: as --color says, else NO_COLOR, FORCE_COLOR, a terminal."""
    context = click.get_current_context(silent=True)
    choice = context.meta.get(_COLOR, "auto") if context is not None else "auto"
    if choice != "auto":
        return bool(choice == "always")
    if os.environ.get("NO_COLOR"):
        return False
    if (force := os.environ.get("FORCE_COLOR")) is not None and force not in ("", "0"):
        return True
    stream = sys.stderr if stderr else sys.stdout
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
