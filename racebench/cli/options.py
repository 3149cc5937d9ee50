"""The options that commands share, and the types that check a value and name it when it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from racebench.cli import completion
from racebench.core.errors import UsageProblem, suggest
from racebench.reports import formats


class ReportFile(NamedTuple):
    """A file to write results to, and in which format."""

    format: str
    path: Path


if TYPE_CHECKING:
    _Number = click.ParamType[float]
    _Pair = click.ParamType[tuple[float, float]]
    _Report = click.ParamType[ReportFile]
else:
    _Number = _Pair = _Report = click.ParamType  # generic only in newer clicks

_Command = TypeVar("_Command", bound=Callable[..., Any])

MOST_WORKERS = 1000
_DAY = 86_400
_MINUTE_MS = 60_000


class Number(_Number):
    """A number in a range, with a message that names the option, the value and the range."""

    def __init__(self, low: float, high: float, *, whole: bool = True, above: bool = False) -> None:
        self.low, self.high, self.whole, self.above = low, high, whole, above
        self.name = "number" if whole else "decimal"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return "N" if self.whole else "X"

    def convert(self, value: Any, param: click.Parameter | None, _ctx: click.Context | None) -> float:
        try:
            number: float = int(value) if self.whole else float(value)
        except (ValueError, OverflowError):
            number = float("nan")
        if not (self.low < number if self.above else self.low <= number) or not number <= self.high:
            kind = "a whole number" if self.whole else "a number"
            least = f"above {self.low:g}" if self.above else f"from {self.low:g}"
            raise UsageProblem(f"{_name(param)} is {kind} {least} to {self.high:g}, not '{value}'")
        return number


class Percent(Number):
    """PERCENT, with or without its sign: 20% or 20."""

    def __init__(self) -> None:
        super().__init__(0, 99, whole=False)
        self.name = "percentage"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip().removesuffix("%").rstrip()
        try:
            return super().convert(text, param, ctx)
        except UsageProblem:
            raise UsageProblem(f"{_name(param)} is a percentage from 0 to 99, as 20%, not '{value}'") from None


class PercentAndMs(_Pair):
    """PERCENT:MS, as 5:200."""

    name = "percent:ms"

    def convert(self, value: Any, param: click.Parameter | None, _ctx: click.Context | None) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        percent, _, ms = str(value).partition(":")
        try:
            pair = float(percent), float(ms)
        except ValueError:
            pair = (-1.0, -1.0)
        if not (0 <= pair[0] <= 100 and 0 <= pair[1] <= _MINUTE_MS):
            raise UsageProblem(f"{_name(param)} is PERCENT:MS, as 5:200, not '{value}'")
        return pair


class FormatAndPath(_Report):
    """FORMAT=PATH, as junit=report.xml, of the formats that results of the command can have."""

    name = "format=path"

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known

    def convert(self, value: Any, param: click.Parameter | None, _ctx: click.Context | None) -> ReportFile:
        if isinstance(value, ReportFile):
            return value
        name, _, path = str(value).partition("=")
        if not path or path == "-":
            raise UsageProblem(f"{_name(param)} is FORMAT=PATH, as junit=report.xml, not '{value}'")
        name = formats.RENAMED.get(name, name)
        if name not in self.known:
            raise UsageProblem(f"{_name(param)} '{value}': format '{name}' is unknown{suggest(name, self.known)}")
        return ReportFile(name, Path(path))


def _name(param: click.Parameter | None) -> str:
    return max(param.opts, key=len) if param is not None else "the value"


def _chain(*decorators: Callable[[Any], Any]) -> Callable[[_Command], _Command]:
    """Apply option decorators so that --help lists them in the order written."""

    def decorate(command: _Command) -> _Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


_option = click.option
_MS = Number(0, _MINUTE_MS, whole=False)
_PERCENT = Number(0, 100, whole=False)
_SERVER = click.Choice(["18", "16"])

of_own = _chain(
    _option("--call", multiple=True, metavar="MODULE:FUNCTION",
            help="Your own Python instead of a scenario; several times to race them with each other."),
    _option("--setup", "--schema", "setup", multiple=True, metavar="SQL",
            help="With --call or a file of SQL: what makes the tables: SQL, a .sql file or module:function."),
    _option("--invariant", multiple=True, metavar="SQL",
            help="With them: a query that returns the rows that break it, a .sql file or module:function."),
)  # fmt: skip

of_load = _chain(
    click.argument("scenario", required=False, shell_complete=completion.scenarios),
    _option("-s", "--strategy", "strategies", multiple=True, metavar="NAME",
            shell_complete=completion.strategies,
            help="A strategy, several times, or a group: all (the default), correct (that of compare), broken."),
    _option("--consumer", "consumers", multiple=True, metavar="NAME",
            shell_complete=completion.consumers,
            help="A consumer that polls beside the workers, several times, or all, or none."),
    _option("-w", "--workers", type=Number(1, MOST_WORKERS), default=8, show_default=True,
            help="Worker processes, one connection each."),
    _option("-d", "--duration", type=Number(0, _DAY, whole=False, above=True), metavar="SECONDS",
            help="How long to press.  [default: 2, in compare 1, unless --operations]"),
    _option("-n", "--operations", type=Number(1, 10**9), help="How many operations, all workers together."),
    _option("--rate", type=Number(0, 10**7, whole=False, above=True), metavar="N",
            help="Open loop: so many operations a second are due, whether the last have ended or not."),
    _option("--warmup", type=Number(0, 3600, whole=False), default=0, metavar="SECONDS",
            help="Press for so long before measuring; what happens then is checked all the same."),
    _option("--protocol", type=click.Choice(["simple", "prepared", "pipelined"]), default="prepared",
            show_default=True, help="As in pgbench; pipelined sends together what needs no answer."),
    _option("--connections-per-worker", type=Number(1, 1000), default=1, show_default=True,
            help="Connections that each worker process drives."),
    _option("--think", type=_MS, default=0, metavar="MS", help="Delay between the read and the insert."),
    _option("--hold", type=_MS, default=0, metavar="MS", help="Delay between the insert and the commit."),
    _option("--long", type=PercentAndMs(), default=(0.0, 0.0), metavar="PERCENT:MS",
            help="That share of the transactions holds for so long instead."),
    _option("--rollback", type=_PERCENT, default=0, metavar="PERCENT",
            help="That share of the transactions rolls back instead of committing."),
    _option("--jitter", type=_MS, default=0, metavar="MS",
            help="Each worker begins up to so long after the common start."),
    _option("--tenants", type=Number(1, 65_535), default=1, show_default=True,
            help="Tenants, each with its own counter."),
    _option("--seed", type=Number(0, 2**63 - 1),
            help="Seed of every random choice.  [default: drawn, printed and saved]"),
    _option("--poll-interval", type=_MS, default=1.0, show_default=True, metavar="MS",
            help="The consumers' pause between polls; 0 for none."),
    _option("--batch", type=Number(1, 10**6), default=1000, show_default=True, help="The consumers' LIMIT."),
)  # fmt: skip

of_steps = _option(
    "--step-timeout", type=Number(0, _DAY, whole=False, above=True), default=10.0, show_default=True, metavar="SECONDS",
    help="How long a step may go without an answer, and not for another session's sake.",
)  # fmt: skip

of_exploration = _chain(
    click.argument("scenario", required=False, shell_complete=completion.scenarios),
    _option("-s", "--strategy", "strategies", multiple=True, metavar="NAME",
            shell_complete=completion.strategies,
            help="A strategy, several times, or a group: all (the default), correct, broken."),
    _option("-n", "--sessions", type=Number(1, 9), default=2, show_default=True,
            help="Sessions that run the strategy."),
    _option("--consumer", metavar="NAME", shell_complete=completion.consumers,
            help="A consumer that polls as one more session."),
    _option("--polls", type=Number(1, 20), default=3, show_default=True, help="How often it polls."),
    _option("--no-reduction", is_flag=True, help="Run all orders, also those that cannot differ."),
    _option("--budget", type=Number(0, _DAY, whole=False, above=True), metavar="SECONDS",
            help="Stop after so long: half for every order, half for orders drawn at random."),
    _option("--max-schedules", type=Number(1, 10**9), help="Stop after so many schedules, divided likewise."),
    _option("--depth", type=Number(1, 9), default=3, show_default=True,
            help="Of the bugs that drawing at random has a stated chance to meet."),
    _option("--seed", type=Number(0, 2**63 - 1), help="Seed of what is drawn.  [default: drawn, printed and saved]"),
    of_steps,
    _option("--stop-at-first", is_flag=True, help="Stop at the first schedule that goes wrong."),
)  # fmt: skip

of_server = _chain(
    _option("--server", type=_SERVER, default="18", show_default=True, help="Version of the embedded PostgreSQL."),
    _option("--dsn", envvar="RACEBENCH_DSN", show_envvar=True, metavar="DSN",
            help="Use this server instead of the embedded one."),
)  # fmt: skip

of_thresholds = _chain(
    _option("--threshold", "threshold", multiple=True, metavar="TEXT",
            help="'p99_ms < 20', 'advisory: duplicates == 0', several times: exit 4 if one is crossed."),
)  # fmt: skip

of_comparison = _chain(
    _option("--rounds", type=Number(2, 1000), default=7, show_default=True,
            help="How often each strategy is run."),
    _option("--reference", metavar="NAME", shell_complete=completion.strategies,
            help="The strategy beside which the others stand.  [default: the one advised, else the first right one]"),
    _option("--margin", type=Percent(), default=5, show_default=True, metavar="PERCENT",
            help="A difference within this is none that matters."),
    _option("--baseline", metavar="NAME|FILE",
            help="Hold the result against an earlier one: exit 3 for a new anomaly."),
    _option("--fail-slower", type=Percent(), metavar="PERCENT",
            help="With --baseline: exit 4 if a strategy is surely slower by more than this."),
    _option("--save-baseline", metavar="NAME", help="Save the result as a baseline, in the results' folder."),
)  # fmt: skip

of_target = _chain(
    of_server,
    _option("--keep", is_flag=True, help="Leave the schema in place and print its name."),
)  # fmt: skip

of_saving = _chain(
    _option("--json", "json_path", metavar="PATH", shell_complete=completion.files,
            help="Write the results as JSON; '-' for stdout, alone."),
    _option("--results", default="results", show_default=True, metavar="DIR", shell_complete=completion.folders,
            help="Folder in which every run is saved."),
    _option("--no-save", is_flag=True, help="Do not save the run."),
)  # fmt: skip

of_results = _chain(
    of_saving,
    _option("--history/--no-history", default=None,
            help="Keep the runs' histories, or do not.  [default: those of `run` with a forbidden anomaly]"),
)  # fmt: skip

of_formats = _chain(
    *(
        _option(format_.option, metavar="PATH", help=format_.option_help)
        for format_ in formats.FORMATS.values()
        if format_.option
    )
)

of_reports = _chain(
    _option("--report", "reports", multiple=True, type=FormatAndPath(formats.OF_RUNS), metavar="FORMAT=PATH",
            help=f"Write the results to a file as {', '.join(formats.OF_RUNS)}; several times."),
)  # fmt: skip

of_explored_reports = _chain(
    _option("--report", "reports", multiple=True, type=FormatAndPath(formats.OF_EXPLORATIONS), metavar="FORMAT=PATH",
            help=f"Write the results to a file as {', '.join(formats.OF_EXPLORATIONS)}; several times."),
)  # fmt: skip
