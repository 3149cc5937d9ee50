"""`racebench init`: files for a project that uses racebench."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from racebench.cli import options
from racebench.cli.base_command import Command, Group, option
from racebench.cli.help_page import Example
from racebench.cli.streams import say

if TYPE_CHECKING:
    from racebench.cli.option_groups import SubjectOptions


@click.group(cls=Group)
def init() -> None:
    """Write files for a project that uses racebench."""


_EXAMPLES = (
    Example(
        "Look for races in your own code in every build",
        "racebench init ci --github --call orders:create_order --setup schema.sql --invariant 'SELECT …'",
    ),
)


@init.command("ci", cls=Command, examples=_EXAMPLES)
@options.subject(strategies="correct", calls="sessions take turns with them")
@option("--github", is_flag=True, default=None, help="Write the workflow of GitHub Actions.  [default: both]")
@option("--gitlab", is_flag=True, default=None, help="Write the pipeline of GitLab CI.  [default: both]")
@option("--force", is_flag=True, help="Overwrite files that exist.")
def init_ci(subject: SubjectOptions, github: bool | None, gitlab: bool | None, force: bool) -> None:
    """Write CI workflow files that look for races in strategies.

    The workflows run `racebench explore` and `racebench run` on the embedded
    server, and fail if an anomaly is found. SCENARIO is as for `racebench run`.
    See docs/ci.md.
    """
    from pathlib import Path

    from racebench.cli import workflows

    if github or gitlab:  # only what is asked for; without either, everything that is not turned off
        github, gitlab = bool(github), bool(gitlab)
    files = workflows.write(Path.cwd(), subject, github=github is not False, gitlab=gitlab is not False, force=force)
    for file in files:
        say(f"wrote {file.path}")
        if file.next_move is not None:
            say(file.next_move)
