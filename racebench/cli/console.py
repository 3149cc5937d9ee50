"""The consoles that commands print to, and what else reaches the terminal: progress, reports, the job's summary."""

from __future__ import annotations

import contextlib
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from racebench.cli import base_command
from racebench.cli.streams import say, say_workflow_command
from racebench.reports import formats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from racebench.cli.exit_codes import Gates
    from racebench.cli.values import ReportFile
    from racebench.core.errors import ExitCode
    from racebench.reports.results.document import Document
    from racebench.reports.results.explorations import Explorations
    from racebench.reports.terminal.progress import Progress, View


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


def shown_progress(view: View | None = None) -> contextlib.AbstractContextManager[Progress]:
    """Show progress on stderr, unless --progress never; with what `view` shows."""
    from racebench.reports.terminal import progress

    return progress.shown(console(stderr=True) if base_command.shows_progress() else None, view)


def shows_live() -> bool:
    """Whether stderr is a terminal on which a live view can be drawn, and --progress lets it."""
    from racebench.reports.terminal import progress

    if not base_command.shows_progress():
        return False
    target = console(stderr=True)
    return progress.can_draw(target) and not target.is_dumb_terminal


def application_prints_to_stderr() -> contextlib.AbstractContextManager[Any]:
    """Send what the user's code prints to stderr: stdout is for the report, or for the JSON alone."""
    return contextlib.redirect_stdout(sys.stderr)


def publish(
    document: Document | Explorations, reports: Sequence[ReportFile], gates: Gates, code: ExitCode | None
) -> None:
    """Write what --report asks for, and GitHub's job summary and annotations in a step of a workflow.

    A failed summary is only a warning. `code`: the exit code of the command, None if it was interrupted.
    """
    from racebench.reports.results.document import Document, in_folder

    for report in reports:
        if report.path is None:
            say(formats.text(report.format, document, exit_code=code), end="")
        elif isinstance(document, Document):
            whole = in_folder(document, report.path.parent)
            formats.write(report.format, whole, report.path, exit_code=code)
        else:
            formats.write(report.format, document, report.path, exit_code=code)
    _annotate(document, gates)
    if not os.environ.get("GITHUB_STEP_SUMMARY"):
        return
    from racebench.reports.formats import job_summary

    if (warning := job_summary.append(document)) is not None:
        say(f"racebench: warning: {warning}", err=True)


def _annotate(document: Document | Explorations, gates: Gates) -> None:
    """Show races in the files that they are in, where GitHub Actions reads what is printed."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    from racebench.reports import annotations

    any_kind = gates.fail_on == ("any",) or (gates.expect_race and not gates.fail_on)
    judging = annotations.Judging(
        kinds=() if any_kind else gates.fail_on, any_kind=any_kind, race_expected=gates.expect_race
    )
    for line in annotations.most(annotations.lines([document], judging)):
        say_workflow_command(line)
