"""`racebench schema`: the JSON Schemas of the files that racebench reads and writes."""

from __future__ import annotations

import click

from racebench.cli.base_command import Command
from racebench.cli.help_page import Example

#: Those of racebench.cli.schemas, which is not imported for a help text.
NAMES = ("scenario", "settings", "results", "explorations", "history")

_EXAMPLES = (Example("Have an editor complete and check a scenario.toml", "racebench schema scenario"),)


@click.command(cls=Command, examples=_EXAMPLES)
@click.argument("name", type=click.Choice(NAMES))
@click.pass_context
def schema(context: click.Context, name: str) -> None:
    """Print the JSON Schema of a file that racebench reads or writes.

    NAME is scenario (scenario.toml), settings (racebench.toml), results and
    explorations (the documents in results/) or history (the meta of a history
    file). An editor checks a TOML file whose first line is `#:schema FILE`.
    """
    from racebench.cli import schemas
    from racebench.cli.streams import say

    say(schemas.text(name, context.find_root().command), end="")
