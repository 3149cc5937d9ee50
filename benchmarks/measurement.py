"""Shared by all benchmarks: rounds in alternating order, samples with median and spread, documents, tables.

A document is written as JSON: machine, server, versions, date, options, every round of every cell. Tables are made from
a document alone, so that docs/performance.md can be made again without measuring. programs.py runs the programs.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy
import psycopg

import racebench
from racebench.reports.results.document import now, write_atomically

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"

# With it set, each command compiles racebench's modules of a checkout anew. pip compiles what it installs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])

Document = Mapping[str, Any]


def alternating(contestants: Sequence[_T], number: int) -> list[_T]:
    """The contestants in the order of a round: every other round reversed, every second round rotated by one place.

    So each contestant runs before every other one as often as after it, and a machine that warms up or slows down
    favors none. `number` counts rounds from 0.
    """
    turn = number // 2 % max(1, len(contestants))
    turned = [*contestants[turn:], *contestants[:turn]]
    return turned if number % 2 == 0 else turned[::-1]


def sample(rounds: Sequence[float | None]) -> dict[str, Any]:
    """One figure of one contestant as it is saved: every round, and their median, minimum and maximum.

    A round without a figure is None and ignored; without any figure the three are None.
    """
    known = [value for value in rounds if value is not None]
    return {
        "median": statistics.median(known) if known else None,
        "min": min(known, default=None),
        "max": max(known, default=None),
        "rounds": list(rounds),
    }


def ratios(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Ratio of two samples: the ratio of the medians, and the minimum and maximum ratio within one round."""
    pairs = zip(ours["rounds"], theirs["rounds"], strict=False)
    quotients = [a / b if a is not None and b else None for a, b in pairs]
    quotient = sample(quotients)
    if ours["median"] is not None and theirs["median"]:
        quotient["median"] = ours["median"] / theirs["median"]
    return quotient


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of texts. The first `names` columns are names, the others figures. `notes` follow it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1
    notes: tuple[str, ...] = ()


def figure(value: float | None) -> str:
    """A number with three significant digits; a dash for None."""
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(values: Mapping[str, Any], show: Callable[[float | None], str] = figure) -> str:
    """A sample in a cell: median [least–greatest]; the median alone if there was one round."""
    if values["median"] is None:
        return "–"
    if sum(value is not None for value in values["rounds"]) < 2:
        return show(values["median"])
    return f"{show(values['median'])} [{show(values['min'])}–{show(values['max'])}]"


def aim(text: str, value: float | None, *, least: float | None = None, most: float | None = None) -> str:
    """A line with the aim, the result, and whether the aim was met."""
    limit = f"at least {figure(least)}" if least is not None else f"at most {figure(most)}"
    if value is None:
        return f"{text}: aim {limit}; not measured."
    met = (least is None or value >= least) and (most is None or value <= most)
    return f"{text}: aim {limit}; {figure(value)}, {'met' if met else 'NOT met'}."


def document(
    name: str,
    *,
    rounds: int,
    parameters: Mapping[str, Any],
    server: Mapping[str, Any] | None = None,
    servers: Sequence[Mapping[str, Any]] = (),
    cells: Sequence[Mapping[str, Any]],
    versions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The document of a benchmark. `server`: the description from racebench.postgres.environment.

    `servers`: the descriptions of several servers, in its place.
    """
    return {
        "benchmark": name,
        "created": now(),
        "rounds": rounds,
        "parameters": dict(parameters),
        "machine": _machine(),
        "versions": {
            "racebench": racebench.__version__,
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "psycopg": psycopg.__version__,
            "click": importlib.metadata.version("click"),
            **(versions or {}),
        },
        "server": server,
        **({"servers": [dict(one) for one in servers]} if servers else {}),
        "cells": list(cells),
    }


def _machine() -> dict[str, Any]:
    """The machine, without its name: processor, cores, memory, system."""
    model = platform.processor() or None
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model,
        "cpu_count": os.cpu_count(),
        "memory_gb": round(memory / 2**30, 1),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
    }


def where(measured: Document) -> str:
    """One sentence: date, machine, versions, number of rounds."""
    machine, versions = measured["machine"], measured["versions"]
    servers = measured.get("servers") or ([] if measured["server"] is None else [measured["server"]])
    software = [*(f"PostgreSQL {server['server_version']}" for server in servers), f"Python {versions['python']}"]
    software += [f"{name} {versions[name]}" for name in ("pgbench", "duckdb", "frontrun") if name in versions]
    day = datetime.datetime.fromisoformat(measured["created"]).date()
    rounds = "one round" if measured["rounds"] == 1 else f"medians of {measured['rounds']} rounds [least–greatest]"
    processor = f" ({machine['processor']})" if machine["processor"] else ""
    return (
        f"Measured on {day}: {machine['cpu_count']} cores{processor}, {machine['memory_gb']:g} GB, "
        f"{machine['system']}, {', '.join(software)}; {rounds}."
    )


def markdown(measured: Document, tables: Sequence[Table]) -> str:
    """A document's tables as Markdown, after the sentence that names the machine."""
    return f"{where(measured)}\n\n{tables_as_markdown(tables)}"


def tables_as_markdown(tables: Sequence[Table]) -> str:
    """Tables as Markdown, each under its title."""
    lines: list[str] = []
    for table in tables:
        lines += ["", f"**{table.title}**", ""]
        lines.append("| " + " | ".join(table.columns) + " |")
        lines.append("| " + " | ".join("---" if n < table.names else "---:" for n in range(len(table.columns))) + " |")
        lines += ["| " + " | ".join(row) + " |" for row in table.rows]
        if table.notes:
            lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines).lstrip() + "\n"


def show(measured: Document, tables: Sequence[Table]) -> None:
    """Print a document's tables."""
    from rich.console import Console
    from rich.table import Table as Grid

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    for table in tables:
        grid = Grid(title=table.title, title_justify="left")
        for number, column in enumerate(table.columns):
            grid.add_column(column, justify="left" if number < table.names else "right", overflow="fold")
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid)
        for note in table.notes:
            console.print(note, markup=False)
    console.print(where(measured), markup=False)


def finish(measured: Document, tables: Sequence[Table], output: Path) -> None:
    """Write the document and print its tables."""
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, json.dumps(measured, indent=1, ensure_ascii=False) + "\n")
    show(measured, tables)
    click.echo(f"saved: {output}")


def output_option(name: str) -> Callable[[_Command], _Command]:
    """--output: the file of a benchmark's figures, by default the reference file."""
    return click.option(
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        default=REFERENCE / f"{name}.json",
        show_default=f"results/reference/{name}.json",
        help="File to write the figures to.",
    )


def options(name: str, *, rounds: int) -> Callable[[_Command], _Command]:
    """The options of every benchmark that measures in rounds: --rounds and --output."""

    def decorate(command: _Command) -> _Command:
        command = output_option(name)(command)
        return click.option("--rounds", type=click.IntRange(1), default=rounds, show_default=True)(command)

    return decorate


def cells_option(command: _Command) -> _Command:
    """--cells: measure only some strategies again, and keep the others' figures."""
    return click.option(
        "--cells", multiple=True, help="Only these, SCENARIO or SCENARIO/STRATEGY; the other cells are kept."
    )(command)


def wanted(cells: Sequence[str], scenario: str, strategy: str) -> bool:
    """Whether `--cells` names a strategy; without the option every one is wanted."""
    return not cells or scenario in cells or f"{scenario}/{strategy}" in cells


def with_kept(
    cells: Sequence[str],
    output: Path,
    found: Sequence[Mapping[str, Any]],
    key: Callable[[Mapping[str, Any]], tuple[Any, ...]],
) -> list[Mapping[str, Any]]:
    """The cells that were found and, with `--cells`, the file's others; in the order of their keys."""
    again = {key(cell) for cell in found}
    kept = json.loads(output.read_text(encoding="utf-8"))["cells"] if cells else []
    return sorted([*(cell for cell in kept if key(cell) not in again), *found], key=key)


def numbers(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    """Parse a list of integers such as 1,2,8."""
    try:
        return tuple(int(float(part)) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"'{value}' is not a list of numbers, as 1,2,8") from None


def words(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    """Parse a list of names such as naive,advisory."""
    return tuple(part.strip() for part in value.split(",") if part.strip())


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """Return a function that prints on stderr what has been measured, and the share of the whole."""
    done = 0

    def tell(what: str) -> None:
        nonlocal done
        done += 1
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{done}/{total} {what}", nl=False, err=True)
        elif done == total or done % max(1, total // 20) == 0:
            click.echo(f"{done}/{total} {what}", err=True)

    try:
        yield tell
    finally:
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)
