"""racebench and pgbench with the same script files: throughput, and the client's CPU time for each transaction.

One cell is a strategy with a number of workers. In every round each contestant runs once, in a new schema on the
same server, in alternating order. pgbench is measured with one thread, with two, and with one for each client; its best
median counts. Recording is on and there is no consumer: the rate is of acknowledged commits.
pgbench ends a client at its first unique violation, so for `unique` both tools run the strategy's script after the
line `\\set tenant :client_id + 1`: no two clients collide.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

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
    words,
)
from benchmarks.programs import (
    LoadFigures,
    Server,
    fresh_schema,
    pgbench,
    pgbench_version,
    racebench_run,
    running_server,
    settle,
)
from racebench.core.model import Scenario, Strategy
from racebench.workloads import catalog

STRATEGIES = ("naive", "unique", "sequence", "identity", "advisory", "upsert")
PIPELINED = ("naive", "unique", "advisory", "upsert")
WORKERS = (1, 2, 4, 8, 32)

_SCRIPTS = Path(__file__).with_name("scripts")
_OWN_TENANT = "\\set tenant :client_id + 1\n"
_AIMS = {"naive": 1.15, "unique": 1.15, "advisory": 1.15, "upsert": 1.05}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A strategy for both tools: the same script file, the same DDL. `folder` is None if it is shipped."""

    scenario: Scenario
    strategy: Strategy
    folder: Path | None

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of `racebench run`."""
        return (*(() if self.folder is None else (str(self.folder),)), "--strategy", self.strategy.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way to run a cell: a tool, its protocol, and for pgbench its threads."""

    tool: str
    how: str
    work: Work
    threads: int | None = None

    @property
    def name(self) -> str:
        """As it is saved: "pgbench prepared -j 2"."""
        return f"{self.tool} {self.how}" + ("" if self.threads is None else f" -j {self.threads}")

    def run_load(self, server: Server, workers: int, duration: int) -> LoadFigures:
        """Run the work once, in a new schema."""
        settle(server)
        if self.tool == "pgbench":
            assert self.threads is not None
            with fresh_schema(server, self.work.scenario, self.work.strategy) as schema:
                script = self.work.strategy.script.path
                length = [f"--time={duration}"]
                return pgbench(server, schema, script, clients=workers, threads=self.threads, length=length)
        load = ["--workers", str(workers), "--duration", str(duration), "--consumer", "none", "--seed", "1"]
        protocol = ["--protocol", "pipelined"] if self.how == "pipelined" else []
        return racebench_run(*self.work.arguments, *load, *protocol, server=server).load_figures


def _works(folder: Path, names: Iterable[str], pipelined: Iterable[str]) -> Mapping[tuple[str, str], Work]:
    """The work by strategy and "plain" or "pipeline"; what is not shipped is written as a scenario folder."""
    shipped = catalog.find_scenario(None)
    works: dict[tuple[str, str], Work] = {}
    scripts: dict[str, str] = {}
    for name in names:
        strategy = catalog.find_strategy(shipped, name)
        if name == "unique":
            scripts[name] = _OWN_TENANT + strategy.script.text
        else:
            works[name, "plain"] = Work(scenario=shipped, strategy=strategy, folder=None)
    for name in pipelined:
        text = (_SCRIPTS / f"{'naive' if name == 'unique' else name}-pipeline.sql").read_text()
        scripts[f"{name}-pipeline"] = (_OWN_TENANT if name == "unique" else "") + text
    if scripts:
        own = _write_scenario(folder, shipped, scripts)
        for name in scripts:
            key = (name.removesuffix("-pipeline"), "pipeline" if name.endswith("-pipeline") else "plain")
            works[key] = Work(scenario=own, strategy=own.strategies[name], folder=folder)
    return works


def _write_scenario(folder: Path, shipped: Scenario, scripts: Mapping[str, str]) -> Scenario:
    """Write a scenario folder with the shipped one's tables and these scripts, and read it."""
    lines = ['summary = "what both tools are given"', 'schema = "schema.sql"', "[rows]", 'table = "events"']
    (folder / "schema.sql").write_text("\n".join(part.text for part in shipped.schema))
    for name, text in scripts.items():
        strategy = shipped.strategies[name.removesuffix("-pipeline")]
        (folder / f"{name}.sql").write_text(text)
        (folder / f"schema-{name}.sql").write_text("\n".join(part.text for part in strategy.schema))
        lines += [f"[strategies.{name}]", f'summary = "{name}"', f'script = "{name}.sql"']
        lines += [f'schema = "schema-{name}.sql"'] if strategy.schema else []
    (folder / "scenario.toml").write_text("\n".join(lines) + "\n")
    return catalog.find_scenario(str(folder))


def _contestants(works: Mapping[tuple[str, str], Work], name: str, workers: int) -> list[Contestant]:
    """The contestants of a cell."""
    plain, pipeline = works[name, "plain"], works.get((name, "pipeline"))
    threads = sorted({count for count in (1, 2, workers) if count <= workers})
    contestants = [Contestant(tool="racebench", how="prepared", work=plain)]
    contestants += [Contestant(tool="pgbench", how="prepared", work=plain, threads=count) for count in threads]
    if pipeline is not None:
        contestants.append(Contestant(tool="racebench", how="pipelined", work=plain))
        contestants.append(Contestant(tool="racebench", how="pipeline script", work=pipeline))
        contestants += [
            Contestant(tool="pgbench", how="pipeline script", work=pipeline, threads=count) for count in threads
        ]
    return contestants


def _measure(
    server: Server, cells: Sequence[tuple[str, int, list[Contestant]]], rounds: int, duration: int
) -> Iterator[dict[str, Any]]:
    """Measure every cell, all its rounds one after the other."""
    with progress(rounds * sum(len(contestants) for _, _, contestants in cells)) as tell:
        for name, workers, contestants in cells:
            figures: dict[str, list[LoadFigures]] = {contestant.name: [] for contestant in contestants}
            for number in range(rounds):
                for contestant in alternating(contestants, number):
                    tell(f"{name} {workers} {contestant.name}")
                    figures[contestant.name].append(contestant.run_load(server, workers, duration))
            yield {
                "strategy": name,
                "workers": workers,
                "contestants": {
                    contestant: {
                        "throughput_per_s": sample([run.throughput_per_s for run in runs]),
                        "client_cpu_us": sample([run.client_cpu_us for run in runs]),
                    }
                    for contestant, runs in figures.items()
                },
            }


def _best(cell: Mapping[str, Any], start: str) -> str | None:
    """The contestant with the best median throughput among those whose name begins with a prefix."""
    names = [name for name in cell["contestants"] if name.startswith(start)]
    return max(names, key=lambda name: cell["contestants"][name]["throughput_per_s"]["median"] or 0, default=None)


def _compared(cell: Mapping[str, Any], ours: str, theirs: str | None, what: str) -> dict[str, Any] | None:
    contestants = cell["contestants"]
    if ours not in contestants or theirs is None:
        return None
    return ratios(contestants[ours][what], contestants[theirs][what])


def tables(measured: Document) -> list[Table]:
    """One table for the prepared protocol, one for pipelines."""
    cells = measured["cells"]
    return [_prepared(cells), *([_pipelined(cells)] if any(_best(cell, "pgbench pipeline") for cell in cells) else [])]


def _prepared(cells: Sequence[Mapping[str, Any]]) -> Table:
    rows, client_ratios, alike = [], [], []
    for cell in cells:
        theirs = _best(cell, "pgbench prepared")
        ratio = _compared(cell, "racebench prepared", theirs, "throughput_per_s")
        threads = _best(cell, f"pgbench prepared -j {cell['workers']}")
        same = _compared(cell, "racebench prepared", threads, "throughput_per_s")
        if theirs is None or ratio is None or same is None:
            continue
        client_ratios.append(ratio["median"])
        alike.append(same["median"])
        racebench, peer = (cell["contestants"][name] for name in ("racebench prepared", theirs))
        rows.append(
            (
                f"`{cell['strategy']}`",
                str(cell["workers"]),
                spread(racebench["throughput_per_s"]),
                f"{spread(peer['throughput_per_s'])} (-j {theirs.rpartition(' ')[2]})",
                spread(ratio),
                spread(same),
                figure(racebench["client_cpu_us"]["median"]),
                figure(peer["client_cpu_us"]["median"]),
            )
        )
    median, threads_median = sample(client_ratios), sample(alike)
    return Table(
        title="One statement at a time (`--protocol prepared`): commits a second, client CPU in µs each",
        columns=(
            "strategy",
            "workers",
            "racebench",
            "pgbench (best threads)",
            "ratio",
            "ratio to -j N",
            "CPU",
            "pgbench's CPU",
        ),
        rows=tuple(rows),
        names=2,
        notes=(
            aim("Median ratio of all cells", median["median"], least=0.95),
            aim("Least ratio of a cell", median["min"], least=0.88),
            "Ratio to -j N: to pgbench with a thread for each client, as racebench has a process for each session; "
            f"its median is {figure(threads_median['median'])}, the least {figure(threads_median['min'])}.",
            "`unique`: both run the script behind `\\set tenant :client_id + 1`, because pgbench ends a client at a "
            "violation.",
            "CPU: of racebench's workers from the common start on, and of the whole pgbench process.",
        ),
    )


def _pipelined(cells: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    ours_by_strategy: dict[str, list[float]] = {}
    scripts: list[float] = []
    for cell in cells:
        prepared, pipeline = (_best(cell, start) for start in ("pgbench prepared", "pgbench pipeline"))
        ratio = _compared(cell, "racebench pipelined", prepared, "throughput_per_s")
        same = _compared(cell, "racebench pipeline script", pipeline, "throughput_per_s")
        best = _compared(cell, "racebench pipelined", pipeline, "throughput_per_s")
        if ratio is None or same is None or best is None or pipeline is None or prepared is None:
            continue
        ours_by_strategy.setdefault(cell["strategy"], []).append(ratio["median"])
        scripts.append(same["median"])
        contestants = cell["contestants"]
        rates = [
            spread(contestants[name]["throughput_per_s"])
            for name in ("racebench pipelined", prepared, "racebench pipeline script", pipeline)
        ]
        rows.append(
            (
                f"`{cell['strategy']}`",
                str(cell["workers"]),
                *rates,
                *(spread(figures) for figures in (ratio, same, best)),
            )
        )
    return Table(
        title="Pipelined: commits a second",
        columns=(
            *("strategy", "workers", "racebench pipelined", "pgbench prepared", "racebench, pipeline script"),
            *("pgbench, pipeline script", "pipelined / pgbench prepared", "same pipeline script"),
            "pipelined / pgbench's script",
        ),
        rows=tuple(rows),
        names=2,
        notes=(
            *(
                aim(
                    f"`{name}`: median of pipelined to pgbench prepared",
                    sample(figures)["median"],
                    least=_AIMS[name],
                )
                for name, figures in ours_by_strategy.items()
            ),
            aim("Median ratio on the same pipeline script", sample(scripts)["median"], least=1.0),
            aim("Least ratio on the same pipeline script", sample(scripts)["min"], least=1.0),
            "racebench pipelined runs the plain script and sends statements together that need no answer; pgbench's "
            "are written by hand (benchmarks/scripts/), and none may contain a `\\gset`.",
        ),
    )


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@options("load", rounds=5)
@click.option(
    "--duration",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Duration of a run, in whole seconds, as in pgbench.",
)
@click.option("--strategies", callback=words, default=",".join(STRATEGIES), show_default=True)
@click.option("--pipelined", callback=words, default=",".join(PIPELINED), show_default=True, help="'' for none.")
@click.option("--workers", callback=numbers, default=",".join(map(str, WORKERS)), show_default=True)
def main(
    *,
    rounds: int,
    duration: int,
    strategies: tuple[str, ...],
    pipelined: tuple[str, ...],
    workers: tuple[int, ...],
    output: Path,
) -> None:
    """Measure, print, write."""
    pipelined = tuple(name for name in pipelined if name in strategies)
    with tempfile.TemporaryDirectory(prefix="racebench-load-") as folder, running_server() as server:
        works = _works(Path(folder), strategies, pipelined)
        cells = [
            (name, count, _contestants(works, name, count)) for name, count in itertools.product(strategies, workers)
        ]
        measured = document(
            "load",
            rounds=rounds,
            parameters={
                "duration_s": duration,
                "strategies": strategies,
                "pipelined": pipelined,
                "workers": workers,
            },
            server=server.description,
            versions={"pgbench": pgbench_version(server)},
            cells=list(_measure(server, cells, rounds, duration)),
        )
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
