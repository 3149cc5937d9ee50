"""Checking a history: rows a second, peak memory and growth, compared with DuckDB and with SQL on the server.

A synthetic history of each size is written once. Then every tool checks it in alternating rounds, each time in a new
process. racebench reads the files of a run. DuckDB runs equivalent SQL on its own database file, into which the history
was loaded before. The server checks only the table: duplicates, gaps, unnumbered rows. Every tool must find exactly the
anomalies that the history contains.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from psycopg import sql

from benchmarks import synthetic
from benchmarks.checkers import DATABASE, TABLE_QUERY, peak_mb
from benchmarks.measurement import (
    Document,
    Table,
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
from benchmarks.programs import Server, drop_schema, run_program, running_server
from racebench.history import ROW
from racebench.history.records import DELIVERY, NO_VERSION, OPERATION, OPERATION_BITS, outcomes
from racebench.history.spill import mapped, pieces

SIZES = (10**5, 10**6, 10**7)
LARGEST = 10**8

_SERVER_TABLE = "PostgreSQL, the table alone"
_PIECE = 1_000_000
#: One COPY tuple of four bigints that are not NULL; history.table reads the same.
_TUPLE = np.dtype(
    [
        ("fields", ">i2"),
        *((part, code) for n in range(4) for part, code in ((f"length{n}", ">i4"), (f"value{n}", ">i8"))),
    ]
)

#: What one tool did in one round: seconds and MB (None: not known).
Figures = dict[str, float | None]


def _load_duckdb(folder: Path) -> float:
    """Load a history into a DuckDB database; return the seconds."""
    import duckdb

    begin = time.perf_counter()
    with duckdb.connect(str(folder / DATABASE)) as connection:
        connection.execute("CREATE TABLE rows (id BIGINT, tenant BIGINT, version BIGINT, operation BIGINT)")
        connection.execute("CREATE TABLE deliveries (id BIGINT, poll BIGINT)")
        connection.execute(
            "CREATE TABLE operations (id BIGINT, tenant BIGINT, started BIGINT, ended BIGINT, version BIGINT,"
            " outcome VARCHAR, sqlstate VARCHAR)"
        )

        def append(query: str, **columns: Any) -> None:
            table = {name: np.ascontiguousarray(values) for name, values in columns.items()}
            connection.register("piece", table)
            connection.execute(query)
            connection.unregister("piece")

        for part in pieces(mapped(folder / "rows", ROW), _PIECE):
            query = f"INSERT INTO rows SELECT id, tenant, nullif(version, {NO_VERSION}), operation FROM piece"
            append(query, **{name: part[name] for name in ROW.names or ()})
        for part in pieces(mapped(folder / "deliveries", DELIVERY), _PIECE):
            append("INSERT INTO deliveries SELECT id, poll FROM piece", id=part["id"], poll=part["poll"])
        for number, path in synthetic.files(folder).items():
            first = number << OPERATION_BITS
            for part in pieces(mapped(path, OPERATION), _PIECE):
                append(
                    "INSERT INTO operations SELECT id, tenant, started, ended, version,"
                    " ['PENDING', 'OK', 'FAIL', 'UNKNOWN'][outcome + 1], sqlstate FROM piece",
                    id=np.arange(first, first + len(part)),
                    tenant=part["tenant"],
                    started=part["start"],
                    ended=part["end"],
                    version=part["version"],
                    outcome=outcomes(part["status"]),
                    sqlstate=_sqlstates(part["status"]),
                )
                first += len(part)
    return time.perf_counter() - begin


def _sqlstates(status: Any) -> Any:
    """The SQLSTATE of each status as a text, "" for none."""
    from racebench.history.records import decode_status

    codes, where = np.unique(status, return_inverse=True)
    return np.array([decode_status(int(code))[1] for code in codes], object)[where]


@contextlib.contextmanager
def _loaded_table(server: Server, folder: Path) -> Iterator[str]:
    """Load the rows into a table on the server, with the shipped indexes, and analyze it; yield its schema."""
    schema = f"benchmark_{secrets.token_hex(6)}"
    try:
        with server.connect(schema) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            connection.execute(
                "CREATE TABLE rows (id bigint NOT NULL, tenant bigint NOT NULL, version bigint, operation bigint)"
            )
            for part in pieces(mapped(folder / "rows", ROW), _PIECE):
                blank = part["version"] == NO_VERSION
                with connection.cursor().copy("COPY rows FROM STDIN (FORMAT binary)") as copy:
                    copy.write(_as_copy(part[~blank]))
                for row in part[blank].tolist():
                    values = (row[0], row[1], row[3])
                    connection.execute("INSERT INTO rows (id, tenant, operation) VALUES (%s, %s, %s)", values)
            connection.execute("ALTER TABLE rows ADD PRIMARY KEY (id)")
            connection.execute("CREATE INDEX ON rows (tenant, version)")
            connection.execute("VACUUM ANALYZE rows")
        yield schema
    finally:
        drop_schema(server, schema)


def _as_copy(rows: Any) -> bytes:
    """Rows in COPY's binary format."""
    tuples = np.empty(len(rows), _TUPLE)
    tuples["fields"] = 4
    for n, name in enumerate(ROW.names or ()):
        tuples[f"length{n}"] = 8
        tuples[f"value{n}"] = rows[name]
    return b"PGCOPY\n\xff\r\n\0" + bytes(8) + tuples.tobytes() + b"\xff\xff"


def _in_process(tool: str, folder: Path, operations: int) -> Figures:
    """Check in a new process; return its seconds and its peak memory."""
    done = run_program([sys.executable, "-m", "benchmarks.checkers", tool, folder])
    said = json.loads(done.stdout)
    _must_agree(tool, said["counts"], synthetic.expected(operations))
    return {"seconds": said["seconds"], "peak_mb": said["peak_mb"]}


def _on_server(server: Server, schema: str, operations: int) -> Figures:
    """Check the table on the server; return seconds and the session's peak memory (without workers)."""
    with server.connect(schema) as connection:
        begin = time.perf_counter()
        counts = {kind: int(number) for kind, number in connection.execute(TABLE_QUERY.encode()).fetchall()}
        seconds = time.perf_counter() - begin
        peak = peak_mb(connection.info.backend_pid)
    expected = synthetic.expected(operations)
    _must_agree(_SERVER_TABLE, counts, {kind: expected[kind] for kind in ("duplicates", "gaps", "unnumbered")})
    return {"seconds": seconds, "peak_mb": peak}


def _must_agree(tool: str, counts: Mapping[str, int], expected: Mapping[str, int]) -> None:
    if counts != expected:
        raise click.ClickException(f"{tool} found {dict(counts)}, put in were {dict(expected)}")


def tables(measured: Document) -> list[Table]:
    """The table: one line for each size and tool."""
    rows = []
    before: dict[str, Mapping[str, Any]] = {}
    loads = []
    for cell in measured["cells"]:
        size = cell["operations"]
        loads.append(f"{size:,} in {figure(cell['duckdb_load_s'])} s")
        ours = cell["tools"]["racebench"]
        for tool, figures in cell["tools"].items():
            median = figures["seconds"]["median"]
            growth = ratios(figures["seconds"], before[tool])["median"] if tool in before else None
            before[tool] = figures["seconds"]
            rows.append(
                (
                    f"{size:,}",
                    tool,
                    spread(figures["seconds"]),
                    f"{size / median:,.0f}",
                    spread(figures["peak_mb"]),
                    figure(growth),
                    figure(ratios(figures["seconds"], ours["seconds"])["median"]),
                )
            )
    return [
        Table(
            title="Checking a history with a known number of anomalies",
            columns=(
                *("operations", "tool", "seconds", "operations a second", "peak MB", "time / previous size"),
                "time / racebench",
            ),
            rows=tuple(rows),
            names=2,
            notes=(
                "racebench reads a run's files and also finds witnesses; DuckDB counts, in SQL, in a database "
                f"that was loaded before ({'; '.join(loads)}).",
                "PostgreSQL has only the table, and checks three of the nine kinds; its memory is that of the "
                "session's process, with the shared buffers that it touched.",
            ),
        )
    ]


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@options("check", rounds=3)
@click.option(
    "--sizes",
    callback=numbers,
    default=",".join(f"1e{len(str(size)) - 1}" for size in SIZES),
    show_default=True,
    help="Numbers of operations, multiples of 10,000.",
)
@click.option("--largest", is_flag=True, help="Add 1e8 operations; needs 20 GB of disk.")
@click.option(
    "--server-limit",
    default="1e7",
    show_default=True,
    callback=numbers,
    help="Largest number of operations checked on the server.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder for the histories.  [default: the system's]",
)
def main(
    *,
    rounds: int,
    sizes: Sequence[int],
    largest: bool,
    server_limit: Sequence[int],
    folder: Path | None,
    output: Path,
) -> None:
    """Measure, print, write."""
    wanted = sorted({*sizes, *([LARGEST] if largest else [])})
    cells = []
    with running_server() as server, progress(len(wanted) * rounds * 3) as tell:
        for size in wanted:
            with contextlib.ExitStack() as stack:
                name = stack.enter_context(tempfile.TemporaryDirectory(prefix="racebench-check-", dir=folder))
                history = Path(name)
                synthetic.write(history, size)
                load_s = _load_duckdb(history)
                tools: dict[str, Callable[[], Figures]] = {
                    "racebench": partial(_in_process, "racebench", history, size),
                    "DuckDB": partial(_in_process, "duckdb", history, size),
                }
                if size <= server_limit[0]:
                    schema = stack.enter_context(_loaded_table(server, history))
                    tools[_SERVER_TABLE] = partial(_on_server, server, schema, size)
                rounds_of: dict[str, list[Figures]] = {tool: [] for tool in tools}
                for number in range(rounds):
                    for tool in alternating(list(tools), number):
                        tell(f"{size:,} {tool}")
                        rounds_of[tool].append(tools[tool]())
            cells.append(
                {
                    "operations": size,
                    "duckdb_load_s": load_s,
                    "tools": {
                        tool: {what: sample([figures[what] for figures in runs]) for what in ("seconds", "peak_mb")}
                        for tool, runs in rounds_of.items()
                    },
                }
            )
        measured = document(
            "check",
            rounds=rounds,
            parameters={"sizes": wanted, "tenants": synthetic.TENANTS, "sessions": synthetic.SESSIONS},
            server=server.description,
            versions={"duckdb": importlib.metadata.version("duckdb")},
            cells=cells,
        )
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
