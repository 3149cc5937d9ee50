"""Time until the first duplicate is there, is known, and is reported: racebench compared with pgbench and a query.

Both run the naive strategy's script in a new schema of the same server, in alternating order. The same query finds the
first duplicate in the table: the rows in the order of their ids, up to the second row of the first pair. Its time since
the start is taken from racebench's witness; for pgbench it is the end of the transaction at that position in its --log
(by end; the log does not say which row a transaction wrote).
racebench knows a duplicate while the load goes on (`first_duplicate` of its result), and reports it when its command
ends. pgbench reports only a rate, so a schema must be created, pgbench run, and the table queried (psql). The second
table measures that, from the start of the first command.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.measurement import (
    Document,
    Table,
    alternating,
    document,
    finish,
    numbers,
    options,
    progress,
    sample,
    spread,
)
from benchmarks.programs import (
    DEFINED,
    Server,
    drop_schema,
    fresh_schema,
    pgbench,
    pgbench_version,
    racebench_run,
    run_program,
    running_server,
    settle,
)
from racebench.workloads import catalog

STRATEGY = "naive"
WORKERS = (2, 8)

_FIRST = (Path(__file__).with_name("scripts") / "first-duplicate.sql").read_text()
_SCHEMA = "by_hand"


def _first_duplicate(server: Server, schema: str) -> tuple[int | None, int | None]:
    """The operation that wrote the second row of the first pair, and the number of rows up to it."""
    with server.connect(schema) as connection:
        row = connection.execute(_FIRST.encode()).fetchone()
    return (None, None) if row is None else (int(row[1]), int(row[2]))


def _racebench_finds(server: Server, workers: int, duration: int) -> dict[str, float | None]:
    """Run racebench and query its table; the time is that of the witness, if it shows that pair."""
    load = ("--workers", str(workers), "--duration", str(duration), "--consumer", "none", "--seed", "1")
    ran = racebench_run("--strategy", STRATEGY, *load, "--keep", server=server)
    try:
        operation, position = _first_duplicate(server, ran.run["schema"])
    finally:
        drop_schema(server, ran.run["schema"])
    ends = {
        operation["operation"]: operation["end_us"]
        for witness in ran.run["witnesses"]
        for operation in witness["operations"]
    }
    end_us, known = ends.get(operation), ran.run["first_duplicate"]
    return {
        "operations": position,
        "ms": None if end_us is None else end_us / 1e3,
        "known_ms": None if known is None else known["known_us"] / 1e3,
        "reported_s": ran.seconds,
    }


def _pgbench_finds(server: Server, workers: int, duration: int) -> dict[str, float | None]:
    """Run pgbench, query the table, and find the time in its log."""
    scenario = catalog.find_scenario(None)
    strategy = scenario.strategies[STRATEGY]
    begin = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="racebench-detection-") as folder,
        fresh_schema(server, scenario, strategy) as schema,
    ):
        pgbench(
            server,
            schema,
            strategy.script.path,
            clients=workers,
            threads=workers,
            length=[f"--time={duration}"],
            extra=["--log"],
            cwd=Path(folder),
        )
        _, position = _first_duplicate(server, schema)
        known_us, reported_s = time.time() * 1e6, time.perf_counter() - begin
        begun_us, ended_us = _logged(Path(folder))
    return {
        "operations": position,
        "ms": None if position is None else (ended_us[position - 1] - begun_us) / 1e3,
        "known_ms": None if position is None else (known_us - begun_us) / 1e3,
        "reported_s": reported_s,
    }


def _logged(folder: Path) -> tuple[int, list[int]]:
    """When the first transaction began, and when each ended, in order, by pgbench's logs: microseconds of the clock.

    A line is client, transaction, latency in us, script, and when it ended: seconds and us.
    """
    lines = [line.split() for path in folder.glob("pgbench_log.*") for line in path.read_text().splitlines()]
    transactions = sorted((int(words[4]) * 1_000_000 + int(words[5]), int(words[2])) for words in lines)
    return min(end - latency for end, latency in transactions), [end for end, _ in transactions]


def _racebench_knows(server: Server | None, workers: int, operations: int) -> dict[str, float | None]:
    """The whole command, with a number of operations; on its own server if `server` is None."""
    ran = racebench_run("--strategy", STRATEGY, "-w", str(workers), "-n", str(operations), server=server)
    return {"seconds": ran.seconds, "found": float(ran.run["counts"]["duplicates"] > 0)}


def _pgbench_knows(server: Server, workers: int, operations: int) -> dict[str, float | None]:
    """The commands that do the same: psql for a schema and its tables, pgbench, psql for the query."""
    scenario = catalog.find_scenario(None)
    strategy = scenario.strategies[STRATEGY]
    psql = [str(server.programs / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--set=ON_ERROR_STOP=1"]
    environment = {**server.environment, "PGOPTIONS": f"-c search_path={_SCHEMA}"}
    files = [part.path for part in (*scenario.schema, *strategy.schema)]
    begin = time.perf_counter()
    try:
        run_program([*psql, f"--command=CREATE SCHEMA {_SCHEMA}", *(f"--file={f}" for f in files)], env=environment)
        command = [str(server.programs / "pgbench"), "--no-vacuum", "--protocol=prepared"]
        command += [f"--file={strategy.script.path}", f"--client={workers}", f"--jobs={workers}"]
        command += [f"--define={name}={value}" for name, value in DEFINED.items()]
        run_program([*command, f"--transactions={max(1, operations // workers)}"], env=environment)
        query = "SELECT count(*) - count(DISTINCT (tenant, version)) FROM events"
        duplicates = int(run_program([*psql, f"--command={query}"], env=environment).stdout)
        return {"seconds": time.perf_counter() - begin, "found": float(duplicates > 0)}
    finally:
        drop_schema(server, _SCHEMA)


def tables(measured: Document) -> list[Table]:
    """The tables: time until the first duplicate is there, known and reported; and the commands as a whole."""
    finds, knows = [], []
    for cell in measured["cells"]:
        for tool, figures in cell["finds"].items():
            columns = (spread(figures[name]) for name in ("operations", "ms", "known_ms", "reported_s"))
            finds.append((str(cell["workers"]), tool, *columns))
        for tool, figures in cell["knows"].items():
            rounds: Sequence[float] = figures["found"]["rounds"]
            knows.append(
                (str(cell["workers"]), tool, spread(figures["seconds"]), f"{sum(rounds):.0f} of {len(rounds)}")
            )
    parameters: Mapping[str, Any] = measured["parameters"]
    return [
        Table(
            title=f"The first duplicate of `{STRATEGY}`, load for {parameters['duration_s']} s",
            columns=(
                "workers",
                "tool",
                "rows until it is there",
                "ms until it is there",
                "ms until known",
                "s until reported",
            ),
            rows=tuple(finds),
            names=2,
            notes=(
                "Until it is there: how soon the tool produces the race, from the table after the run.",
                "Known, from the start of the load: by racebench while it goes on, with pgbench by the query after it.",
                "Reported, from the start of the command: at racebench's end, with pgbench when the query is answered.",
            ),
        ),
        Table(
            title=f"From the start of the command to the report, {parameters['operations']} operations",
            columns=("workers", "commands", "seconds", "rounds that found it"),
            rows=tuple(knows),
            names=2,
            notes=(
                "racebench creates a schema, also runs a consumer, checks, shows witnesses and drops the schema; "
                "by hand the commands are psql for the schema, pgbench, and psql for the query, without a pause.",
            ),
        ),
    ]


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@options("detection", rounds=7)
@click.option(
    "--duration",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Duration of a run, in whole seconds, as in pgbench.",
)
@click.option(
    "--operations",
    type=click.IntRange(8),
    default=400,
    show_default=True,
    help="Number of operations in the second table.",
)
@click.option("--workers", callback=numbers, default=",".join(map(str, WORKERS)), show_default=True)
def main(*, rounds: int, duration: int, operations: int, workers: tuple[int, ...], output: Path) -> None:
    """Measure, print, write."""
    finders = {"racebench": _racebench_finds, "pgbench and a query": _pgbench_finds}
    cells = []
    with running_server() as server, progress(rounds * len(workers) * 5) as tell:
        own = "racebench run, starting its own server"
        knowers = {"racebench run --dsn": server, own: None, "psql, pgbench, psql": server}
        for count in workers:
            finds: dict[str, list[dict[str, float | None]]] = {name: [] for name in finders}
            knows: dict[str, list[dict[str, float | None]]] = {name: [] for name in knowers}
            for number in range(rounds):
                for name in alternating(list(finders), number):
                    tell(f"{count} {name}")
                    settle(server)
                    finds[name].append(finders[name](server, count, duration))
                for name in alternating(list(knowers), number):
                    tell(f"{count} {name}")
                    settle(server)
                    if name.startswith("racebench"):
                        knows[name].append(_racebench_knows(knowers[name], count, operations))
                    else:
                        knows[name].append(_pgbench_knows(server, count, operations))
            cells.append({"workers": count, "finds": _samples(finds), "knows": _samples(knows)})
        measured = document(
            "detection",
            rounds=rounds,
            parameters={"strategy": STRATEGY, "duration_s": duration, "operations": operations},
            server=server.description,
            versions={"pgbench": pgbench_version(server)},
            cells=cells,
        )
    finish(measured, tables(measured), output)


def _samples(runs_of: Mapping[str, Sequence[Mapping[str, float | None]]]) -> dict[str, dict[str, Any]]:
    """The rounds of each contestant as one sample for each figure."""
    return {name: {what: sample([run[what] for run in runs]) for what in runs[0]} for name, runs in runs_of.items()}


if __name__ == "__main__":
    main()
