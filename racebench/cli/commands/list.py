"""`racebench list`: scenarios with their strategies and consumers."""

from __future__ import annotations

import click

from racebench.cli import completion
from racebench.cli.base_command import Command
from racebench.cli.help_page import Example

_EXAMPLES = (Example("The strategies of one scenario", "racebench list oversell"),)


@click.command("list", cls=Command, examples=_EXAMPLES)
@click.argument("only", metavar="[SCENARIO]", required=False, shell_complete=completion.scenarios)
def list_(only: str | None) -> None:
    """List scenarios with their strategies and consumers."""
    from racebench.cli.console import console
    from racebench.reports.terminal import listing
    from racebench.workloads import catalog

    scenarios = [catalog.find_scenario(only, parsed=False)] if only else catalog.listed()
    listing.show_scenarios(console(), scenarios)
