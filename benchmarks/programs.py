"""The measured programs: an embedded server, pgbench, racebench's command, and others.

The functions start a program, wait for it and clean up after it. The benchmarks interpret the figures.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psycopg
from psycopg import sql

from benchmarks.measurement import ROOT
from racebench.core.model import Scenario, Strategy
from racebench.postgres import environment
from racebench.postgres.embedded import DEFAULT_VERSION, EmbeddedServer, wheel_programs

#: The values racebench gives a script's variables by default, for `pgbench --define`.
DEFINED = {"tenant": 1, "operation": 0, "think": 0, "hold": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server for all contestants. `dsn`: its libpq DSN. `programs`: the folder of its clients."""

    dsn: str
    programs: Path
    description: Mapping[str, Any]

    def connect(self, schema: str | None = None) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect in autocommit mode, with the schema as the search path."""
        options = {} if schema is None else {"options": f"-c search_path={schema}"}
        return psycopg.connect(self.dsn, autocommit=True, **options)  # type: ignore[arg-type]  # options is a text

    @property
    def environment(self) -> dict[str, str]:
        """libpq's variables for this server; the user's other variables are removed."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "RACEBENCH_DSN"))}
        parameters = psycopg.conninfo.conninfo_to_dict(self.dsn)
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
        return {**own, **{variable: str(parameters[name]) for name, variable in names.items()}, "PGSSLMODE": "disable"}


@contextlib.contextmanager
def running_server(*, connections: int = 80) -> Iterator[Server]:
    """An embedded server for a benchmark."""
    with EmbeddedServer(connections=connections) as target:
        yield Server(
            dsn=" ".join(f"{name}={value}" for name, value in target.parameters.items()),
            programs=wheel_programs(DEFAULT_VERSION),
            description=environment.describe(target),
        )


@contextlib.contextmanager
def fresh_schema(server: Server, scenario: Scenario, strategy: Strategy) -> Iterator[str]:
    """A schema with a strategy's DDL, as racebench creates it; dropped afterwards."""
    schema = f"benchmark_{secrets.token_hex(6)}"
    with server.connect(schema) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        try:
            for part in (*scenario.schema, *strategy.schema):
                connection.execute(part.text.encode())
            yield schema
        finally:
            drop_schema(server, schema)


def drop_schema(server: Server, schema: str) -> None:
    """Drop a schema and everything in it."""
    with server.connect() as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def settle(server: Server) -> None:
    """Bring the server to the same state before each measurement: no dirty pages, nothing to vacuum."""
    with server.connect() as connection:
        connection.execute("CHECKPOINT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The result of a program: its stdout, elapsed seconds and CPU seconds."""

    stdout: str
    seconds: float
    cpu_s: float


def run_program(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Finished:
    """Run a program to its end; its CPU time includes that of its child processes.

    Raises click.ClickException with its output if it fails.
    """
    said = subprocess.PIPE
    begin = time.perf_counter()
    with subprocess.Popen([str(part) for part in command], stdout=said, stderr=said, env=env, cwd=cwd) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        # Neither side writes enough to stderr to fill a pipe while stdout is read.
        out, err = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begin
    if process.returncode != 0:
        last = (err or out).decode(errors="replace").strip()[-2000:]
        raise click.ClickException(f"{Path(command[0]).name} ended with {process.returncode}: {last}")
    return Finished(
        stdout=out.decode(errors="replace"),
        seconds=seconds,
        cpu_s=usage.ru_utime + usage.ru_stime,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFigures:
    """Committed transactions, their rate, and the load generator's CPU time for each (None: not known)."""

    throughput_per_s: float
    transactions: int
    client_cpu_us: float | None
    seconds: float


def pgbench(
    server: Server,
    schema: str,
    script: Path,
    *,
    clients: int,
    threads: int,
    length: Sequence[str],
    extra: Sequence[str] = (),
    cwd: Path = ROOT,
) -> LoadFigures:
    """Run `pgbench --protocol=prepared` on a script; `length` is its -T or -t. Connecting is not counted in its rate.

    Its CPU time is the whole process's, the few milliseconds of its start included.
    Raises click.ClickException if a client was aborted: pgbench would still print a rate.
    """
    command = [str(server.programs / "pgbench"), "--no-vacuum", "--protocol=prepared", f"--file={script}"]
    command += [f"--define={name}={value}" for name, value in DEFINED.items()]
    command += [f"--client={clients}", f"--jobs={threads}", *length, *extra]
    done = run_program(command, env={**server.environment, "PGOPTIONS": f"-c search_path={schema}"}, cwd=cwd)
    transactions = int(_search(r"actually processed: (\d+)", done.stdout))
    return LoadFigures(
        throughput_per_s=float(_search(r"tps = ([\d.]+) \(without initial connection time\)", done.stdout)),
        transactions=transactions,
        client_cpu_us=done.cpu_s / transactions * 1e6 if transactions else None,
        seconds=done.seconds,
    )


def _search(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise click.ClickException(f"pgbench did not say {pattern}: {text[-500:]}")
    return match[1]


def pgbench_version(server: Server) -> str:
    """pgbench's version, as 18.4."""
    return run_program([server.programs / "pgbench", "--version"]).stdout.split()[-1]


def racebench_command() -> list[str]:
    """The racebench command: the script beside this interpreter, or the module if it is not installed."""
    script = Path(sys.executable).with_name("racebench")
    return [str(script)] if script.exists() else [sys.executable, "-m", "racebench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One `racebench run`: the run in its JSON document, and the seconds from the start to the end of the command."""

    run: Mapping[str, Any]
    seconds: float

    @property
    def load_figures(self) -> LoadFigures:
        """Its result as a load generator; the CPU time is that of the workers from the common start on."""
        committed = int(self.run["counts"]["committed"])
        cpu = (self.run.get("cpu") or {}).get("client_s")
        return LoadFigures(
            throughput_per_s=float(self.run["throughput_per_s"]),
            transactions=committed,
            client_cpu_us=cpu / committed * 1e6 if cpu is not None and committed else None,
            seconds=self.seconds,
        )


def racebench_run(*arguments: str | Path, server: Server | None, env: Mapping[str, str] | None = None) -> Ran:
    """Run `racebench run` with one strategy on a server (None: its own) and read the run from its JSON."""
    target = [] if server is None else ["--dsn", server.dsn]
    command = [*racebench_command(), "run", *arguments, *target, "--no-save", "--json", "-"]
    own = {name: value for name, value in os.environ.items() if name != "RACEBENCH_DSN"}
    done = run_program(command, env={**own, **(env or {})})
    (run,) = json.loads(done.stdout)["runs"]
    return Ran(run=run, seconds=done.seconds)
