"""The command line: each command parses, plans, runs, renders and chooses an exit code.

Nothing heavy is imported until a command needs it: `racebench --help` is what people wait for most often.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from racebench import __version__
from racebench.errors import ExitCode, Interrupted, RacebenchError, UsageProblem, one_line, suggest

if TYPE_CHECKING:
    from rich.console import Console

    from racebench.planning import Plan

    _Parameter = click.ParamType[float]
else:
    _Parameter = click.ParamType  # generic only in newer clicks

_MOST_WORKERS = 1000


def main() -> NoReturn:
    """Run the command line and exit; every failure is one line on stderr and a documented exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without our characters still gets the rest
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
            "interrupted; the server, the workers and the schema are gone" if not left else "interrupted",
            *left,
            code=ExitCode.INTERRUPTED,
        )
    except RacebenchError as problem:
        return _say(str(problem), *getattr(problem, "__notes__", ()), code=problem.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; let the exit be quiet
        return ExitCode.OK
    except OSError as problem:
        place = f" {problem.filename}" if problem.filename else ""
        return _say(f"the machine failed:{place} {problem.strerror or problem}", code=ExitCode.INTERNAL)


def _say(*messages: str, code: ExitCode) -> int:
    """Print the one line a failure gets, and one more if it left something on the user's server."""
    for message in messages:
        print(f"racebench: {message}", file=sys.stderr)  # noqa: T201 - the one place that does
    return int(code)


class _Number(_Parameter):
    """A number in a range, with a message that names the option, the value and the range."""

    def __init__(self, low: float, high: float, *, whole: bool = True, above: bool = False) -> None:
        self.low, self.high, self.whole, self.above = low, high, whole, above
        self.name = "number" if whole else "decimal"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return "N" if self.whole else "X"

    def convert(self, value: Any, param: click.Parameter | None, _ctx: click.Context | None) -> float:
        option = max(param.opts, key=len) if param is not None else "the value"
        least = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        try:
            number: float = int(value) if self.whole else float(value)
        except (ValueError, OverflowError):
            number = float("nan")
        if not (self.low < number if self.above else self.low <= number) or not number <= self.high:
            kind = "a whole number" if self.whole else "a number"
            raise UsageProblem(f"{option} is {kind} {least} to {self.high:g}, not '{value}'")
        return number


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
@click.argument("scenario", required=False)
@click.option(
    "-s",
    "--strategy",
    "strategies",
    multiple=True,
    metavar="NAME",
    help="A strategy, several times, or 'all' (the default).",
)
@click.option(
    "-w",
    "--workers",
    type=_Number(1, _MOST_WORKERS),
    default=8,
    show_default=True,
    help="Worker processes, one connection each.",
)
@click.option(
    "-d",
    "--duration",
    type=_Number(0, 86_400, whole=False, above=True),
    metavar="SECONDS",
    help="How long to press.  [default: 2, unless --operations]",
)
@click.option("-n", "--operations", type=_Number(1, 10**9), help="How many operations, all workers together.")
@click.option(
    "--think",
    type=_Number(0, 60_000, whole=False),
    default=0,
    metavar="MS",
    help="Delay between the read and the insert.",
)
@click.option(
    "--hold",
    type=_Number(0, 60_000, whole=False),
    default=0,
    metavar="MS",
    help="Delay between the insert and the commit.",
)
@click.option(
    "--tenants", type=_Number(1, 65_535), default=1, show_default=True, help="Tenants, each with its own counter."
)
@click.option(
    "--seed", type=_Number(0, 2**63 - 1), help="Seed of every random choice.  [default: drawn, printed and saved]"
)
@click.option(
    "--consumer",
    default="cursor",
    show_default=True,
    metavar="NAME",
    help="The consumer that polls beside the workers.",
)
@click.option(
    "--poll-interval",
    type=_Number(0, 60_000, whole=False),
    default=1.0,
    show_default=True,
    metavar="MS",
    help="The consumer's pause between polls; 0 for none.",
)
@click.option("--batch", type=_Number(1, 10**6), default=1000, show_default=True, help="The consumer's LIMIT.")
@click.option(
    "--server",
    type=click.Choice(["18", "16"]),
    default="18",
    show_default=True,
    help="Version of the embedded PostgreSQL.",
)
@click.option(
    "--dsn",
    envvar="RACEBENCH_DSN",
    show_envvar=True,
    metavar="DSN",
    help="Use this server instead of the embedded one.",
)
@click.option("--keep", is_flag=True, help="Leave the schema in place and print its name.")
@click.option("--json", "json_path", metavar="PATH", help="Write the results as JSON; '-' for stdout, alone.")
@click.option(
    "--results", default="results", show_default=True, metavar="DIR", help="Folder in which every run is saved."
)
@click.option("--no-save", is_flag=True, help="Do not save the run.")
@click.option(
    "--fail-on", metavar="KINDS", help="Exit 3 if one of these anomalies is found: duplicates,missed,… or 'any'."
)
@click.option(
    "--expect", type=click.Choice(["race"]), help="Exit 3 if no anomaly is found: the other way round, for demos."
)
def run(**options: Any) -> int:
    """Hammer a table with one or more strategies and count what breaks.

    SCENARIO is a shipped one (see `racebench list`) or a folder; without it, version-counter.
    The server is an embedded PostgreSQL unless --dsn or RACEBENCH_DSN names another.
    """
    from racebench import planning

    plan = planning.plan(**options)
    _execute(plan)
    return planning.exit_code(plan)


@cli.command("list")
@click.argument("scenario", required=False)
def list_(scenario: str | None) -> None:
    """List scenarios with their strategies and consumers."""
    from racebench import catalog
    from racebench.reports import listing

    found = [catalog.find_scenario(scenario)] if scenario else catalog.shipped()
    listing.show_scenarios(_console(), found)


@cli.command()
@click.argument("strategy")
@click.option("--scenario", metavar="NAME", help="The scenario or folder it is in.  [default: version-counter]")
def show(strategy: str, scenario: str | None) -> None:
    """Show a strategy's SQL, its schema, and what is known of it."""
    from racebench import catalog
    from racebench.reports import listing

    where = catalog.find_scenario(scenario)
    listing.show_strategy(_console(), where, catalog.find_strategy(where, strategy))


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json", "svg"]),
    default="table",
    show_default=True,
    help="What to write.",
)
@click.option("-o", "--output", metavar="PATH", help="Where to write it.  [default: stdout]")
@click.option("--title", default="racebench run", show_default=True, help="Title of the picture.")
def report(files: tuple[str, ...], format_: str, output: str | None, title: str) -> None:
    """Render saved results as table, JSON or picture."""
    from racebench.reports import document, svg, terminal

    whole = document.merge([document.read(Path(name)) for name in files])
    if format_ == "table" and output is None:
        terminal.show(_console(), whole)
        return
    writers = {
        "table": lambda: terminal.plain(whole),
        "json": lambda: document.to_json(whole) + "\n",
        "svg": lambda: svg.render(whole, title=title),
    }
    text = writers[format_]()
    if output is None:
        click.echo(text, nl=False)
    else:
        document.write_atomically(Path(output), text)


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


def _execute(plan: Plan) -> None:
    """Run a plan; what was finished is shown also when it ends early. stdout is the JSON's alone if it asks for it."""
    from racebench import running
    from racebench.interrupts import interruptible
    from racebench.reports import document, progress, terminal

    with interruptible():
        try:
            with progress.bar(_console(stderr=True), len(plan.strategies)) as callback:
                running.run(plan, callback)
        finally:
            if plan.results and plan.json_path == "-":
                click.echo(document.to_json(plan.document()))
            elif plan.results:
                terminal.show(_console(), plan.document())
                if plan.saved is not None:
                    click.echo(f"saved: {plan.saved}")
