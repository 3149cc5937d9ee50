"""`racebench demo`: one schedule, shown step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from racebench.cli import completion, options
from racebench.cli.base_command import Command, option, progress_option
from racebench.cli.help_page import Example, Section
from racebench.cli.values import Number
from racebench.core.errors import ExitCode

if TYPE_CHECKING:
    from racebench.cli.option_groups import TargetOptions


_EXAMPLES = (
    Example("See two sessions read the same maximum, a key press a step", "racebench demo"),
    Example("A walkthrough, with the speaker's notes", "racebench demo slow-commit --notes"),
    Example("Write it as a page", "racebench demo late-lock -o late-lock.html"),
)


@click.command(cls=Command, examples=_EXAMPLES)
@click.argument("name", required=False, shell_complete=completion.demonstrations)
@option("--list", "list_only", is_flag=True, help="List the walkthroughs.")
@option(
    "--scenario",
    metavar="NAME",
    shell_complete=completion.scenarios,
    help="Scenario or folder of the strategy.  [default: version-counter]",
)
@option(
    "--consumer",
    metavar="NAME",
    shell_complete=completion.consumers,
    help="Consumer that polls beside the strategy, or none.  [default: cursor, where there is one]",
)
@option(
    "--fix",
    metavar="NAME",
    shell_complete=completion.strategies,
    help="Correct strategy to show afterwards in the same schedule, or none.  [default: the advised one]",
)
@option(
    "--autoplay",
    type=Number(0, 3600, whole=False, above=True),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Go to the next step after this many seconds (2 if none are given); also the pace of a recording.",
)
@option("--notes", is_flag=True, help="Show the speaker's notes too.")
@option(
    "--export",
    type=click.Choice(["svg", "html", "cast", "mermaid", "md"]),
    help="Write it in this format instead: picture, page, asciinema recording, diagram or Markdown.",
)
@option(
    "-o",
    "--output",
    metavar="PATH",
    shell_complete=completion.files,
    help="File to write; --export is not needed if its ending says the format.  [default: stdout]",
)
@progress_option(section=Section.OPTIONS)
@options.target()
def demo(
    name: str | None,
    list_only: bool,
    scenario: str | None,
    consumer: str | None,
    fix: str | None,
    autoplay: float | None,
    notes: bool,
    export: str | None,
    output: str | None,
    target: TargetOptions,
) -> int:
    """Show one interleaving step by step, live on the server.

    On a terminal, keys move from step to step; elsewhere the steps are
    printed. NAME is a walkthrough (see --list), a strategy, or a
    schedule that `racebench explore` printed. The default is naive.
    """
    from racebench.cli import demonstrating
    from racebench.cli.console import console
    from racebench.core.signals import interruptible

    if list_only:
        demonstrating.show_list(console())
        return ExitCode.OK
    demonstration = demonstrating.plan(
        name,
        scenario=scenario,
        consumer=consumer,
        fix=fix,
        autoplay=autoplay,
        notes=notes,
        export=export,
        output=output,
        target=target,
    )
    with interruptible():
        demonstrating.run(demonstration, console(), auto=autoplay is not None)
    return ExitCode.OK
