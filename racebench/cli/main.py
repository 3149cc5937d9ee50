"""The command line: each command parses, plans, runs, renders and chooses an exit code.

Nothing heavy is imported until a command needs it: `racebench --help` is what people wait for most often.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from racebench import __version__
from racebench.cli import base_command, completion, options
from racebench.core.errors import ExitCode, Interrupted, RacebenchError, UsageProblem, one_line
from racebench.core.signals import handled
from racebench.reports import formats

if TYPE_CHECKING:
    from rich.console import Console

    from racebench.cli.planning import Plan
    from racebench.reports.results.document import Document
    from racebench.reports.results.explorations import Explorations


def main() -> NoReturn:
    """Run the command line and exit; every failure is one line on stderr and a documented exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without our characters still gets the rest
    # numpy's linear algebra is not used here; a pool of its threads in every process would only cost time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(_main(sys.argv[1:]))


def _main(arguments: list[str]) -> int:
    try:
        with handled():
            code = cli.main(args=arguments, prog_name="racebench", standalone_mode=False)
            sys.stdout.flush()
            return int(code or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as problem:
        return _say(one_line(problem.format_message()), code=ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt, Interrupted) as problem:
        left = getattr(problem, "__notes__", ())
        return _say(
            "interrupted; no server, worker or schema is left" if not left else "interrupted",
            *left,
            code=ExitCode.INTERRUPTED,
        )
    except RacebenchError as problem:
        return _say(str(problem), *getattr(problem, "__notes__", ()), code=problem.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; let the exit be quiet
        return ExitCode.OK
    except MemoryError:
        return _say("out of memory; give the process more, or ask less of it at once", code=ExitCode.INTERNAL)
    except OSError as problem:
        place = f" {problem.filename}" if problem.filename else ""
        return _say(f"the machine failed:{place} {problem.strerror or problem}", code=ExitCode.INTERNAL)


def _say(*messages: str, code: ExitCode) -> int:
    """Print the one line a failure gets, and one more if it left something on the user's server."""
    with contextlib.suppress(OSError):  # a terminal that was closed has nobody to read it
        for message in messages:
            print(f"racebench: {message}", file=sys.stderr)  # noqa: T201 - the one place that does
    return int(code)


@click.group(cls=base_command.Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="racebench")
def cli() -> None:
    """Reproduce and measure the races that happen when applications number rows.

    Start with:  racebench run --strategy naive --workers 8
    """


@cli.command()
@options.of_load
@options.of_own
@options.of_target
@options.of_results
@options.of_thresholds
@options.of_reports
@click.option("--fail-on", metavar="KINDS", help="Exit 3 if one of these is found: duplicates,missed,… or 'any'.")
@click.option("--expect", type=click.Choice(["race"]), help="Exit 3 if no anomaly is found: the other way round.")
def run(reports: tuple[options.ReportFile, ...], **given: Any) -> int:
    """Hammer a table with one or more strategies and count what breaks.

    SCENARIO is a shipped one (see `racebench list`), a folder, or a file of SQL of your own (insert.sql); without it,
    version-counter. The server is an embedded PostgreSQL unless --dsn or RACEBENCH_DSN names another.
    """
    from racebench.cli import planning
    from racebench.reports.terminal import run_table

    plan = planning.plan(**given)
    _execute(plan, lambda: run_table.show(_console(), plan.document()), reports)
    return planning.exit_code(plan)


@cli.command()
@options.of_load
@click.argument("others", nargs=-1, metavar="[FILE.sql]...", shell_complete=completion.files)
@options.of_own
@options.of_comparison
@options.of_thresholds
@options.of_server
@options.of_results
@options.of_reports
@click.option("--fail-on", metavar="KINDS", help="Exit 3 if one of these is found: duplicates,missed,… or 'any'.")
def compare(reports: tuple[options.ReportFile, ...], **given: Any) -> int:
    """Run strategies in rounds, in random order, and say which are better, worse or the same.

    Each round runs every strategy once, for a second unless --duration says otherwise. Without --strategy: the correct
    ones. A strategy with an anomaly is never better, however fast. Of your own code each file of SQL, or each --call,
    is one strategy. See docs/compare.md.
    """
    from racebench.cli import comparing
    from racebench.core.signals import shielded
    from racebench.reports.terminal import run_table

    made = comparing.plan(**given)
    said = "not saved, for this was not finished"
    try:
        _execute(made.plan, lambda: run_table.show(_console(), made.plan.document()), reports)
        with shielded():  # the baseline is saved, and says so, or is not
            code = comparing.finish(made)
            said = (
                str(made.saved_baseline) if made.saved_baseline else f"not saved, for this ends with exit code {code}"
            )
    finally:
        if made.save_to is not None and made.plan.json_path != "-":
            click.echo(f"baseline: {said}")
    return code


@cli.command()
@options.of_load
@options.of_target
@options.of_results
@options.of_reports
@click.option("--markdown", metavar="PATH", help="Write the grid as Markdown; '-' for stdout, alone.")
def matrix(markdown: str | None, reports: tuple[options.ReportFile, ...], **given: Any) -> int:
    """Run strategies × consumers, each pair alone, and print the grid.

    Every strategy is run without a consumer too, so that a pair's throughput says what the consumer costs its writers.
    Without --consumer, all of them.
    """
    from pathlib import Path

    from racebench.cli import planning
    from racebench.reports.results import document
    from racebench.reports.terminal import matrix_table

    given["consumers"] = given["consumers"] or ("all",)
    plan = planning.plan(**given, fail_on=None, expect=None, each_alone=True)
    if markdown not in (None, "-"):
        planning.check_file("--markdown", Path(str(markdown)))
    if markdown == "-":
        _execute(plan, lambda: click.echo(matrix_table.markdown(plan.document()), nl=False), reports, quiet=True)
    else:
        _execute(plan, lambda: matrix_table.show(_console(), plan.document()), reports)
    if markdown not in (None, "-"):
        document.write_atomically(Path(str(markdown)), matrix_table.markdown(plan.document()))
    return ExitCode.OK


@cli.command()
@options.of_exploration
@options.of_own
@options.of_server
@options.of_saving
@options.of_explored_reports
@click.option("--markdown", metavar="PATH", help="Write the verdicts as a Markdown table.")
@click.option("--fail-on", metavar="KINDS", help="Exit 3 if one of these is found: duplicates,missed,… or 'any'.")
@click.option("--expect", type=click.Choice(["race"]), help="Exit 3 if no anomaly is found: the other way round.")
@click.option("--expected", metavar="PATH", help="With a spec: exit 3 unless its output is this file's.")
@click.pass_context
def explore(
    context: click.Context,
    /,
    markdown: str | None,
    expected: str | None,
    reports: tuple[options.ReportFile, ...],
    **given: Any,
) -> int:
    """Run every interleaving of some sessions' steps: proof that a strategy can break, or that it cannot.

    SCENARIO is a shipped one (see `racebench list`), a folder, or a file of SQL of your own; without it,
    version-counter. A spec of PostgreSQL's isolationtester (FILE.spec) is run as isolationtester runs it.
    """
    if str(given["scenario"] or "").endswith(".spec"):
        return _run_spec(context, given["scenario"], expected)
    if expected is not None:
        raise UsageProblem("--expected goes with a spec file, as racebench explore mine.spec --expected mine.out")
    from pathlib import Path

    from racebench.cli import exploring, planning
    from racebench.core.signals import interruptible
    from racebench.reports import exploration_text
    from racebench.reports.results import document
    from racebench.reports.terminal import exploration_table, progress

    made = exploring.plan(**given)
    if markdown is not None:
        planning.check_file("--markdown", Path(markdown))
    _check(reports)
    with interruptible():
        try:
            with progress.bar(_console(stderr=True)) as callback, _prints_apart():
                exploring.run(made, callback)
        finally:
            if made.results:
                _publish(made.document(), reports)
            if made.results and made.json_path == "-":
                click.echo(made.json())
            elif made.results:
                exploration_table.show(_console(), made.document())
                for line in made.left_out:
                    click.echo(f"left out: {line}")
                if made.saved is not None:
                    click.echo(f"saved: {made.saved}")
    if markdown is not None:
        document.write_atomically(Path(markdown), exploration_text.markdown(made.results))
    return exploring.exit_code(made)


_OF_SPECS = ("scenario", "expected", "server", "dsn", "color")


def _run_spec(context: click.Context, path: str, expected: str | None) -> int:
    """Run a spec and print what isolationtester would; or compare it with what is expected."""
    import difflib
    from pathlib import Path

    from racebench.cli import exploring
    from racebench.core.signals import interruptible
    from racebench.workloads import catalog

    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name))
        if parameter.name not in _OF_SPECS and given is click.core.ParameterSource.COMMANDLINE:
            raise UsageProblem(f"{max(parameter.opts, key=len)} means nothing for a spec; leave it out")
    wanted = None if expected is None else catalog.read_text(Path(expected), "name what isolationtester printed")
    lines: list[str] = []
    with interruptible():
        exploring.run_spec(
            path,
            server=context.params["server"],
            dsn=context.params["dsn"],
            say=lines.append if wanted is not None else lambda text: click.echo(text, nl=False),
            warn=lambda text: click.echo(text, err=True),
        )
    if wanted is None:
        return ExitCode.OK
    made = "".join(lines)
    click.echo(
        "".join(difflib.unified_diff(wanted.splitlines(True), made.splitlines(True), str(expected), path)), nl=False
    )
    return ExitCode.OK if made == wanted else ExitCode.ANOMALY


@cli.command()
@click.argument("schedule")
@click.argument("subject", required=False, metavar="[FILE.sql]", shell_complete=completion.files)
@click.option(
    "--scenario",
    metavar="NAME",
    shell_complete=completion.scenarios,
    help="The scenario or folder, if it is not the schedule's.",
)
@click.option("--export-spec", metavar="PATH", help="Write it as a spec for isolationtester; '-' for stdout, alone.")
@options.of_own
@options.of_server
@options.of_steps
@click.option("--minimize", is_flag=True, help="Look for the shortest schedule that shows the same, and run that.")
@click.option("--fail-on", metavar="KINDS", help="Exit 3 if one of these is found: duplicates,missed,… or 'any'.")
@click.option("--expect", type=click.Choice(["race"]), help="Exit 3 if no anomaly is found: the other way round.")
def replay(schedule: str, subject: str | None, scenario: str | None, export_spec: str | None, **given: Any) -> int:
    """Run one schedule again, step by step, as `explore` printed it."""
    from pathlib import Path

    from racebench.cli import exploring, planning
    from racebench.core.signals import interruptible
    from racebench.reports.results import document
    from racebench.reports.terminal import exploration_table

    if export_spec not in (None, "-"):
        planning.check_file("--export-spec", Path(str(export_spec)))
    with interruptible(), _prints_apart():
        done = exploring.replay(schedule, scenario=subject or scenario, **given)
    if export_spec is not None:
        from racebench.exploration.isolationtester import export

        text = export.spec(done.asked, done.replay)
        if export_spec == "-":
            click.echo(text, nl=False)
            return done.exit_code
        document.write_atomically(Path(export_spec), text)
    exploration_table.show_replay(_console(), done.replay)
    return done.exit_code


@cli.command()
@click.argument("name", required=False)
@click.option("--list", "list_only", is_flag=True, help="List the tellings that are ready to give.")
@click.option("--scenario", metavar="NAME", help="The scenario or folder that a strategy is of.")
@click.option("--consumer", metavar="NAME", help="The consumer beside a strategy; 'none' for none.  [default: cursor]")
@click.option("--fix", metavar="NAME", help="The strategy that the same turns are played with afterwards, or none.")
@click.option(
    "--autoplay",
    type=options.Number(0, 3600, whole=False, above=True),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Go on by itself, a step each so many seconds; 2 if none are given. Of a recording: its pace.",
)
@click.option("--notes", is_flag=True, help="Show the speaker's notes too.")
@click.option(
    "--export",
    type=click.Choice(["svg", "html", "cast", "mermaid", "md"]),
    help="Write it, rather than show it: picture, page, asciinema recording, diagram, Markdown.",
)
@click.option(
    "-o", "--output", metavar="PATH", help="Where to write it; its suffix may say the format.  [default: stdout]"
)
@options.of_server
def demo(list_only: bool, **given: Any) -> int:
    """Show one interleaving step by step, live on the server: on a terminal by keys, else as text.

    NAME is a telling (see --list), a strategy, or a schedule that `racebench explore` printed; without it, naive.
    """
    from racebench.cli import demonstrating
    from racebench.core.signals import interruptible

    if list_only:
        demonstrating.show_list(_console())
        return ExitCode.OK
    made = demonstrating.plan(**given)
    with interruptible():
        demonstrating.run(made, _console(), _console(stderr=True), auto=given["autoplay"] is not None)
    return ExitCode.OK


@cli.command("list")
@click.argument("only", metavar="[SCENARIO]", required=False, shell_complete=completion.scenarios)
def list_(only: str | None) -> None:
    """List scenarios with their strategies and consumers."""
    from racebench.reports.terminal import listing
    from racebench.workloads import catalog

    found = [catalog.find_scenario(only)] if only else catalog.shipped()
    listing.show_scenarios(_console(), found)


@cli.command()
@click.argument("name", shell_complete=completion.either)
@click.option(
    "--scenario",
    metavar="NAME",
    shell_complete=completion.scenarios,
    help="The scenario or folder it is in.  [default: version-counter]",
)
def show(name: str, scenario: str | None) -> None:
    """Show a strategy's or a consumer's SQL, and what is known of it."""
    from racebench.reports.terminal import listing
    from racebench.workloads import catalog

    where = catalog.find_scenario(scenario)
    if name in where.consumers and name not in where.strategies:
        listing.show_consumer(_console(), where, where.consumers[name])
    else:
        listing.show_strategy(_console(), where, catalog.find_strategy(where, name))


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completion.files)
@click.option(
    "--format",
    "format_",
    type=click.Choice([*formats.FORMATS, *formats.RENAMED]),
    help="What to write; svg is a picture of the table, timeline one of the race.  [default: table]",
)
@click.option("-o", "--output", metavar="PATH", help="Where to write it.  [default: stdout]")
@options.of_formats
@click.option("--title", default="racebench run", show_default=True, help="Title of the table's picture.")
def report(files: tuple[str, ...], format_: str | None, output: str | None, title: str, **places: str | None) -> None:
    """Render saved results again, in any format: runs in all of them, explorations in some.

    FILE is what `racebench run`, `compare`, `matrix` or `explore` saved; several are put side by side.
    """
    from pathlib import Path

    from racebench.cli import planning
    from racebench.reports.results import document

    short = {format_.name: format_.option for format_ in formats.FORMATS.values() if format_.option}
    asked = [(name, places[option.removeprefix("--")]) for name, option in short.items()]
    asked = [(name, place) for name, place in asked if place]
    if asked and (format_ is not None or output is not None):
        raise UsageProblem("--html and --svg say what to write and where; leave out --format and --output")
    asked = asked or [(format_ or "table", output)]
    for name, place in asked:
        if place not in (None, "-"):
            planning.check_file("--output" if output is not None else short[name], Path(str(place)))
    paths = [Path(name) for name in files]
    saved = formats.read(paths)
    show = formats.shown(asked[0][0], saved) if asked[0][1] is None else None
    if show is not None:
        show(_console())
        return
    texts = [formats.render(name, saved, title=title) for name, _ in asked]
    for (_, place), text in zip(asked, texts, strict=True):
        if place in (None, "-"):
            click.echo(text, nl=False)
        else:
            document.write_atomically(Path(str(place)), text)


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completion.files)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["npz", "jsonl", "edn"]),
    help="What the files are, or, with --export, what to write.  [default: by their names]",
)
@click.option("--json", "json_path", metavar="PATH", help="Write the results as JSON; '-' for stdout, alone.")
@click.option("--fail-on", metavar="KINDS", help="Exit 3 if one of these is found: duplicates,missed,… or 'any'.")
@click.option("--export", is_flag=True, help="Do not check: write the one FILE as --format jsonl or edn.")
@click.option("-o", "--output", metavar="PATH", help="Where to --export to.  [default: stdout]")
def check(files: tuple[str, ...], format_: str | None, json_path: str | None, fail_on: str | None, **given: Any) -> int:
    """Check recorded histories, without a database.

    A FILE is what `racebench run --history` left (.npz), or a history recorded elsewhere: JSON Lines (.jsonl) or
    Jepsen's (.edn), of operations that hand out numbers. See docs/history.md.
    """
    from pathlib import Path

    from racebench.analysis import offline
    from racebench.cli import planning
    from racebench.core.signals import interruptible
    from racebench.reports.results import document
    from racebench.reports.terminal import check_table

    kinds, output = planning.anomalies(fail_on), given["output"]
    for option, place in (("--json", json_path), ("--output", output)):
        if place not in (None, "-"):
            planning.check_file(option, Path(str(place)))
    if given["export"]:
        if len(files) != 1 or format_ is None or format_ not in offline.WRITERS:
            raise UsageProblem("--export takes one FILE and --format jsonl or edn")
        with interruptible():
            offline.export(Path(files[0]), format_, None if output in (None, "-") else Path(output))
        return ExitCode.OK
    if output is not None:
        raise UsageProblem("--output is where to --export to; the results go to --json PATH")
    with interruptible():
        results = [offline.check_file(Path(name), format_) for name in files]
    if json_path == "-":
        click.echo(check_table.to_json(results))
    else:
        check_table.show(_console(), results)
        if json_path is not None:
            document.write_atomically(Path(json_path), check_table.to_json(results) + "\n")
    return offline.exit_code(results, kinds)


@cli.group()
def server() -> None:
    """The embedded PostgreSQL."""


@server.command("path")
@click.option(
    "--server", "version", type=click.Choice(["18", "16"]), default="18", show_default=True, help="Which version."
)
def server_path(version: str) -> None:
    """Print the folder in which the embedded server lives."""
    from racebench.postgres import embedded

    click.echo(embedded.server_folder(int(version)))


@server.command("reset")
@click.option(
    "--server",
    "version",
    type=click.Choice(["18", "16", "all"]),
    default="all",
    show_default=True,
    help="Which version.",
)
def server_reset(version: str) -> None:
    """Delete the embedded server's data; the next run sets it up again."""
    from racebench.postgres import embedded

    versions = embedded.VERSIONS if version == "all" else (int(version),)
    deleted = [path for each in versions for path in embedded.reset(each)]
    for path in deleted:
        click.echo(f"deleted {path}")
    if not deleted:
        click.echo("nothing to delete")


@cli.group()
def init() -> None:
    """Files for a project that uses racebench."""


@init.command("ci")
@click.argument("scenario", required=False, shell_complete=completion.scenarios)
@click.option(
    "-s",
    "--strategy",
    "strategies",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.strategies,
    help="What must be free of races, several times, or a group.  [default: correct]",
)
@options.of_own
@click.option("--github", is_flag=True, default=None, help="For GitHub Actions.  [default: both]")
@click.option("--gitlab", is_flag=True, default=None, help="For GitLab CI.  [default: both]")
@click.option("--force", is_flag=True, help="Write files anew that are there already.")
def init_ci(github: bool | None, gitlab: bool | None, **given: Any) -> None:
    """Write workflow files that explore and hammer strategies on the embedded server: see docs/ci.md."""
    from pathlib import Path

    from racebench.cli import workflows

    if github or gitlab:  # what is asked for; of nothing, all that is not refused
        github, gitlab = bool(github), bool(gitlab)
    written = workflows.write(Path.cwd(), github=github is not False, gitlab=gitlab is not False, **given)
    for each in written:
        click.echo(f"wrote {each.path}")
        if each.next_move is not None:
            click.echo(each.next_move)


@cli.command()
@click.argument("command", nargs=-1)
def config(command: tuple[str, ...]) -> None:
    """Show what holds for the options, and from where: for all commands, or for one."""
    from racebench.cli import settings, settings_table

    found = settings.read(cli)
    settings_table.show(_console(), found, settings.held(cli, found, " ".join(command)))


@cli.command("completion")
@click.argument("shell", type=click.Choice(completion.SHELLS))
def print_completion(shell: str) -> None:
    """Print the script that makes a shell complete racebench: see docs/settings.md."""
    click.echo(completion.script(cli, shell))


def _console(*, stderr: bool = False) -> Console:
    from functools import partial

    from rich.console import Console

    # What is printed is text, whatever it holds: no [bold] and no :smile: of a scenario's or a server's is markup.
    made = partial(Console, stderr=stderr, highlight=False, markup=False, emoji=False)
    stream = sys.stderr if stderr else sys.stdout
    if not base_command.coloured(stderr=stderr):
        return made(color_system=None, force_terminal=stream.isatty())
    console = made(force_terminal=True, no_color=False)
    if console.color_system is None:  # a dumb terminal: colours were asked for all the same
        console = made(force_terminal=True, no_color=False, color_system="standard")
    return console


def _check(reports: tuple[options.ReportFile, ...]) -> None:
    """Raise UsageProblem unless the files of --report can be written."""
    from racebench.cli import planning

    for each in reports:
        planning.check_file("--report", each.path, stdout=False)


def _publish(whole: Document | Explorations, reports: tuple[options.ReportFile, ...]) -> None:
    """Write the files of --report, and GitHub's job summary where there is one. To fail at that is only a warning."""
    from racebench.reports.formats import job_summary

    for each in reports:
        formats.write(each.format, whole, each.path)
    if (warning := job_summary.append(whole)) is not None:
        click.echo(f"racebench: warning: {warning}", err=True)


def _prints_apart() -> contextlib.AbstractContextManager[Any]:
    """What an application prints goes to stderr: stdout is the report's, or the JSON's alone."""
    return contextlib.redirect_stdout(sys.stderr)


def _execute(
    plan: Plan, show: Callable[[], None], reports: tuple[options.ReportFile, ...] = (), *, quiet: bool = False
) -> None:
    """Run a plan; what was finished is shown also when it ends early. stdout is the JSON's alone if it asks for it."""
    from racebench.cli import running
    from racebench.core.signals import interruptible
    from racebench.reports.terminal import progress

    _check(reports)
    with interruptible():
        try:
            with progress.bar(_console(stderr=True)) as callback, _prints_apart():
                running.run(plan, callback)
        finally:
            if plan.results:
                try:
                    _publish(plan.document(), reports)
                finally:  # what was measured is shown though a report cannot be written
                    _tell(plan, show, quiet=quiet)


def _tell(plan: Plan, show: Callable[[], None], *, quiet: bool) -> None:
    """Print what was measured, and where it was saved; as JSON alone if stdout is for that."""
    if plan.json_path == "-":
        click.echo(plan.json())
        return
    show()
    if quiet:
        return
    for line in plan.left_out:
        click.echo(f"left out: {line}")
    if plan.saved is not None:
        click.echo(f"saved: {plan.saved}")
    kept = [result.history for result in plan.results if result.history is not None]
    if kept and plan.stem is not None:
        several = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
        click.echo(f"history: {plan.stem.with_name(kept[0])}{several}; see `racebench check`")
