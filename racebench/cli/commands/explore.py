"""`racebench explore`: every schedule of a few sessions, or a spec file of isolationtester."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from racebench.cli import completion, options
from racebench.cli.base_command import Command, option
from racebench.cli.help_page import Example, Section
from racebench.core.errors import ExitCode, UsageProblem
from racebench.reports import formats

if TYPE_CHECKING:
    from racebench.cli.option_groups import (
        ExplorationOptions,
        GateOptions,
        MachineOptions,
        OracleOptions,
        OutputOptions,
        PoolerOptions,
        SubjectOptions,
        TargetOptions,
    )

#: The parameters that have a meaning for a spec file.
_OF_SPECS = ("scenario", "diff", "server", "dsn", "superuser", "give_up_after", "color", "progress")


_EXAMPLES = (
    Example("Prove that a strategy has a race, and see the shortest schedule with it", "racebench explore -s naive"),
    Example("Prove that it has none for three sessions", "racebench explore -s advisory --sessions 3"),
    Example(
        "Your own function, unchanged",
        "racebench explore --call orders:create_order --setup schema.sql",
    ),
    Example(
        "A program in any language, a process for each session",
        "racebench explore --exec 'node create_order.js' --setup schema.sql",
    ),
    Example(
        "Requests to a service",
        "racebench explore --serve 'uvicorn shop:app --port {port}' --http 'POST /orders' --setup schema.sql",
    ),
    Example(
        "A search of minutes, divided among this machine and those of a Dask scheduler",
        "racebench explore -s unique-retry --sessions 4 --scheduler tcp://10.0.0.5:8786",
    ),
    Example("A spec file of isolationtester", "racebench explore mine.spec"),
)


@click.command(cls=Command, examples=_EXAMPLES)
@options.subject(calls="sessions take turns with them")
@options.exploration()
@options.simulated_pooler()
@options.oracle()
@options.machines()
@options.target()
@options.output(
    report_formats=formats.OF_EXPLORATIONS, markdown=True, live="the schedules run and those that are wrong"
)
@options.gates()
@option(
    "--diff",
    section=Section.CI,
    metavar="PATH",
    shell_complete=completion.files,
    old=("--expected",),
    help="With a spec file: compare its output with this file, and exit with code 3 if they differ.",
)
def explore(
    subject: SubjectOptions,
    exploration: ExplorationOptions,
    simulated: PoolerOptions,
    oracle: OracleOptions,
    machines: MachineOptions,
    target: TargetOptions,
    output: OutputOptions,
    gates: GateOptions,
    diff: str | None,
) -> int:
    """Run every interleaving of the steps of a few sessions.

    The result is proof that a strategy has a race, or that it has none for
    these sessions. SCENARIO is the name of a shipped scenario (see `racebench
    list`), a folder, or your own file of SQL (insert.sql). The default is
    version-counter. A spec file of PostgreSQL's isolationtester (FILE.spec) is
    run as isolationtester runs it.
    """
    if str(subject.scenario or "").endswith(".spec"):
        return _run_spec(str(subject.scenario), target, diff)
    if diff is not None:
        raise UsageProblem("--diff needs a spec file, for example racebench explore mine.spec --diff mine.out")
    from racebench.cli import early

    with early.server(target) as begun:  # while it starts, what it is needed for is imported
        from racebench.cli import exploring
        from racebench.cli.files import check_optional_file, check_reports

        request = exploring.request_of(subject, exploration, oracle, target, output, gates, simulated, machines)
        check_optional_file("--markdown", output.markdown)
        check_reports(output)
        return exploring.explore(request, output, begun)


def _run_spec(path: str, target: TargetOptions, diff: str | None) -> int:
    """Run a spec file and print what isolationtester prints, or the difference to what is expected."""
    import difflib

    from racebench.cli import replaying
    from racebench.cli.streams import say, say_source
    from racebench.core.signals import interruptible
    from racebench.workloads.text_file import read_text

    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if getattr(parameter, "hidden", False) or parameter.name in _OF_SPECS:
            continue
        if source is click.core.ParameterSource.COMMANDLINE:
            raise UsageProblem(f"{max(parameter.opts, key=len)} has no meaning for a spec file; leave it out")
    expected = None if diff is None else read_text(Path(diff), "name a file of isolationtester's output")
    lines: list[str] = []

    def show(text: str) -> None:
        if expected is None:
            say_source(text)
        else:
            lines.append(text)

    def warn(text: str) -> None:
        # pg_isolation_regress writes isolationtester's stdout and stderr to one file, so an expected output has both.
        if expected is None:
            say(text, err=True)
        else:
            lines.append(f"{text}\n")

    with interruptible():
        replaying.run_spec(path, target, say=show, warn=warn)
    if expected is None:
        return ExitCode.OK
    actual = "".join(lines)
    difference = difflib.unified_diff(expected.splitlines(True), actual.splitlines(True), str(diff), path)
    say_source("".join(difference))
    return ExitCode.OK if actual == expected else ExitCode.ANOMALY
