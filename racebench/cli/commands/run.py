"""`racebench run`: strategies under load, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from racebench.cli import options
from racebench.cli.base_command import Command
from racebench.cli.help_page import Example

if TYPE_CHECKING:
    from racebench.cli.option_groups import (
        GateOptions,
        LoadOptions,
        MachineOptions,
        OutputOptions,
        SubjectOptions,
        TargetOptions,
    )


_EXAMPLES = (
    Example("See the race: eight workers read the same maximum", "racebench run -s naive"),
    Example("See what a sequence does to a consumer that polls", "racebench run -s sequence --hold 5"),
    Example(
        "Your own SQL or Python, unchanged; the invariant selects the rows that break a rule",
        "racebench run ./insert.sql --setup schema.sql --invariant 'SELECT n FROM t GROUP BY n HAVING count(*) > 1'",
    ),
    Example(
        "Requests to a service of your own, in any language",
        "racebench run --serve 'uvicorn shop:app --port {port}' --http 'POST /orders' --setup schema.sql",
    ),
    Example("Fail in CI if a race is found", "racebench run -s correct --fail-on any --report junit=races.xml"),
)


@click.command(cls=Command, examples=_EXAMPLES)
@options.subject(consumers="cursor, else the scenario's first")
@options.load()
@options.target(keep=True, pooler=True, standby=True)
@options.machines(workers=True)
@options.output(history="of runs with a forbidden anomaly", live=options.LIVE_RUNS)
@options.verbose()
@options.gates(threshold=True)
def run(
    subject: SubjectOptions,
    load: LoadOptions,
    target: TargetOptions,
    machines: MachineOptions,
    output: OutputOptions,
    gates: GateOptions,
    verbose: bool,
) -> int:
    """Run strategies under load and count the anomalies.

    SCENARIO is the name of a shipped scenario (see `racebench list`), a folder,
    or your own file of SQL (insert.sql). The default is version-counter. The
    server is an embedded PostgreSQL, unless --dsn or RACEBENCH_DSN names another.
    """
    from racebench.cli.early import begun

    with begun(subject, target, load, machines) as early:
        from racebench.cli import measuring, requests
        from racebench.cli.console import console
        from racebench.cli.files import check_reports
        from racebench.reports.terminal import run_table

        request = requests.measurement(subject, load, target, output, gates, machines=machines)
        check_reports(output)
        document = measuring.measure(
            request, output, lambda document: run_table.show(console(), document, verbose=verbose), early
        )
        return measuring.exit_code_of(request, document)
