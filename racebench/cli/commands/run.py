"""`racebench run`: strategies under load, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from racebench.cli import options
from racebench.cli.base_command import Command

if TYPE_CHECKING:
    from racebench.cli.option_groups import GateOptions, LoadOptions, OutputOptions, SubjectOptions, TargetOptions


@click.command(cls=Command)
@options.subject(consumers="cursor, else the scenario's first")
@options.load()
@options.target(keep=True)
@options.output(history="of runs with a forbidden anomaly")
@options.gates(threshold=True)
def run(
    subject: SubjectOptions, load: LoadOptions, target: TargetOptions, output: OutputOptions, gates: GateOptions
) -> int:
    """Run strategies under load and count the anomalies.

    SCENARIO is the name of a shipped scenario (see `racebench list`), a folder,
    or your own file of SQL (insert.sql). The default is version-counter. The
    server is an embedded PostgreSQL, unless --dsn or RACEBENCH_DSN names another.
    """
    from racebench.cli import measuring, requests
    from racebench.cli.console import console
    from racebench.cli.files import check_reports
    from racebench.reports.terminal import run_table

    request = requests.measurement(subject, load, target, output, gates)
    check_reports(output)
    document = measuring.measure(request, output, lambda document: run_table.show(console(), document))
    return measuring.exit_code_of(request, document)
