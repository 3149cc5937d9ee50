"""The command line: each command parses, plans, runs, renders and chooses an exit code.

Nothing heavy is imported until a command needs it: `racebench --help` is what people wait for most often.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from racebench import __version__, options
from racebench.errors import ExitCode, Interrupted, RacebenchError, UsageProblem, one_line, suggest

if TYPE_CHECKING:
    from rich.console import Console

    from racebench.planning import Plan


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
    for message in messages:
        print(f"racebench: {message}", file=sys.stderr)  # noqa: T201 - the one place that does
    return int(code)


class _Group(click.Group):
    """A group that suggests the command that was probably meant."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise UsageProblem(f"command '{args[0]}' not found{suggest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="racebench")
def cli() -> None:
    """Reproduce and measure the races that happen when applications number rows.

    Start with:  racebench run --strategy naive --workers 8
    """


@cli.command()
@options.of_load
@options.of_target
@options.of_results
@options.of_thresholds
@click.option("--fail-on", metavar="KINDS", help="Exit 3 if one of these is found: duplicates,missed,… or 'any'.")
@click.option("--expect", type=click.Choice(["race"]), help="Exit 3 if no anomaly is found: the other way round.")
def run(**given: Any) -> int:
    """Hammer a table with one or more strategies and count what breaks.

    SCENARIO is a shipped one (see `racebench list`) or a folder; without it, version-counter. The server is an embedded
    PostgreSQL unless --dsn or RACEBENCH_DSN names another.
    """
    from racebench import planning
    from racebench.reports import terminal

    plan = planning.plan(**given)
    _execute(plan, lambda: terminal.show(_console(), plan.document()))
    return planning.exit_code(plan)


@cli.command()
@options.of_load
@options.of_comparison
@options.of_thresholds
@options.of_server
@options.of_results
@click.option("--fail-on", metavar="KINDS", help="Exit 3 if one of these is found: duplicates,missed,… or 'any'.")
def compare(**given: Any) -> int:
    """Run strategies in rounds, in random order, and say which are better, worse or the same.

    Each round runs every strategy once, for a second unless --duration says otherwise. Without --strategy: the correct
    ones. A strategy with an anomaly is never better, however fast. See docs/compare.md.
    """
    from racebench import comparing
    from racebench.reports import terminal

    made = comparing.plan(**given)
    said = "not saved, for this was not finished"
    try:
        _execute(made.plan, lambda: terminal.show(_console(), made.plan.document()))
        code = comparing.finish(made)
        said = str(made.saved_baseline) if made.saved_baseline else f"not saved, for this ends with exit code {code}"
    finally:
        if made.save_to is not None and made.plan.json_path != "-":
            click.echo(f"baseline: {said}")
    return code


@cli.command()
@options.of_load
@options.of_target
@options.of_results
@click.option("--markdown", metavar="PATH", help="Write the grid as Markdown; '-' for stdout, alone.")
def matrix(markdown: str | None, **given: Any) -> int:
    """Run strategies × consumers, each pair alone, and print the grid.

    Every strategy is run without a consumer too, so that a pair's throughput says what the consumer costs its writers.
    Without --consumer, all of them.
    """
    from pathlib import Path

    from racebench import planning
    from racebench.reports import document, grid

    given["consumers"] = given["consumers"] or ("all",)
    plan = planning.plan(**given, fail_on=None, expect=None, each_alone=True)
    if markdown not in (None, "-"):
        planning.check_file("--markdown", Path(str(markdown)))
    if markdown == "-":
        _execute(plan, lambda: click.echo(grid.markdown(plan.document()), nl=False), quiet=True)
    else:
        _execute(plan, lambda: grid.show(_console(), plan.document()))
    if markdown not in (None, "-"):
        document.write_atomically(Path(str(markdown)), grid.markdown(plan.document()))
    return ExitCode.OK


@cli.command()
@options.of_exploration
@options.of_server
@options.of_saving
@click.option("--markdown", metavar="PATH", help="Write the verdicts as a Markdown table.")
@click.option("--fail-on", metavar="KINDS", help="Exit 3 if one of these is found: duplicates,missed,… or 'any'.")
@click.option("--expect", type=click.Choice(["race"]), help="Exit 3 if no anomaly is found: the other way round.")
def explore(markdown: str | None, **given: Any) -> int:
    """Run every interleaving of some sessions' steps: proof that a strategy can break, or that it cannot.

    SCENARIO is a shipped one (see `racebench list`) or a folder; without it, version-counter.
    """
    from pathlib import Path

    from racebench import exploring, planning
    from racebench.interrupts import interruptible
    from racebench.reports import document, explored, progress

    made = exploring.plan(**given)
    if markdown is not None:
        planning.check_file("--markdown", Path(markdown))
    with interruptible():
        try:
            with progress.bar(_console(stderr=True)) as callback:
                exploring.run(made, callback)
        finally:
            if made.results and made.json_path == "-":
                click.echo(made.json())
            elif made.results:
                explored.show(_console(), made.results, made.environment)
                for line in made.left_out:
                    click.echo(f"left out: {line}")
                if made.saved is not None:
                    click.echo(f"saved: {made.saved}")
    if markdown is not None:
        document.write_atomically(Path(markdown), explored.markdown(made.results))
    return exploring.exit_code(made)


@cli.command()
@click.argument("schedule")
@click.option("--scenario", metavar="NAME", help="The scenario or folder, if it is not the schedule's.")
@options.of_server
def replay(schedule: str, scenario: str | None, server: str, dsn: str | None) -> int:
    """Run one schedule again, step by step, as `explore` printed it."""
    from racebench import exploring
    from racebench.interrupts import interruptible
    from racebench.reports import explored

    with interruptible():
        asked, replayed = exploring.replay(schedule, scenario=scenario, server=server, dsn=dsn)
    explored.show_replay(_console(), asked, replayed, schedule)
    return ExitCode.OK


@cli.command("list")
@click.argument("scenario", required=False)
def list_(scenario: str | None) -> None:
    """List scenarios with their strategies and consumers."""
    from racebench import catalog
    from racebench.reports import listing

    found = [catalog.find_scenario(scenario)] if scenario else catalog.shipped()
    listing.show_scenarios(_console(), found)


@cli.command()
@click.argument("name")
@click.option("--scenario", metavar="NAME", help="The scenario or folder it is in.  [default: version-counter]")
def show(name: str, scenario: str | None) -> None:
    """Show a strategy's or a consumer's SQL, and what is known of it."""
    from racebench import catalog
    from racebench.reports import listing

    where = catalog.find_scenario(scenario)
    if name in where.consumers and name not in where.strategies:
        listing.show_consumer(_console(), where, where.consumers[name])
    else:
        listing.show_strategy(_console(), where, catalog.find_strategy(where, name))


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "grid", "markdown", "json", "svg"]),
    default="table",
    show_default=True,
    help="What to write.",
)
@click.option("-o", "--output", metavar="PATH", help="Where to write it.  [default: stdout]")
@click.option("--title", default="racebench run", show_default=True, help="Title of the picture.")
def report(files: tuple[str, ...], format_: str, output: str | None, title: str) -> None:
    """Render saved results as table, grid, Markdown, JSON or picture."""
    from pathlib import Path

    from racebench.reports import document, grid, svg, terminal

    whole = document.merge([document.read(Path(name)) for name in files])
    shows = {"table": terminal.show, "grid": grid.show}
    if format_ in shows and output is None:
        shows[format_](_console(), whole)
        return
    writers: dict[str, Callable[[], str]] = {
        "table": lambda: terminal.plain(whole, terminal.show),
        "grid": lambda: terminal.plain(whole, grid.show),
        "markdown": lambda: grid.markdown(whole),
        "json": lambda: document.to_json(whole) + "\n",
        "svg": lambda: svg.render(whole, title=title),
    }
    text = writers[format_]()
    if output is None:
        click.echo(text, nl=False)
    else:
        document.write_atomically(Path(output), text)


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
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

    from racebench import offline, planning
    from racebench.interrupts import interruptible
    from racebench.reports import checked, document

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
        click.echo(checked.to_json(results))
    else:
        checked.show(_console(), results)
        if json_path is not None:
            document.write_atomically(Path(json_path), checked.to_json(results) + "\n")
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
    from racebench.targets import embedded

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
    from racebench.targets import embedded

    versions = embedded.VERSIONS if version == "all" else (int(version),)
    deleted = [path for each in versions for path in embedded.reset(each)]
    for path in deleted:
        click.echo(f"deleted {path}")
    if not deleted:
        click.echo("nothing to delete")


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def _execute(plan: Plan, show: Callable[[], None], *, quiet: bool = False) -> None:
    """Run a plan; what was finished is shown also when it ends early. stdout is the JSON's alone if it asks for it."""
    from racebench import running
    from racebench.interrupts import interruptible
    from racebench.reports import progress

    with interruptible():
        try:
            with progress.bar(_console(stderr=True)) as callback:
                running.run(plan, callback)
        finally:
            if plan.results and plan.json_path == "-":
                click.echo(plan.json())
            elif plan.results:
                show()
                for line in plan.left_out if not quiet else ():
                    click.echo(f"left out: {line}")
                if plan.saved is not None and not quiet:
                    click.echo(f"saved: {plan.saved}")
                kept = [result.history for result in plan.results if result.history is not None]
                if kept and plan.stem is not None and not quiet:
                    several = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
                    click.echo(f"history: {plan.stem.with_name(kept[0])}{several}; see `racebench check`")
