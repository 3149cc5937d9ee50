"""Check a synthetic history once with one tool: `python -m benchmarks.checkers racebench FOLDER`.

Prints the anomalies found, the seconds without imports, and the peak memory of the process as JSON. check.py runs it.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import sys
import time
from pathlib import Path

import click

from benchmarks import synthetic

DATABASE = "history.duckdb"

_SCRIPTS = Path(__file__).with_name("scripts")
TABLE_QUERY = (_SCRIPTS / "check-table.sql").read_text()
QUERY = (_SCRIPTS / "check.sql").read_text()
#: Kinds that the SQL does not count: invariants are not in the records, and deliveries have no order there.
_NOT_COMPARED = ("violations", "out-of-order")


def with_racebench(folder: Path) -> tuple[float, dict[str, int]]:
    """Read the files of a run and check them as a run does; return seconds and counts."""
    from racebench.analysis.checkers import check
    from racebench.history import ROW, History, read_operations
    from racebench.history.logs import read_log
    from racebench.history.spill import mapped

    begin = time.perf_counter()
    log = read_log("cursor", folder / "deliveries", folder / "polls", ordered=True, drained=True, longest_poll_ns=None)
    operations = read_operations(synthetic.files(folder))
    checked = check(History(start=0, operations=operations, rows=mapped(folder / "rows", ROW), logs=(log,)))
    seconds = time.perf_counter() - begin
    findings = {**checked.findings, **checked.logs[0]}
    return seconds, {kind: finding.count for kind, finding in findings.items() if kind not in _NOT_COMPARED}


def with_duckdb(folder: Path) -> tuple[float, dict[str, int]]:
    """Check a DuckDB database with SQL; return seconds and counts."""
    import duckdb

    begin = time.perf_counter()
    with duckdb.connect(str(folder / DATABASE), read_only=True) as connection:
        connection.execute(f"SET temp_directory = '{folder / 'spilled'}'")
        counts = [*connection.execute(TABLE_QUERY).fetchall(), *connection.execute(QUERY).fetchall()]
    return time.perf_counter() - begin, {kind: int(number) for kind, number in counts}


TOOLS = {"racebench": with_racebench, "duckdb": with_duckdb}


def peak_mb(pid: int | str = "self") -> float | None:
    """Peak memory of a process in MB, from Linux's /proc; None for another process on other systems.

    Not ru_maxrss where /proc exists: in a new process it begins at the memory of the process that started it.
    """
    with contextlib.suppress(OSError):
        if (line := re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())) is not None:
            return int(line[1]) / 1024
    if pid != "self":
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main(tool: str, folder: str) -> None:
    """Check, and print."""
    seconds, counts = TOOLS[tool](Path(folder))
    click.echo(json.dumps({"seconds": seconds, "counts": counts, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
