"""`racebench compare`: strategies in rounds, with intervals, baselines and thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from racebench.cli import options
from racebench.cli.base_command import Command
from racebench.cli.help_page import Example
from racebench.cli.streams import reader_may_leave, say

if TYPE_CHECKING:
    from racebench.cli.option_groups import (
        ComparisonOptions,
        GateOptions,
        LoadOptions,
        MachineOptions,
        OutputOptions,
        SubjectOptions,
        TargetOptions,
    )


_EXAMPLES = (
    Example("Compare every correct strategy with the advised one", "racebench compare"),
    Example("Compare two strategies, in more rounds", "racebench compare -s upsert -s advisory --rounds 15"),
    Example(
        "Compare two files of your own",
        "racebench compare ./insert.sql ./locked.sql --setup schema.sql --invariant 'SELECT …'",
    ),
    Example("In CI: fail if a strategy became slower", "racebench compare --baseline main --fail-slower 20%"),
)


@click.command(cls=Command, examples=_EXAMPLES)
@options.subject(
    strategies="correct",
    consumers="cursor, else the scenario's first",
    calls="each is a strategy of its own",
    files=True,
)
@options.load(seconds=1)
@options.comparison()
@options.target(pooler=True, standby=True)
@options.machines(workers=True)
@options.output(history="no histories", live=options.LIVE_RUNS)
@options.verbose()
@options.gates(expect=False, threshold=True)
def compare(
    subject: SubjectOptions,
    load: LoadOptions,
    comparison: ComparisonOptions,
    target: TargetOptions,
    machines: MachineOptions,
    output: OutputOptions,
    gates: GateOptions,
    verbose: bool,
) -> int:
    """Compare the speed of strategies with that of a reference.

    The strategies run in rounds. Each round runs every strategy once, in random
    order, for --duration. A strategy with an anomaly is never better, however
    fast it is. SCENARIO is as for `racebench run`. Of your own code, each file
    of SQL or each --call is a strategy. See docs/compare.md.
    """
    from racebench.cli.early import begun

    with begun(subject, target, load, machines) as early:
        from racebench.cli import measuring
        from racebench.cli.comparison import comparison as comparison_request
        from racebench.cli.console import console
        from racebench.cli.files import check_reports, stdout_is_taken
        from racebench.core.errors import ExitCode
        from racebench.core.signals import shielded
        from racebench.reports.results.document import in_folder, to_json, write_atomically
        from racebench.reports.terminal import run_table

        request = comparison_request(subject, load, comparison, target, output, gates, machines)
        assert request.comparison is not None
        save_to = request.comparison.save_to
        outcome = "not saved, because the comparison was not finished"
        try:
            check_reports(output)
            document = measuring.measure(
                request, output, lambda document: run_table.show(console(), document, verbose=verbose), early
            )
            with shielded():  # the baseline is saved and that is printed, or neither
                code = measuring.exit_code_of(request, document)
                if save_to is not None and code == ExitCode.OK:
                    write_atomically(
                        save_to, to_json(in_folder(document, save_to.parent), witnesses=request.witnesses) + "\n"
                    )
                    outcome = str(save_to)
                else:
                    outcome = f"not saved, because the exit code is {code:d}"
        finally:
            if save_to is not None and not stdout_is_taken(output):
                with reader_may_leave():
                    say(f"baseline: {outcome}")
        return code
