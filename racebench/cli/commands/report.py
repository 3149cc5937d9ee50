"""`racebench report`: saved results, written again in any format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from racebench.cli import completion
from racebench.cli.base_command import Command
from racebench.cli.options import RENAMED_FORMATS
from racebench.cli.values import Format
from racebench.core.errors import UsageProblem
from racebench.reports import formats

_PAGES = ("html", "timeline")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A format, the file to write it to ("-" and None are stdout), and the option that named the file."""

    format: str
    path: str | None
    option: str


@click.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completion.files)
@click.option(
    "--format",
    "format_",
    type=Format([*formats.FORMATS, *_PAGES], RENAMED_FORMATS),
    help="Format to write. svg is a picture of the table, timeline a picture of one race.  [default: table]",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    shell_complete=completion.files,
    help="File to write.  [default: stdout]",
)
@click.option("--html", metavar="PATH", help="Write a self-contained page: short for --format html -o PATH.")
@click.option("--svg", metavar="PATH", help="Write the timeline: short for --format timeline -o PATH.")
@click.option("--title", default="racebench run", show_default=True, help="Title of the picture of the table.")
def report(
    files: tuple[str, ...], format_: str | None, output: str | None, html: str | None, svg: str | None, title: str
) -> None:
    """Write saved results again, in any format.

    FILE is a result that `racebench run`, `compare`, `matrix` or `explore`
    saved. Several are put side by side. Some formats are for runs only, and
    not for explorations.
    """
    from racebench.cli.console import console
    from racebench.cli.files import check_optional_file
    from racebench.reports.results.document import Document, write_atomically
    from racebench.reports.terminal import matrix_table

    short = [
        _Wanted(format=name, path=path, option=option)
        for name, path, option in (("html", html, "--html"), ("timeline", svg, "--svg"))
        if path
    ]
    if short and (format_ is not None or output is not None):
        raise UsageProblem("--html and --svg say what to write and where; leave out --format and --output")
    wanted = short or [_Wanted(format=format_ or "table", path=output, option="--output")]
    for one in wanted:
        check_optional_file(one.option, one.path)
    paths = [Path(name) for name in files]
    if wanted[0].format in _PAGES:
        texts = _pages(wanted, paths)
    else:
        saved = formats.read(paths)
        name = wanted[0].format
        if name == "table" and output is None and len(saved) == 1:
            formats.show(console(), saved[0])
            return
        if name == "matrix" and output is None and len(saved) == 1 and isinstance(saved[0], Document):
            matrix_table.show(console(), saved[0])
            return
        texts = [formats.render(name, saved, title=title)]
    for one, text in zip(wanted, texts, strict=True):
        if one.path in (None, "-"):
            click.echo(text, nl=False)
        else:
            write_atomically(Path(str(one.path)), text)


def _pages(wanted: Sequence[_Wanted], paths: Sequence[Path]) -> list[str]:
    """Result files as a page, as a timeline, or both."""
    from racebench.reports import page
    from racebench.reports.results import sources

    results = [sources.read(path) for path in paths]
    return [page.render(results) if one.format == "html" else page.picture(results) for one in wanted]
