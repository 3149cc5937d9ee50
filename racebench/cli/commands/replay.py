"""`racebench replay`: one schedule, run again step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from racebench.cli import completion, options
from racebench.cli.base_command import Command, option
from racebench.cli.help_page import Example
from racebench.cli.streams import reader_may_leave, say_source

if TYPE_CHECKING:
    from racebench.cli.option_groups import GateOptions, OracleOptions, PoolerOptions, SubjectOptions, TargetOptions


_EXAMPLES = (
    Example(
        "Run a schedule that explore printed", "racebench replay 'v1:version-counter/naive:s1.s1.s2.s2.s1.s1.s2.s2'"
    ),
)


@click.command(cls=Command, examples=_EXAMPLES)
@click.argument("schedule")
@click.argument("file", required=False, metavar="[FILE.sql]", shell_complete=completion.files)
@option(
    "--scenario",
    metavar="NAME",
    shell_complete=completion.scenarios,
    help="Scenario or folder of the schedule.  [default: as the schedule says]",
)
@options.own_code()
@options.simulated_pooler()
@options.oracle()
@options.step_timeout()
@option("--minimize", is_flag=True, help="Run the shortest schedule that shows the same anomalies instead.")
@options.target()
@option(
    "--export-spec",
    metavar="PATH",
    shell_complete=completion.files,
    help="Write the schedule as a spec file for isolationtester; '-' writes only that to stdout.",
)
@options.gates()
def replay(
    schedule: str,
    file: str | None,
    subject: SubjectOptions,
    simulated: PoolerOptions,
    oracle: OracleOptions,
    step_timeout: float,
    minimize: bool,
    target: TargetOptions,
    export_spec: str | None,
    gates: GateOptions,
) -> int:
    """Run one schedule again, step by step.

    SCHEDULE is a schedule that `racebench explore` printed. FILE.sql is your
    own file of SQL, if the schedule is of one.
    """
    from pathlib import Path

    from racebench.cli import replaying
    from racebench.cli.console import application_prints_to_stderr, console
    from racebench.cli.files import check_optional_file
    from racebench.core.signals import interruptible
    from racebench.reports.results.document import write_atomically
    from racebench.reports.terminal import exploration_table

    check_optional_file("--export-spec", export_spec)
    subject = replace(subject, scenario=file or subject.scenario)
    with interruptible(), application_prints_to_stderr():
        rerun = replaying.replay(
            schedule,
            subject,
            target,
            gates,
            pooler=simulated,
            oracle=oracle,
            minimize=minimize,
            step_timeout=step_timeout,
        )
    if export_spec is not None:
        from racebench.exploration.isolationtester import export

        text = export.spec(rerun.request, rerun.result)
        if export_spec == "-":
            with reader_may_leave():
                say_source(text)
            return rerun.exit_code
        write_atomically(Path(export_spec), text)
    with reader_may_leave():
        exploration_table.show_replay(console(), rerun.result)
    return rerun.exit_code
