"""The options that commands share, as typed values: each group of options reaches a command as one value.

A group is a decorator, which adds the options to a command in a section of its help, and a frozen dataclass of
racebench.cli.option_groups, which the command receives. Nothing is checked here beyond the type of one option;
racebench.cli.requests does the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from racebench.cli import completion
from racebench.cli.base_command import Option, progress_option
from racebench.cli.base_command import option as _option
from racebench.cli.help_page import Section
from racebench.cli.values import MINUTE_MS, FormatAndPath, Limit, Number, Percent, PercentAndMs
from racebench.core.defaults import GIVE_UP_SECONDS, MOST_CUT, MOST_EXPLORED_SESSIONS, MOST_JOBS
from racebench.reports import formats

_Command = TypeVar("_Command", bound=Callable[..., Any])
Decorator = Callable[[_Command], _Command]

MOST_WORKERS = 1000
_DAY = 86_400
_MS = Number(0, MINUTE_MS, whole=False)
_PERCENT = Number(0, 100, whole=False)
_SECONDS = Number(0, _DAY, whole=False, above=True)
_SEED = Number(0, 2**63 - 1)


def _as_one(name: str, group: str, section: Section, *declarations: Decorator[Any]) -> Decorator[Any]:
    """Add options to a command, in the order written, and hand it one value of them, as the keyword `name`.

    `section` is where help lists the options that name no other. `group` is the name of the value's class. It is
    imported when the command runs: making dataclasses takes a tenth of the time of `racebench --help`.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def with_one_value(**parameters: object) -> object:
            from racebench.cli import option_groups

            group_class = getattr(option_groups, group)
            names = [field for field in group_class.__dataclass_fields__ if field in parameters]
            parameters[name] = group_class(**{field: parameters.pop(field) for field in names})
            return command(**parameters)

        decorated: Any = with_one_value
        for declaration in reversed(declarations):
            decorated = declaration(decorated)
            added = decorated.__click_params__[-1]
            if isinstance(added, Option) and added.section is Section.OPTIONS:
                added.section = section
        return decorated  # type: ignore[no-any-return]

    return decorate


#: What --live shows of runs under load.
LIVE_RUNS = "the throughput, the latency and the anomalies so far"

_SCENARIO = click.argument("scenario", required=False, shell_complete=completion.scenarios)
_FAIL_ON = _option(
    "--fail-on", metavar="KINDS",
    help="Exit with code 3 if an anomaly of these kinds is found: a list such as duplicates,missed, or 'any' for the "
    "kinds that the scenario forbids; with code 5 if a verdict is UNKNOWN.  [default: none; of your own code any]",
)  # fmt: skip
_EXPECT = _option("--expect", type=click.Choice(["race"]), help="Exit with code 3 if a strategy shows no anomaly.")
_THRESHOLD = _option(
    "--threshold", multiple=True, metavar="TEXT",
    help="Exit with code 4 if a limit is crossed: 'p99_ms < 20' or 'advisory: duplicates == 0'. Can be repeated.",
)  # fmt: skip
_MARKDOWN = _option(
    "--markdown", metavar="PATH", shell_complete=completion.files,
    help="Write the results as a Markdown table; '-' writes only that to stdout.",
)  # fmt: skip


def _own_code(calls: str) -> tuple[Decorator[Any], ...]:
    return (
        _option("--call", section=Section.OWN_CODE, multiple=True, metavar="MODULE:FUNCTION",
                help=f"Python function to run instead of a scenario. Can be repeated: {calls}."),
        _option("--setup", section=Section.OWN_CODE, multiple=True, metavar="SQL", old=("--schema",),
                help="With your own code or a file of SQL: what creates the tables. SQL, a .sql file or "
                "module:function."),
        _option("--invariant", section=Section.OWN_CODE, multiple=True, metavar="SQL",
                help="With your own code or a file of SQL: a query that returns the rows that break a rule. SQL, a "
                ".sql file or module:function."),
        *_applications(calls),
    )  # fmt: skip


def _applications(several: str) -> tuple[Decorator[Any], ...]:
    section = Section.APPLICATIONS
    return (
        _option("--exec", "programs", section=section, multiple=True, metavar="COMMAND",
                help="Program to run, such as 'node create_order.js': a process for each operation. DATABASE_URL and "
                f"PG* name the database. Can be repeated: {several}."),
        _option("--serve", section=section, metavar="COMMAND",
                help="Service to start, such as 'uvicorn shop:app --port {port}'; it answers the requests of --http."),
        _option("--http", "requests", section=section, multiple=True, metavar="REQUEST",
                help="Request to send to the service: 'METHOD /path body', such as 'POST /orders {\"sku\": 1}'. Can "
                f"be repeated: {several}."),
        _option("-H", "--header", "headers", section=section, multiple=True, metavar="'NAME: VALUE'",
                help="Header of every --http. Can be repeated.  [default: Content-Type, for a body]"),
        _option("--expect-status", section=section, metavar="LIST",
                help="Status codes that are a success, as a list such as 2xx,409.  [default: 2xx]"),
        _option("--ready", section=section, metavar="ROUTE",
                help="Path that the service answers once it is ready, such as /health.  [default: its port is open]"),
        _option("--reset", section=section, metavar="REQUEST",
                help="Request that resets what the service remembers: sent before each schedule, and before a load."),
        _option("--restart", section=section, is_flag=True, help="Start the service anew for each schedule."),
        _option("--instances", section=section, type=click.Choice(["each", "shared"]),
                help="Instances of the service: one for each session or worker, or one for all.  [default: each to "
                "explore; shared under load]"),
        _option("--url", section=section, metavar="URL",
                help="Address of a service that was started elsewhere, http://host:port, instead of --serve. Needs "
                "--listen."),
        _option("--listen", section=section, metavar="HOST:PORT",
                help="With --url: the address at which that service expects the database."),
    )  # fmt: skip


def own_code() -> Decorator[Any]:
    """--call, --setup and --invariant, as a SubjectOptions, with the command's own --scenario if it has one."""
    return _as_one("subject", "SubjectOptions", Section.OWN_CODE, *_own_code("sessions take turns with them"))


def subject(
    *,
    strategies: str = "all",
    consumers: str | None = None,
    calls: str | None = "workers take turns with them",
    files: bool = False,
    groups: str = "all, correct or broken",
) -> Decorator[Any]:
    """The scenario and its strategies, or the user's own code, as a SubjectOptions.

    `strategies` and `consumers` are the command's defaults, as the help says them; no --consumer without the latter.
    `calls` says what several --call mean; None: the command takes scenarios only. `files`: it takes more files of SQL.
    """
    declarations = [_SCENARIO]
    if files:
        declarations.append(click.argument("files", nargs=-1, metavar="[FILE.sql]...", shell_complete=completion.files))
    declarations.append(
        _option("-s", "--strategy", "strategies", multiple=True, metavar="NAME", shell_complete=completion.strategies,
                help=f"Strategy of the scenario, or a group: {groups}. Can be repeated.  [default: {strategies}]")
    )  # fmt: skip
    if consumers is not None:
        declarations.append(
            _option("--consumer", "consumers", section=Section.CONSUMERS, multiple=True, metavar="NAME",
                    shell_complete=completion.consumers,
                    help="Consumer that polls while the workers write; 'all' or 'none'. Can be repeated.  "
                    f"[default: {consumers}]")
        )  # fmt: skip
    if calls is not None:
        declarations += _own_code(calls)
    return _as_one("subject", "SubjectOptions", Section.SUBJECT, *declarations)


def load(*, seconds: float = 2) -> Decorator[Any]:
    """The load, as a LoadOptions. `seconds` is the command's default duration, as the help says it."""
    return _as_one(
        "load",
        "LoadOptions",
        Section.LOAD,
        _option("-w", "--workers", type=Number(1, MOST_WORKERS), default=8, show_default=True,
                help="Number of worker processes, with one connection each."),
        _option("-d", "--duration", type=_SECONDS, metavar="SECONDS",
                help=f"Measurement duration, in seconds.  [default: {seconds:g}, unless --operations is given]"),
        _option("-n", "--operations", type=Number(1, 10**9),
                help="Number of operations of a run, over all workers."),
        _option("--rate", type=Number(0, 10**7, whole=False, above=True), metavar="N",
                help="Open-loop arrival rate, in operations per second.  [default: closed loop]"),
        _option("--warmup", type=Number(0, 3600, whole=False), default=0, metavar="SECONDS",
                help="Warm-up before the measurement, in seconds. Anomalies in it are counted.  [default: 0]"),
        _option("--protocol", type=click.Choice(["simple", "prepared", "pipelined"]),
                help="Query protocol, as in pgbench. 'pipelined' sends statements together where none needs an "
                "earlier answer.  [default: prepared; behind a pooler that shares sessions, simple]"),
        _option("--connections-per-worker", type=Number(1, 1000), default=1, show_default=True,
                help="Number of connections that each worker process drives."),
        _option("--think", type=_MS, default=0, metavar="MS",
                help="Delay between the read and the insert, in milliseconds.  [default: 0]"),
        _option("--hold", type=_MS, default=0, metavar="MS",
                help="Delay between the insert and the commit, in milliseconds.  [default: 0]"),
        _option("--long", type=PercentAndMs(), default=(0.0, 0.0), metavar="PERCENT:MS",
                help="Percentage of transactions with another delay before the commit, and that delay in "
                "milliseconds."),
        _option("--rollback", type=_PERCENT, default=0, metavar="PERCENT",
                help="Percentage of transactions that roll back instead of committing.  [default: 0]"),
        _option("--jitter", type=_MS, default=0, metavar="MS",
                help="Longest random delay of a worker's start, in milliseconds.  [default: 0]"),
        _option("--tenants", type=Number(1, 65_535), default=1, show_default=True,
                help="Number of tenants, each with its own counter."),
        _option("--fault", "faults", multiple=True, metavar="FAULT",
                help="Fault to inject: cut-after-commit:1%, cut-before-commit:1%, cut:2%, stall:200ms:1%, "
                "latency:5ms+-2ms, 'terminate-backend:every 500ms', crash-server:once or none. Can be repeated.  "
                "[default: the scenario's]"),
        _option("--idle-in-transaction", type=Number(0, _DAY, whole=False), default=0, metavar="SECONDS",
                help="Keep another session idle in a transaction that has an xid, for so many seconds from the start; "
                "it rolls back then, or when the load has ended.  [default: 0]"),
        _option("--seed", type=_SEED,
                help="Seed of all random choices.  [default: random; it is printed and saved]"),
        _option("--poll-interval", section=Section.CONSUMERS, type=_MS, default=1, show_default=True, metavar="MS",
                help="Pause of a consumer between two polls, in milliseconds."),
        _option("--batch", section=Section.CONSUMERS, type=Number(1, 10**6), default=1000, show_default=True,
                help="Most rows that a consumer reads in one poll (its LIMIT)."),
    )  # fmt: skip


def step_timeout() -> Decorator[Any]:
    """--step-timeout, as a value of its own."""
    return _option(
        "--step-timeout", type=_SECONDS, default=10, show_default=True, metavar="SECONDS",
        help="Limit for a step that is not blocked by another session, in seconds.",
    )  # fmt: skip


def oracle() -> Decorator[Any]:
    """--oracle and --allow: what makes a schedule wrong, as an OracleOptions."""
    return _as_one(
        "oracle",
        "OracleOptions",
        Section.SCHEDULES,
        _option("--oracle", type=click.Choice(["state", "returns", "answers"]),
                help="What of a schedule must be as in a serial order, whatever invariants say: the tables (state), "
                "what the calls return too (returns), or also every answer of the server (answers).  [default: "
                "returns, for your own code without an --invariant]"),
        _option("--allow", metavar="KINDS",
                help="Anomalies that are not wrong, as a list such as non-serializable,refused."),
    )  # fmt: skip


def simulated_pooler() -> Decorator[Any]:
    """--pooler and --pool-size of the commands that simulate a pooler, as a PoolerOptions."""
    return _as_one(
        "simulated",
        "PoolerOptions",
        Section.SCHEDULES,
        _option("--pooler", type=click.Choice(["session", "transaction", "statement"]),
                help="Simulate a pooler before the sessions: PgBouncer's rule of this mode decides on which server "
                "session each transaction runs. For scripts.  [default: none, each session has its own]"),
        _option("--pool-size", type=Number(1, MOST_EXPLORED_SESSIONS),
                help="With --pooler: the most server sessions; with fewer than sessions, these wait for one.  "
                "[default: as many as sessions]"),
    )  # fmt: skip


def exploration() -> Decorator[Any]:
    """Which schedules are explored, as an ExplorationOptions."""
    return _as_one(
        "exploration",
        "ExplorationOptions",
        Section.SCHEDULES,
        _option("--sessions", type=Number(1, MOST_EXPLORED_SESSIONS), old=("-n",),
                help="Number of sessions that run the strategy at the same time.  [default: 2, or as many as calls, "
                "programs or requests]"),
        _option("--consumer", section=Section.CONSUMERS, metavar="NAME", shell_complete=completion.consumers,
                help="Consumer that polls as one more session.  [default: none]"),
        _option("--polls", section=Section.CONSUMERS, type=Number(1, 20), default=3, show_default=True,
                help="Number of the consumer's polls."),
        _option("--crash", type=Number(0, MOST_CUT), is_flag=False, flag_value=1, default=0, metavar="[N]",
                help="Also cut a connection at any step, before or after the server did the work: N in a schedule (1 "
                "if none is given)."),
        _option("--no-reduction", is_flag=True,
                help="Run every schedule, including those that are equivalent to another."),
        _option("--budget", type=Limit(_DAY), metavar="SECONDS",
                help="Time limit for each strategy, in seconds, or 'unlimited': half for the exhaustive search, the "
                "rest for random schedules if it did not finish.  [default: 60; after an anomaly, 400 schedules]"),
        _option("--max-schedules", type=Number(1, 10**9),
                help="Limit on the number of schedules, instead of --budget's default and divided in the same way."),
        _option("--depth", type=Number(1, 9), default=3, show_default=True,
                help="Depth of the bugs that random schedules find with a stated probability."),
        _option("--seed", type=_SEED,
                help="Seed of the random schedules.  [default: random; it is printed and saved]"),
        _option("--draws", type=Number(1, 100_000), default=1, show_default=True,
                help="Number of choices of random numbers to explore, if scripts or calls draw any."),
        step_timeout(),
        _option("--stop-at-first", is_flag=True, help="Stop at the first schedule with an anomaly."),
        _option("--jobs", section=Section.MACHINES, type=Number(1, MOST_JOBS),
                help="Number of processes among which a search is divided, each with an embedded server of its own. "
                "They start when a search lasts.  [default: as many as cores are idle when a search has lasted 3 s; "
                "with --scheduler, this one and one on each machine]"),
    )  # fmt: skip


def comparison() -> Decorator[Any]:
    """How strategies are compared, as a ComparisonOptions."""
    return _as_one(
        "comparison",
        "ComparisonOptions",
        Section.COMPARISON,
        _option("--rounds", type=Number(2, 1000), default=7, show_default=True,
                help="Number of rounds. Each round runs every strategy once."),
        _option("--reference", metavar="NAME", shell_complete=completion.strategies,
                help="Strategy that the others are compared with.  [default: the one that the scenario advises, else "
                "the first correct one]"),
        _option("--margin", type=Percent(), default=5, show_default=True, metavar="PERCENT",
                help="Difference in throughput up to which two strategies count as the same."),
        _option("--baseline", metavar="NAME|FILE",
                help="Compare with an earlier, saved result, and exit with code 3 for a new anomaly."),
        _option("--fail-slower", type=Percent(), metavar="PERCENT",
                help="With --baseline: exit with code 4 if a strategy is slower by more than this."),
        _option("--save-baseline", metavar="NAME", help="Save the result as a baseline, in the results folder."),
    )  # fmt: skip


def target(*, keep: bool = False, pooler: bool = False, standby: bool = False) -> Decorator[Any]:
    """Which server, as a TargetOptions. `keep`: with --keep, `pooler`: with --pooler; `standby`: with a standby's."""
    declarations = [
        _option("--server", type=click.Choice(["18", "16"]), default="18", show_default=True,
                help="PostgreSQL version of the embedded server."),
        _option("--dsn", envvar="RACEBENCH_DSN", show_envvar=True, metavar="DSN",
                help="Connection string of your own server, used instead of the embedded one."),
        _option("--superuser", is_flag=True,
                help="Connect to the embedded server as a superuser.  [default: as an ordinary role]"),
        _option("--give-up-after", type=Number(1, 86_400, whole=False), default=GIVE_UP_SECONDS, metavar="SECONDS",
                help="Limit without an answer from the server, or, under load, without an operation that ends, in "
                "seconds; the verdict is UNKNOWN.  [default: 300]"),
    ]  # fmt: skip
    if pooler:
        declarations.append(
            _option("--pooler", type=click.Choice(["session", "transaction", "statement"]), metavar="MODE",
                    help="Pool mode of a PgBouncer that is started before the server, for the sessions of workers: "
                    "session, transaction or statement. PgBouncer must be installed.  [default: no pooler]")
        )  # fmt: skip
    if keep:
        declarations.append(
            _option("--keep", is_flag=True, help="Keep the schema after the run, and print its name. Needs --dsn.")
        )
    if standby:
        declarations += _standby()
    return _as_one("target", "TargetOptions", Section.SERVER, *declarations)


def machines(*, workers: bool = False) -> Decorator[Any]:
    """Other machines, as a MachineOptions. `workers`: the command has workers, which are spread over them."""
    declarations = [
        _option("--scheduler", metavar="ADDRESS",
                help="Dask scheduler whose workers are the machines to use: tcp://HOST:PORT, tls://HOST:PORT, or local "
                "to start one here.  [default: this machine, without Dask]"),
    ]  # fmt: skip
    if workers:
        declarations.append(
            _option("--workers-per-machine", type=Number(1, MOST_WORKERS), metavar="N",
                    help="Most worker processes on one machine.  [default: spread evenly over all machines]")
        )  # fmt: skip
    return _as_one("machines", "MachineOptions", Section.MACHINES, *declarations)


def _standby() -> tuple[Decorator[Any], ...]:
    section = Section.CONSUMERS
    return (
        _option("--standby", section=section, is_flag=True,
                help="Start a hot standby of the embedded server; consumers read there, and on the primary as well."),
        _option("--standby-delay", section=section, type=Number(0, MINUTE_MS), default=0, metavar="MS",
                help="With --standby: delay with which the standby replays each commit, in milliseconds.  "
                "[default: 0]"),
        _option("--consumer-dsn", section=section, metavar="DSN",
                help="With --dsn: connection string of a hot standby of that server; consumers read there, and on the "
                "primary as well."),
    )  # fmt: skip


def json_option() -> Decorator[Any]:
    """--json, as a value of its own."""
    return _option(
        "--json", "json_path", metavar="PATH", shell_complete=completion.files,
        help="Write the results as JSON; '-' writes only that to stdout.",
    )  # fmt: skip


def output(
    *,
    report_formats: tuple[str, ...] = formats.OF_RUNS,
    history: str | None = None,
    markdown: bool = False,
    live: str | None = None,
) -> Decorator[Any]:
    """Where results go, as an OutputOptions. `history`: the command's default, as the help says it; None: without.

    `live`: what --live shows of each strategy, as the help says it; None: without.
    """
    declarations = [
        json_option(),
        _option("--results", default="results", show_default=True, metavar="DIR", shell_complete=completion.folders,
                help="Folder in which results are saved."),
        _option("--no-save", is_flag=True, help="Do not save results in that folder."),
    ]  # fmt: skip
    if history is not None:
        declarations.append(
            _option("--history/--no-history", default=None,
                    help=f"Keep the history of each run, for `racebench check`.  [default: {history}]")
        )  # fmt: skip
    declarations.append(
        _option("--report", "reports", multiple=True, type=FormatAndPath(report_formats, formats.RENAMED),
                metavar="FORMAT=PATH",
                help="Write the results in another format; PATH '-' writes only that to stdout. FORMAT is "
                    f"{', '.join(report_formats)}. Can be repeated.")
    )  # fmt: skip
    if markdown:
        declarations.append(_MARKDOWN)
    declarations.append(progress_option(section=Section.OUTPUT))
    if live is not None:
        declarations.append(
            _option("--live", is_flag=True,
                    help=f"Show on a terminal, while the command works, of each strategy {live}. Elsewhere progress is "
                    "shown as without --live.")
        )  # fmt: skip
    return _as_one("output", "OutputOptions", Section.OUTPUT, *declarations)


def verbose() -> Decorator[Any]:
    """--verbose, as a value of its own."""
    return _option(
        "-v", "--verbose", section=Section.OUTPUT, is_flag=True,
        help="Print a paragraph for every strategy, and how closely the workers began and who used the CPU.",
    )  # fmt: skip


def format_shortcuts() -> Decorator[Any]:
    """The options that are short for a format and a file, as `shortcuts`: the given paths by the format's name."""
    short = [format_ for format_ in formats.FORMATS.values() if format_.option]

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def with_shortcuts(**parameters: Any) -> object:
            paths = {format_.name: parameters.pop(format_.option.removeprefix("--")) for format_ in short}
            return command(shortcuts={name: path for name, path in paths.items() if path}, **parameters)

        decorated: Any = with_shortcuts
        for format_ in reversed(short):
            decorated = _option(
                format_.option, metavar="PATH", shell_complete=completion.files, help=format_.option_help
            )(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def gates(*, expect: bool = True, threshold: bool = False) -> Decorator[Any]:
    """What makes a command exit with 3, 4 or 5, as a GateOptions."""
    declarations = [_FAIL_ON]
    if expect:
        declarations.append(_EXPECT)
    if threshold:
        declarations.append(_THRESHOLD)
    return _as_one("gates", "GateOptions", Section.CI, *declarations)
