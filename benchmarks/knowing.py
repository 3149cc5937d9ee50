"""From typing a command to knowing its result: whole commands, as ratios to the import of their libraries.

The unit is a Python that imports what racebench is built on and ends; it runs in the same rounds. A run's pressed time
is taken off. The user's server is one of the machine's (Debian's, else the wheel's 16) over TCP. psql, pgbench and psql
do by hand what `racebench run -n 400` does: a table, 400 transactions of the same script, the query for duplicates.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measurement import Table, aim, ratios, spread
from benchmarks.programs import DEFINED, racebench_command, run_program
from racebench.postgres.embedded import start_program, wheel_programs
from racebench.postgres.embedded.programs import give_to_server_user
from racebench.workloads import catalog

UNIT = "python -c 'import click, psycopg, numpy, rich.console, multiprocess'"
HELP = "racebench --help"
BY_HAND = "psql, pgbench -t 50 -c 8, psql (the user's server)"
_DSN = " --dsn …"
_DUPLICATES = "SELECT tenant, version FROM events GROUP BY tenant, version HAVING count(*) > 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contestant:
    """A racebench command. `pressed_s` of it is the load's own time. `most`: the aim, as a ratio to `base`."""

    arguments: str
    most: float | None = None
    base: str = UNIT
    pressed_s: float = 0.0

    @property
    def command(self) -> list[str]:
        return [*racebench_command(), *self.arguments.split()]


CONTESTANTS = {
    HELP: _Contestant(arguments="--help"),
    "racebench list": _Contestant(arguments="list", most=1.5, base=HELP),
    "racebench show naive": _Contestant(arguments="show naive", most=1.5, base=HELP),
    "racebench run -s naive -w 8 -n 400": _Contestant(arguments="run -s naive -w 8 -n 400 --no-save", most=2.5),
    "racebench run -s naive -w 8 -d 1, less 1 s": _Contestant(
        arguments="run -s naive -w 8 -d 1 --no-save", most=2.0, pressed_s=1.0
    ),
    f"racebench run -s naive -w 8 -n 400{_DSN}": _Contestant(arguments="run -s naive -w 8 -n 400 --no-save"),
    f"racebench run -s naive -w 8 -d 1{_DSN}, less 1 s": _Contestant(
        arguments="run -s naive -w 8 -d 1 --no-save", most=1.6, pressed_s=1.0
    ),
    "racebench explore -s naive": _Contestant(arguments="explore -s naive --no-save", most=1.6),
}


@contextlib.contextmanager
def measurements() -> Iterator[dict[str, Callable[[], dict[str, float | None]]]]:
    """What is measured in a round, by name: functions that return the milliseconds, and those on a CPU."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "RACEBENCH_DSN"))}
    with _users_server() as (programs, dsn), tempfile.TemporaryDirectory() as folder:

        def timed(command: list[str], pressed_s: float = 0.0) -> Callable[[], dict[str, float | None]]:
            def run() -> dict[str, float | None]:
                done = run_program(command, env=environment, cwd=Path(folder))
                return {"ms": (done.seconds - pressed_s) * 1e3, "cpu_ms": done.cpu_s * 1e3}

            return run

        unit = UNIT.partition("'")[2].rstrip("'")
        functions = {UNIT: timed([sys.executable, "-c", unit])}
        for name, contestant in CONTESTANTS.items():
            target = ["--dsn", dsn] if _DSN in name else []
            functions[name] = timed([*contestant.command, *target], contestant.pressed_s)
        functions[BY_HAND] = _by_hand(programs, dsn, Path(folder), timed)
        yield functions


def _by_hand(
    programs: Path, dsn: str, folder: Path, timed: Callable[[list[str]], Callable[[], dict[str, float | None]]]
) -> Callable[[], dict[str, float | None]]:
    scenario = catalog.find_scenario(None)
    strategy = scenario.strategies["naive"]
    schema, script = folder / "schema.sql", folder / "naive.sql"
    ddl = "".join(part.text for part in (*scenario.schema, *strategy.schema))
    schema.write_text(f"DROP TABLE IF EXISTS events CASCADE;\n{ddl}")
    script.write_text(strategy.script.text)
    psql = [str(programs / "psql"), "-X", "-q", dsn]
    pgbench = [str(programs / "pgbench"), "--no-vacuum", "--protocol=prepared", f"--file={script}"]
    pgbench += [f"--define={name}={value}" for name, value in DEFINED.items()]
    pgbench += ["--client=8", "--jobs=8", "--transactions=50", dsn]
    parts = [timed([*psql, "-f", str(schema)]), timed(pgbench), timed([*psql, "-c", _DUPLICATES])]

    def run() -> dict[str, float | None]:
        done = [part() for part in parts]
        return {what: sum(each[what] or 0.0 for each in done) for what in ("ms", "cpu_ms")}

    return run


@contextlib.contextmanager
def _users_server() -> Iterator[tuple[Path, str]]:
    """A server as a user has one, over TCP; the folder of its programs, and its DSN."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    programs = installed[-1].parent if installed else wheel_programs(16)
    with tempfile.TemporaryDirectory(prefix="racebench-users-server-") as name, socket.socket() as probe:
        folder = Path(name)
        give_to_server_user(folder)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        data = str(folder / "data")

        def run(program: str, *arguments: str) -> None:
            command = [str(programs / program), "-D", data, *arguments]
            with (folder / "said").open("wb") as output:
                if start_program(command, cwd=folder, output=output).wait() != 0:
                    raise RuntimeError((folder / "said").read_text())

        run("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale")
        options = f"-h 127.0.0.1 -p {port} -k {folder}"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield programs, f"host=127.0.0.1 port={port} user=postgres dbname=postgres sslmode=disable"
        finally:
            run("pg_ctl", "-w", "-m", "fast", "stop")
            shutil.rmtree(data, ignore_errors=True)


def table(contestants: Mapping[str, Any]) -> Table:
    """The table of the group."""
    unit = contestants[UNIT]
    known = {name: each for name, each in CONTESTANTS.items() if name in contestants}
    return Table(
        title="From typing a command to knowing its result",
        columns=("command", "ms", "ms / import", "CPU ms"),
        rows=tuple(
            (
                name if name == BY_HAND else f"`{name}`",
                spread(figures["ms"]),
                spread(ratios(figures["ms"], unit["ms"])),
                spread(figures["cpu_ms"]),
            )
            for name, figures in contestants.items()
        ),
        notes=tuple(
            aim(
                f"`{name}`, ratio to {'the import' if each.base == UNIT else f'`{each.base}`'}",
                ratios(contestants[name]["ms"], contestants[each.base]["ms"])["median"],
                most=each.most,
            )
            for name, each in known.items()
            if each.most is not None
        ),
    )
