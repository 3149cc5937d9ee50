"""`racebench report`: saved results, written again in any format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from racebench.cli import completion, options
from racebench.cli.base_command import Command, option
from racebench.cli.help_page import Example
from racebench.cli.streams import say
from racebench.cli.values import Format
from racebench.core.errors import UsageProblem
from racebench.reports import formats

_EXAMPLES = (
    Example(
        "A page: verdicts, safety and cost, the race operation by operation",
        "racebench report results/X.json --html race.html",
    ),
    Example("Several results side by side, as Markdown", "racebench report results/*.json --format markdown"),
)


@click.command(cls=Command, examples=_EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completion.files)
@option(
    "--format",
    "format_",
    type=Format(list(formats.FORMATS), formats.RENAMED),
    metavar="FORMAT",
    help=f"Format to write: {', '.join(formats.FORMATS)}. svg is a picture of the table, timeline a picture of one "
    "race.  [default: table]",
)
@option(
    "-o",
    "--output",
    metavar="PATH",
    shell_complete=completion.files,
    help="File to write.  [default: stdout]",
)
@options.format_shortcuts()
@option("--title", default=formats.DEFAULT_TITLE, show_default=True, help="Title of the picture of the table.")
def report(
    files: tuple[str, ...], format_: str | None, output: str | None, shortcuts: Mapping[str, str], title: str
) -> None:
    """Write saved results again, in any format.

    FILE is a result that `racebench run`, `compare`, `matrix` or `explore`
    saved. Several are put side by side. Some formats are for runs only, and
    not for explorations.
    """
    from racebench.cli.console import console
    from racebench.cli.files import check_one_on_stdout, check_optional_file
    from racebench.reports.results import sources
    from racebench.reports.results.document import write_atomically

    if shortcuts and (format_ is not None or output is not None):
        raise UsageProblem("--html and --svg say what to write and where; leave out --format and --output")
    check_one_on_stdout([f"{formats.FORMATS[name].option} -" for name, path in shortcuts.items() if path == "-"])
    for name, path in shortcuts.items():
        check_optional_file(formats.FORMATS[name].option, path)
    check_optional_file("--output", output)
    saved = formats.read([Path(name) for name in files])
    if not shortcuts and output is None:
        show = formats.shown(format_ or "table", saved)
        if show is not None:
            show(console())
            return
    paths: Mapping[str, str | None] = shortcuts or {format_ or "table": output}
    if format_ == "json":
        saved = sources.for_file(saved, None if output in (None, "-") else Path(str(output)))
    texts = {name: formats.render(name, saved, title=title) for name in paths}
    for name, text in texts.items():
        place = paths[name]
        if place is None or place == "-":
            say(text, end="")
        else:
            write_atomically(Path(place), text)
