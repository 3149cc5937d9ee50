"""racebench and pgbench with the same script files: throughput, and the client's CPU time for each transaction.

One cell is a strategy with a number of processes, and of connections for each. In every round each contestant runs
once, in a new schema on the same server, in alternating order. The arrangement of racebench's J processes of K
connections is that of `pgbench -j J -c J*K`; with one connection for each process, pgbench is also measured with one
thread and with two. Where the extension is installed, racebench is measured with it and without it. Recording is on and
there is no consumer: the rate is of acknowledged commits.
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
from racebench.postgres.extension import extension
from racebench.workloads import catalog

STRATEGIES = ("naive", "unique", "sequence", "identity", "advisory", "upsert")
PIPELINED = ("naive", "unique", "advisory", "upsert")
WORKERS = (1, 2, 4, 8, 32)
#: Processes and connections for each.
MULTIPLEXED = ((2, 4), (1, 8), (2, 16))

_SCRIPTS = Path(__file__).with_name("scripts")
_PURE = " without the extension"
_OWN_TENANT = "\\set tenant :client_id + 1\n"
_PIPELINED_AIM = 1.15


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
    """One way to run a cell: a tool, its protocol, and for pgbench its threads. `pure`: without the extension."""

    tool: str
    how: str
    work: Work
    threads: int | None = None
    pure: bool = False

    @property
    def name(self) -> str:
        """As it is saved: "pgbench prepared -j 2"."""
        name = f"{self.tool} {self.how}" + ("" if self.threads is None else f" -j {self.threads}")
        return f"{name}{_PURE}" if self.pure else name

    def run_load(self, server: Server, workers: int, connections: int, duration: int) -> LoadFigures:
        """Run the work once, in a new schema, with so many processes, and connections for each."""
        settle(server)
        if self.tool == "pgbench":
            assert self.threads is not None
            with fresh_schema(server, self.work.scenario, self.work.strategy) as schema:
                script = self.work.strategy.script.path
                length = [f"--time={duration}"]
                clients = workers * connections
                return pgbench(server, schema, script, clients=clients, threads=self.threads, length=length)
        load = ["--workers", str(workers), "--duration", str(duration), "--consumer", "none", "--seed", "1"]
        load += ["--connections-per-worker", str(connections)]
        protocol = ["--protocol", "pipelined"] if self.how == "pipelined" else []
        env = {"RACEBENCH_COMPILED": "0"} if self.pure else {}
        return racebench_run(*self.work.arguments, *load, *protocol, server=server, env=env).load_figures


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


def _contestants(works: Mapping[tuple[str, str], Work], name: str, workers: int, connections: int) -> list[Contestant]:
    """The contestants of a cell."""
    plain, pipeline = works[name, "plain"], works.get((name, "pipeline"))
    contestants = [Contestant(tool="racebench", how="prepared", work=plain)]
    if extension() is not None:
        contestants.append(Contestant(tool="racebench", how="prepared", work=plain, pure=True))
    if connections > 1:
        return [*contestants, Contestant(tool="pgbench", how="prepared", work=plain, threads=workers)]
    threads = sorted({count for count in (1, 2, workers) if count <= workers})
    contestants += [Contestant(tool="pgbench", how="prepared", work=plain, threads=count) for count in threads]
    if pipeline is not None:
        contestants.append(Contestant(tool="racebench", how="pipelined", work=plain))
        contestants.append(Contestant(tool="racebench", how="pipeline script", work=pipeline))
        contestants += [
            Contestant(tool="pgbench", how="pipeline script", work=pipeline, threads=count) for count in threads
        ]
    return contestants


def _measure(
    server: Server, cells: Sequence[tuple[str, int, int, list[Contestant]]], rounds: int, duration: int
) -> Iterator[dict[str, Any]]:
    """Measure every cell, all its rounds one after the other."""
    with progress(rounds * sum(len(contestants) for *_, contestants in cells)) as tell:
        for name, workers, connections, contestants in cells:
            figures: dict[str, list[LoadFigures]] = {contestant.name: [] for contestant in contestants}
            for number in range(rounds):
                for contestant in alternating(contestants, number):
                    tell(f"{name} {workers} x {connections} {contestant.name}")
                    figures[contestant.name].append(contestant.run_load(server, workers, connections, duration))
            yield {
                "strategy": name,
                "workers": workers,
                "connections": connections,
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
    if ours not in contestants or theirs not in contestants:
        return None
    return ratios(contestants[ours][what], contestants[theirs][what])


def _same(cell: Mapping[str, Any], how: str) -> str | None:
    """pgbench in racebench's arrangement: a thread for each process."""
    name = f"pgbench {how} -j {cell['workers']}"
    return name if name in cell["contestants"] else None


def tables(measured: Document) -> list[Table]:
    """The same arrangement, with one connection for each process and with several, and pipelines."""
    single = [cell for cell in measured["cells"] if cell.get("connections", 1) == 1]
    several = [cell for cell in measured["cells"] if cell.get("connections", 1) > 1]
    made = [_prepared(single)]
    if several:
        made.append(_multiplexed(several))
    if any(_best(cell, "pgbench pipeline") for cell in single):
        made.append(_pipelined(single))
    return made


def _median_and_least(figures: Mapping[str, Any]) -> str:
    return f"{figure(figures['median'])}, the least {figure(figures['min'])}"


def _gain(cell: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the extension gains: the rate with it to the rate without."""
    return _compared(cell, "racebench prepared", f"racebench prepared{_PURE}", "throughput_per_s")


def _gained(gains: Sequence[float]) -> tuple[str, ...]:
    if not gains:
        return ("racebench ran without its extension.",)
    median = figure(sample(gains)["median"])
    return (f"To pure: the rate with the extension to the rate without it, in Python alone; its median is {median}.",)


def _prepared(cells: Sequence[Mapping[str, Any]]) -> Table:
    rows, best_ratios, alike, gains = [], [], [], []
    for cell in cells:
        best, same_name = _best(cell, "pgbench prepared"), _same(cell, "prepared")
        ratio = _compared(cell, "racebench prepared", best, "throughput_per_s")
        same = _compared(cell, "racebench prepared", same_name, "throughput_per_s")
        if best is None or same_name is None or ratio is None or same is None:
            continue
        best_ratios.append(ratio["median"])
        alike.append(same["median"])
        gain = _gain(cell)
        gains += [] if gain is None else [gain["median"]]
        racebench, peer, other = (cell["contestants"][name] for name in ("racebench prepared", same_name, best))
        rows.append(
            (
                f"`{cell['strategy']}`",
                str(cell["workers"]),
                spread(racebench["throughput_per_s"]),
                spread(peer["throughput_per_s"]),
                spread(same),
                "–" if gain is None else spread(gain),
                f"{spread(other['throughput_per_s'])} (-j {best.rpartition(' ')[2]})",
                spread(ratio),
                figure(racebench["client_cpu_us"]["median"]),
                figure(peer["client_cpu_us"]["median"]),
            )
        )
    same_figures, best_figures = sample(alike), sample(best_ratios)
    return Table(
        title="The same arrangement: N processes of one session, and `pgbench -j N -c N` (`--protocol prepared`): "
        "commits a second, client CPU in µs each",
        columns=(
            *("strategy", "N", "racebench", "pgbench -j N", "ratio", "to pure", "pgbench, best threads"),
            *("ratio to the best", "CPU", "pgbench's CPU, -j N"),
        ),
        rows=tuple(rows),
        names=2,
        notes=(
            aim("Median ratio of all cells, same arrangement", same_figures["median"], least=0.97),
            aim("Least ratio of a cell, same arrangement", same_figures["min"], least=0.9),
            "Best threads: another arrangement. One or two threads for all clients read several answers for each "
            f"wake-up; the median ratio to it is {_median_and_least(best_figures)}.",
            *_gained(gains),
            "`unique`: both run the script behind `\\set tenant :client_id + 1`, because pgbench ends a client at a "
            "violation.",
            "CPU: of racebench's workers from the common start on, and of the whole pgbench process.",
        ),
    )


def _multiplexed(cells: Sequence[Mapping[str, Any]]) -> Table:
    rows, alike, gains = [], [], []
    for cell in cells:
        name = _same(cell, "prepared")
        same = _compared(cell, "racebench prepared", name, "throughput_per_s")
        if name is None or same is None:
            continue
        alike.append(same["median"])
        gain = _gain(cell)
        gains += [] if gain is None else [gain["median"]]
        racebench, peer = (cell["contestants"][one] for one in ("racebench prepared", name))
        rows.append(
            (
                f"`{cell['strategy']}`",
                f"{cell['workers']} × {cell['connections']}",
                spread(racebench["throughput_per_s"]),
                spread(peer["throughput_per_s"]),
                spread(same),
                "–" if gain is None else spread(gain),
                figure(racebench["client_cpu_us"]["median"]),
                figure(peer["client_cpu_us"]["median"]),
            )
        )
    return Table(
        title="The same arrangement, multiplexed: J processes of K sessions (`--workers J --connections-per-worker "
        "K`), and `pgbench -j J -c J·K`",
        columns=("strategy", "J × K", "racebench", "pgbench", "ratio", "to pure", "CPU", "pgbench's CPU"),
        rows=tuple(rows),
        names=2,
        notes=(aim("Median ratio of all cells, multiplexed", sample(alike)["median"], least=0.95), *_gained(gains)),
    )


def _pipelined(cells: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    ours_by_strategy: dict[str, list[float]] = {}
    scripts: list[float] = []
    to_the_best: list[float] = []
    for cell in cells:
        prepared, pipeline = _best(cell, "pgbench prepared"), _same(cell, "pipeline script")
        ratio = _compared(cell, "racebench pipelined", prepared, "throughput_per_s")
        same = _compared(cell, "racebench pipeline script", pipeline, "throughput_per_s")
        plain = _compared(cell, "racebench pipelined", pipeline, "throughput_per_s")
        best_name = _best(cell, "pgbench pipeline")
        best = _compared(cell, "racebench pipeline script", best_name, "throughput_per_s")
        if ratio is None or same is None or plain is None or best is None or pipeline is None or prepared is None:
            continue
        ours_by_strategy.setdefault(cell["strategy"], []).append(ratio["median"])
        scripts.append(same["median"])
        to_the_best.append(best["median"])
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
                *(spread(figures) for figures in (ratio, same, plain, best)),
            )
        )
    same_figures, best_figures = sample(scripts), sample(to_the_best)
    return Table(
        title="Pipelined: commits a second",
        columns=(
            *("strategy", "N", "racebench pipelined", "pgbench prepared, best threads", "racebench, pipeline script"),
            *("pgbench -j N, pipeline script", "pipelined / pgbench prepared", "same pipeline script"),
            *("pipelined / pgbench's script", "same pipeline script, best threads"),
        ),
        rows=tuple(rows),
        names=2,
        notes=(
            *(
                aim(
                    f"`{name}`: median of pipelined to pgbench prepared",
                    sample(figures)["median"],
                    least=_PIPELINED_AIM,
                )
                for name, figures in ours_by_strategy.items()
            ),
            aim("Median ratio on the same pipeline script, same arrangement", same_figures["median"], least=1.0),
            f"Same pipeline script, same arrangement: the median is {_median_and_least(same_figures)}. To pgbench with "
            f"its best number of threads: the median is {_median_and_least(best_figures)}.",
            "racebench pipelined runs the plain script and sends statements together that need no answer; pgbench's "
            "are written by hand (benchmarks/scripts/), and none may contain a `\\gset`.",
        ),
    )


def _pairs(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[tuple[int, int], ...]:
    """Parse a list of processes × connections such as 2x4,1x8."""
    try:
        return tuple((int(j), int(k)) for j, _, k in (part.partition("x") for part in value.split(",") if part.strip()))
    except ValueError:
        raise click.BadParameter(f"'{value}' is not a list of processes and connections, as 2x4,1x8") from None


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
@click.option(
    "--multiplexed",
    callback=_pairs,
    default=",".join(f"{j}x{k}" for j, k in MULTIPLEXED),
    show_default=True,
    help="Processes x connections for each; '' for none.",
)
def main(
    *,
    rounds: int,
    duration: int,
    strategies: tuple[str, ...],
    pipelined: tuple[str, ...],
    workers: tuple[int, ...],
    multiplexed: tuple[tuple[int, int], ...],
    output: Path,
) -> None:
    """Measure, print, write."""
    pipelined = tuple(name for name in pipelined if name in strategies)
    with tempfile.TemporaryDirectory(prefix="racebench-load-") as folder, running_server() as server:
        works = _works(Path(folder), strategies, pipelined)
        arrangements = [*((count, 1) for count in workers), *multiplexed]
        cells = [
            (name, count, connections, _contestants(works, name, count, connections))
            for name, (count, connections) in itertools.product(strategies, arrangements)
        ]
        measured = document(
            "load",
            rounds=rounds,
            parameters={
                "duration_s": duration,
                "strategies": strategies,
                "pipelined": pipelined,
                "workers": workers,
                "multiplexed": [f"{count}x{connections}" for count, connections in multiplexed],
                "extension": extension() is not None,
            },
            server=server.description,
            versions={"pgbench": pgbench_version(server)},
            cells=list(_measure(server, cells, rounds, duration)),
        )
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
