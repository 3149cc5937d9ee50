"""Start times: of the command, the embedded server, the workers, the first operation, and of whole commands.

The contestants of each group alternate. The server is compared with initdb and pg_ctl of the same binaries, with the
same settings, run as the same user in another folder: with initdb, as each start of the embedded server has new data,
and without. The first start on a machine also creates the template that data directories are unpacked from.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks import knowing
from benchmarks.measurement import (
    Document,
    Table,
    aim,
    alternating,
    document,
    figure,
    finish,
    numbers,
    options,
    progress,
    ratios,
    sample,
    spread,
)
from benchmarks.programs import racebench_command, racebench_run, run_program
from racebench.postgres import environment
from racebench.postgres.embedded import (
    DEFAULT_VERSION,
    EmbeddedServer,
    server_folder,
    server_programs,
    start_program,
)
from racebench.postgres.embedded.programs import give_to_server_user
from racebench.postgres.embedded.server import SETTINGS

METHODS = ("spawn", "forkserver", "fork", "early fork")
#: The largest ratio of the embedded server's start, by what it is compared with.
_AIMS = {"initdb + pg_ctl -w start": 0.2, "pg_ctl -w start": 0.5}

_FIRST_OPERATION = Path(__file__).with_name("scripts") / "first-operation"
_CACHE = "RACEBENCH_CACHE_DIR"

#: What one contestant did in one round: figures by name.
Figures = dict[str, float | None]


@contextlib.contextmanager
def _cache() -> Iterator[Path]:
    """A cache folder for the benchmark that the server's user can reach; this process uses it meanwhile."""
    before = os.environ.get(_CACHE)
    with tempfile.TemporaryDirectory(prefix="racebench-start-") as folder:
        Path(folder).chmod(0o755)
        os.environ[_CACHE] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop(_CACHE)
            if before is not None:
                os.environ[_CACHE] = before


def _forget_template() -> None:
    """Keep only the programs (copied for root only): the next start is the first on a machine."""
    (server_folder(DEFAULT_VERSION) / "template.tar").unlink(missing_ok=True)


def _embedded() -> Figures:
    """Start an embedded server; return the milliseconds until it accepts connections."""
    begin = time.perf_counter()
    with EmbeddedServer(connections=8):
        return {"ms": (time.perf_counter() - begin) * 1e3}


def _postgres(command: Sequence[str], folder: Path) -> float:
    """Run one of PostgreSQL's programs as the server's user; return the milliseconds."""
    begin = time.perf_counter()
    with (folder / "said").open("wb") as output:
        code = start_program(list(command), cwd=folder, output=output).wait()
    if code != 0:
        words = "\n".join(path.read_text() for name in ("said", "log") if (path := folder / name).exists())
        raise click.ClickException(f"{Path(command[0]).name} failed: {words[-1000:]}")
    return (time.perf_counter() - begin) * 1e3


def _by_hand(folder: Path, *, fresh: bool, more: Sequence[str] = ()) -> Figures:
    """(initdb and) pg_ctl -w start, with the embedded server's settings; it is stopped again, which is not counted."""
    programs = server_programs(DEFAULT_VERSION)
    data = folder / "data"
    taken = 0.0
    if fresh:
        shutil.rmtree(data, ignore_errors=True)
        initdb = [
            str(programs / "initdb"),
            "-D",
            str(data),
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
        ]
        taken = _postgres([*initdb, *more], folder)
    settings = {**SETTINGS, "max_connections": "100", "unix_socket_directories": str(folder)}
    del settings["min_wal_size"]  # initdb's own WAL segments are larger than the template's, and would not fit in it
    options = " ".join(f"-c {name}={value or repr('')}" for name, value in settings.items())
    pg_ctl = [str(programs / "pg_ctl"), "-D", str(data), "-w"]
    taken += _postgres([*pg_ctl, "-l", str(folder / "log"), "-o", options, "start"], folder)
    _postgres([*pg_ctl, "-m", "fast", "stop"], folder)
    return {"ms": taken}


def _servers(rounds: int, tell: Callable[[str], None]) -> dict[str, list[Figures]]:
    """Start the embedded server and its alternatives `rounds` times each."""
    with _cache(), tempfile.TemporaryDirectory(prefix="racebench-by-hand-") as name:
        folder = Path(name)
        give_to_server_user(folder)
        server_programs(DEFAULT_VERSION)  # copied now, for root: initdb and pg_ctl are found installed too

        def first() -> Figures:
            _forget_template()
            return _embedded()

        contestants = {
            "embedded, first on the machine": first,
            "embedded": _embedded,
            "initdb + pg_ctl -w start": lambda: _by_hand(folder, fresh=True),
            "initdb --no-sync + pg_ctl -w start": lambda: _by_hand(folder, fresh=True, more=["--no-sync"]),
            "pg_ctl -w start": lambda: _by_hand(folder, fresh=False),
        }
        _embedded()
        _by_hand(folder, fresh=True)
        return _rounds(contestants, rounds, tell)


def _commands(rounds: int, tell: Callable[[str], None]) -> dict[str, list[Figures]]:
    """The most frequent commands, and the import that they all need."""
    racebench = racebench_command()
    contestants = {
        "python -c 'import click'": [sys.executable, "-c", "import click"],
        "racebench --help": [*racebench, "--help"],
        "racebench list": [*racebench, "list"],
    }

    def timed(command: Sequence[str]) -> Callable[[], Figures]:
        def run() -> Figures:
            done = run_program(command)
            return {"ms": done.seconds * 1e3, "cpu_ms": done.cpu_s * 1e3}

        return run

    measurements = {name: timed(command) for name, command in contestants.items()}
    for run in measurements.values():
        run()  # bytecode is compiled once
    return _rounds(measurements, rounds, tell)


def _first_operation() -> Figures:
    """Time from the start of `racebench run` to its first operation, by the clock; spread of the workers' starts."""
    begin = time.time()
    ran = racebench_run(str(_FIRST_OPERATION), "-w", "8", "-n", "80", "--seed", "1", server=None)
    return {
        "ms": (ran.run["measures"]["first"] - begin) * 1e3,
        "whole_ms": ran.seconds * 1e3,
        "start_spread_us": ran.run.get("start_spread_us"),
    }


def _runs(rounds: int, tell: Callable[[str], None]) -> dict[str, list[Figures]]:
    """`racebench run` from the start of the command to the first operation."""
    with _cache():

        def first() -> Figures:
            shutil.rmtree(server_folder(DEFAULT_VERSION))
            return _first_operation()

        _first_operation()
        contestants = {"first on the machine": first, "later": _first_operation}
        return _rounds(contestants, rounds, tell)


def _pools(counts: Sequence[int], rounds: int, tell: Callable[[str], None]) -> dict[str, list[Figures]]:
    """Start workers by each start method, each time from a new process."""

    def timed(method: str, count: int) -> Callable[[], Figures]:
        command = [sys.executable, "-m", "benchmarks.pool", method, str(count)]
        return lambda: {"ms": float(run_program(command).stdout)}

    return _rounds({f"{method}, {n} workers": timed(method, n) for n in counts for method in METHODS}, rounds, tell)


def _knowing(rounds: int, tell: Callable[[str], None]) -> dict[str, list[Figures]]:
    """Whole commands, with a server that has been started on the machine before."""
    with _cache(), knowing.measurements() as measurements:
        for run in measurements.values():
            run()
        return _rounds(measurements, rounds, tell)


def _rounds(
    contestants: Mapping[str, Callable[[], Figures]], rounds: int, tell: Callable[[str], None]
) -> dict[str, list[Figures]]:
    runs_of: dict[str, list[Figures]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in alternating(list(contestants), number):
            tell(name)
            runs_of[name].append(contestants[name]())
    return runs_of


def _cell(group: str, runs_of: Mapping[str, Sequence[Figures]]) -> dict[str, Any]:
    """A group as it is saved: the figures of every contestant as samples."""
    return {
        "group": group,
        "contestants": {
            name: {what: sample([run[what] for run in runs]) for what in runs[0]} for name, runs in runs_of.items()
        },
    }


def tables(measured: Document) -> list[Table]:
    """One table for each group."""
    groups = {cell["group"]: cell["contestants"] for cell in measured["cells"]}
    show = {
        "knowing": knowing.table,
        "commands": _command_table,
        "servers": _server_table,
        "runs": _run_table,
        "pools": _pool_table,
    }
    return [show[name](groups[name]) for name in show if name in groups]


def _command_table(contestants: Mapping[str, Any]) -> Table:
    base = contestants["python -c 'import click'"]
    return Table(
        title="The command",
        columns=("command", "ms", "ms / import", "CPU ms", "CPU / import"),
        rows=tuple(
            (
                f"`{name}`",
                spread(figures["ms"]),
                spread(ratios(figures["ms"], base["ms"])),
                spread(figures["cpu_ms"]),
                spread(ratios(figures["cpu_ms"], base["cpu_ms"])),
            )
            for name, figures in contestants.items()
        ),
        notes=(
            aim(
                "`--help`, ratio to the import",
                ratios(contestants["racebench --help"]["ms"], base["ms"])["median"],
                most=1.3,
            ),
        ),
    )


def _server_table(contestants: Mapping[str, Any]) -> Table:
    return Table(
        title="The server, until it accepts connections",
        columns=("how", "ms"),
        rows=tuple((name, spread(figures["ms"])) for name, figures in contestants.items()),
        notes=tuple(
            aim(
                f"Embedded, ratio to {other}",
                ratios(contestants["embedded"]["ms"], contestants[other]["ms"])["median"],
                most=most,
            )
            for other, most in _AIMS.items()
            if "embedded" in contestants  # figures from before each start had new data have other names
        ),
    )


def _run_table(contestants: Mapping[str, Any]) -> Table:
    apart = [*contestants.values()][-1]["start_spread_us"]["median"]
    return Table(
        title="`racebench run` with 8 workers: from the start to the first operation",
        columns=(
            "server",
            "ms to the first operation",
            "ms to the end (80 operations)",
            "spread of the workers' starts, µs",
        ),
        rows=tuple(
            (name, *(spread(figures[what]) for what in ("ms", "whole_ms", "start_spread_us")))
            for name, figures in contestants.items()
        ),
        notes=(aim("Spread of the starts of 8 workers, µs", apart, most=1000),),
    )


def _pool_table(contestants: Mapping[str, Any]) -> Table:
    return Table(
        title="Worker processes, until all have answered",
        columns=("start method", "ms", "ms a worker"),
        rows=tuple(
            (name, spread(figures["ms"]), figure(_each(figures["ms"]["median"], int(name.split()[-2]))))
            for name, figures in contestants.items()
        ),
    )


def _each(total: float | None, count: int) -> float | None:
    return None if total is None else total / count


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@options("start", rounds=10)
@click.option(
    "--command-rounds",
    type=click.IntRange(1),
    default=40,
    show_default=True,
    help="Rounds of the short commands, such as --help.",
)
@click.option("--workers", callback=numbers, default="8,64", show_default=True, help="Numbers of worker processes.")
def main(*, rounds: int, command_rounds: int, workers: tuple[int, ...], output: Path) -> None:
    """Measure, print, write."""
    total = 3 * command_rounds + (len(knowing.CONTESTANTS) + 2 + 5 + 2 + len(METHODS) * len(workers)) * rounds
    with progress(total) as tell:
        cells = [
            _cell("knowing", _knowing(rounds, tell)),
            _cell("commands", _commands(command_rounds, tell)),
            _cell("servers", _servers(rounds, tell)),
            _cell("runs", _runs(rounds, tell)),
            _cell("pools", _pools(workers, rounds, tell)),
        ]
    with EmbeddedServer(connections=8) as target:
        server = environment.describe(target)
    measured = document(
        "start",
        rounds=rounds,
        parameters={"command_rounds": command_rounds, "workers": list(workers)},
        server=server,
        cells=cells,
    )
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
