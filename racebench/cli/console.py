"""The consoles that commands print to, and what else reaches the terminal: progress, reports, the job's summary."""

from __future__ import annotations

import contextlib
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from racebench.cli import base_command
from racebench.cli.streams import say
from racebench.reports import formats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from racebench.cli.values import ReportFile
    from racebench.reports.results.document import Document
    from racebench.reports.results.explorations import Explorations
    from racebench.reports.terminal.progress import Progress


def console(*, stderr: bool = False) -> Console:
    """A console for stdout or stderr, in color as --color says."""
    from racebench.reports.terminal.plain_console import UNLIMITED, PlainConsole

    stream = sys.stderr if stderr else sys.stdout
    # A pipe has no width unless the caller sets one; rich would take 80.
    width = None if stream.isatty() or os.environ.get("COLUMNS") else UNLIMITED
    make = partial(PlainConsole, stderr=stderr, width=width)
    if not base_command.uses_color(stderr=stderr):
        return make(color_system=None, force_terminal=stream.isatty())
    colored = make(force_terminal=True, no_color=False)
    if colored.color_system is None:  # a dumb terminal, and --color always
        colored = make(force_terminal=True, no_color=False, color_system="standard")
    return colored


def shown_progress() -> contextlib.AbstractContextManager[Progress]:
    """Show progress on stderr, unless --progress never."""
    from racebench.reports.terminal import progress

    return progress.shown(console(stderr=True) if base_command.shows_progress() else None)


def application_prints_to_stderr() -> contextlib.AbstractContextManager[Any]:
    """Send what the user's code prints to stderr: stdout is for the report, or for the JSON alone."""
    return contextlib.redirect_stdout(sys.stderr)


def publish(document: Document | Explorations, reports: Sequence[ReportFile]) -> None:
    """Write what --report asks for, and GitHub's job summary where there is one. A failed summary is only a warning."""
    from racebench.reports.results.document import Document, in_folder

    for report in reports:
        if report.path is None:
            say(formats.text(report.format, document), end="")
        elif isinstance(document, Document):
            formats.write(report.format, in_folder(document, report.path.parent), report.path)
        else:
            formats.write(report.format, document, report.path)
    if not os.environ.get("GITHUB_STEP_SUMMARY"):
        return
    from racebench.reports.formats import job_summary

    if (warning := job_summary.append(document)) is not None:
        say(f"racebench: warning: {warning}", err=True)
