"""`racebench check`: recorded histories, checked or exported without a database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from racebench.cli import completion, options
from racebench.cli.base_command import Command, option
from racebench.cli.help_page import Example
from racebench.cli.streams import reader_may_leave, say
from racebench.cli.values import warn_once
from racebench.core.errors import ExitCode, UsageProblem

if TYPE_CHECKING:
    from racebench.cli.option_groups import GateOptions

_INTERCHANGE = ("jsonl", "edn")


_EXAMPLES = (
    Example("Check the history that a run kept", "racebench check results/X-naive.history.npz"),
    Example("Check a history from elsewhere, and fail if a row was lost", "racebench check mine.jsonl --fail-on lost"),
)


@click.command(cls=Command, examples=_EXAMPLES)
@click.argument("files", nargs=-1, metavar="FILE...", shell_complete=completion.files)
@option(
    "--format",
    "format_",
    type=click.Choice(["npz", "jsonl", "edn"]),
    help="Format of the files.  [default: by their names]",
)
@options.json_option()
@option(
    "--export",
    is_flag=False,
    flag_value="",
    metavar="FORMAT",
    help="Do not check: write the one FILE in this format, jsonl or edn.",
)
@option(
    "-o",
    "--output",
    metavar="PATH",
    shell_complete=completion.files,
    help="With --export: the file to write.  [default: stdout]",
)
@options.gates(expect=False)
def check(
    files: tuple[str, ...],
    format_: str | None,
    json_path: str | None,
    export: str | None,
    output: str | None,
    gates: GateOptions,
) -> int:
    """Check recorded histories, without a database.

    FILE is a history that `racebench run --history` kept (.npz), or one that
    was recorded elsewhere: JSON Lines (.jsonl) or Jepsen's format (.edn), of
    operations that assign numbers. See docs/history.md.
    """
    from racebench.analysis import offline
    from racebench.cli.console import console
    from racebench.cli.exit_codes import Finding, exit_code, gates_of
    from racebench.cli.files import check_optional_file
    from racebench.core.signals import interruptible
    from racebench.reports.results.document import write_atomically
    from racebench.reports.terminal import check_table

    if export is not None and export not in _INTERCHANGE:  # the old spelling, as --export FILE --format edn
        files, export, format_ = _old_export(files, export, format_)
    if not files:
        raise UsageProblem("Missing argument 'FILE...'.")
    checked_gates = gates_of(gates)
    check_optional_file("--json", json_path)
    check_optional_file("--output", output)
    if export is not None:
        if len(files) != 1:
            raise UsageProblem("--export takes one FILE")
        with interruptible():
            offline.export(
                Path(files[0]), export, None if output in (None, "-") else Path(str(output)), read_as=format_
            )
        return ExitCode.OK
    if output is not None:
        raise UsageProblem("--output is the file that --export writes; write the results with --json PATH")
    with interruptible():
        results = [offline.check_file(Path(name), format_) for name in files]
    with reader_may_leave():
        if json_path == "-":
            say(check_table.to_json(results))
        else:
            check_table.show(console(), results)
    if json_path not in (None, "-"):
        write_atomically(Path(str(json_path)), check_table.to_json(results) + "\n")
    return exit_code(
        [Finding(forbidden=result.about.forbidden, counts=result.counts, verdict=result.verdict) for result in results],
        checked_gates,
    )


def _old_export(files: tuple[str, ...], first: str, format_: str | None) -> tuple[tuple[str, ...], str, str | None]:
    """--export FILE --format FORMAT, where --export is a flag, as FILEs, the format to write and that to read."""
    if format_ not in _INTERCHANGE:
        raise UsageProblem("--export takes one FILE and a format, jsonl or edn")
    warn_once(f"--export --format {format_} is the old spelling of --export {format_}; write --export {format_}")
    return ((first, *files) if first else files), format_, None
