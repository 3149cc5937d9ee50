"""`racebench matrix`: every strategy with every consumer, each pair in a run of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from racebench.cli import options
from racebench.cli.base_command import Command
from racebench.cli.help_page import Example

if TYPE_CHECKING:
    from racebench.cli.option_groups import LoadOptions, MachineOptions, OutputOptions, SubjectOptions, TargetOptions


_EXAMPLES = (
    Example(
        "Every strategy with every consumer, where some transactions last",
        "racebench matrix --hold 1 --long 2:150 --duration 1",
    ),
    Example(
        "Two strategies with two consumers, as Markdown",
        "racebench matrix -s sequence -s advisory --consumer cursor --consumer horizon --markdown -",
    ),
)


@click.command(cls=Command, examples=_EXAMPLES)
@options.subject(consumers="all", calls=None)
@options.load()
@options.machines()
@options.target(keep=True, pooler=True, standby=True)
@options.output(history="no histories", markdown=True, live=options.LIVE_RUNS)
def matrix(
    subject: SubjectOptions, load: LoadOptions, machines: MachineOptions, target: TargetOptions, output: OutputOptions
) -> int:
    """Run every strategy with every consumer, and print a matrix.

    Each pair has a run of its own. Every strategy also runs without a consumer,
    so that the matrix shows the throughput that a consumer costs. The
    machines of a Dask scheduler can share the strategies; each of them measures
    on an embedded server of its own. SCENARIO is as for `racebench run`.
    """
    from racebench.cli.early import begun

    with begun(subject, target, load) as early:
        from pathlib import Path

        from racebench.cli import measuring, requests
        from racebench.cli.console import console
        from racebench.cli.files import check_optional_file, check_reports
        from racebench.cli.machines import rows_on
        from racebench.cli.option_groups import GateOptions
        from racebench.load.campaign import Pairing
        from racebench.reports import formats
        from racebench.reports.terminal import matrix_table

        subject = replace(subject, consumers=subject.consumers or ("all",))
        scheduler = rows_on(machines, target, output)
        request = requests.measurement(subject, load, target, output, GateOptions(), pairing=Pairing.EACH_ALONE)
        request = replace(request, rows_on=scheduler)
        check_optional_file("--markdown", output.markdown)
        check_reports(output)

        document = measuring.measure(request, output, lambda document: matrix_table.show(console(), document), early)
        if output.markdown not in (None, "-"):
            formats.write("markdown", document, Path(str(output.markdown)))
        return measuring.exit_code_of(request, document)
