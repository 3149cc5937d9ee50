"""`racebench show`: the SQL of one strategy or consumer."""

from __future__ import annotations

import click

from racebench.cli import completion
from racebench.cli.base_command import Command, option
from racebench.cli.help_page import Example

_EXAMPLES = (Example("Read a strategy before you use it", "racebench show advisory"),)


@click.command(cls=Command, examples=_EXAMPLES)
@click.argument("name", shell_complete=completion.either)
@option(
    "--scenario",
    metavar="NAME",
    shell_complete=completion.scenarios,
    help="Scenario or folder of the strategy or consumer.  [default: version-counter]",
)
def show(name: str, scenario: str | None) -> None:
    """Show the SQL and known anomalies of a strategy or consumer.

    NAME is the name of a strategy or consumer.
    """
    from racebench.cli.console import console
    from racebench.reports.terminal import listing
    from racebench.workloads import catalog

    where = catalog.find_scenario(scenario, parsed=False)
    if name in where.consumers and name not in where.strategies:
        listing.show_consumer(console(), where, where.consumers[name])
    else:
        listing.show_strategy(console(), where, catalog.find_strategy(where, name))
