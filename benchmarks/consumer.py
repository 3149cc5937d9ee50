"""The cost of a live consumer for the strategy, and the anomalies it still shows, by its poll interval.

In every round each poll interval, and no consumer, is run once with the same strategy on the same server, in
alternating order. A consumer that polls rarely costs little and misses few rows, so the interval is a compromise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from benchmarks.programs import Server, racebench_run, running_server, settle

STRATEGIES = ("sequence", "naive", "advisory")
INTERVALS = (None, 0, 1, 2, 5, 10)


def _name(interval: float | None) -> str:
    return "none" if interval is None else f"{interval:g} ms" if interval else "no pause"


def _measure(server: Server, strategy: str, interval: float | None, workers: int, duration: float) -> dict[str, Any]:
    """One run: throughput, the share of rows that the consumer missed, and its lateness."""
    settle(server)
    options: tuple[str, ...] = ("--consumer", "none")
    if interval is not None:
        options = ("--consumer", "cursor", "--poll-interval", str(interval))
    load = ("--workers", str(workers), "--duration", str(duration), "--seed", "1")
    run = racebench_run("--strategy", strategy, *load, *options, server=server).run
    counts, consumers = run["counts"], run["consumers"]
    share = counts["missed"] / counts["rows"] * 100 if consumers and counts["rows"] else None
    return {
        "throughput_per_s": run["throughput_per_s"],
        "missed_percent": share,
        "late_p50_us": consumers[0]["late_us"]["p50"] if consumers else None,
    }


def tables(measured: Document) -> list[Table]:
    """The table: one line for each strategy and interval."""
    rows: list[tuple[str, ...]] = []
    slowest: dict[str, float] = {}
    for cell in measured["cells"]:
        by_name: Mapping[str, Any] = cell["intervals"]
        alone = by_name["none"]["throughput_per_s"]
        for name, figures in by_name.items():
            ratio = ratios(figures["throughput_per_s"], alone)
            if name != "none" and ratio["median"] is not None:
                slowest[name] = min(slowest.get(name, ratio["median"]), ratio["median"])
            rows.append(
                (
                    f"`{cell['strategy']}`",
                    name,
                    spread(figures["throughput_per_s"]),
                    "" if name == "none" else spread(ratio),
                    spread(figures["missed_percent"]),
                    figure(figures["late_p50_us"]["median"]),
                )
            )
    return [
        Table(
            title=f"Strategies with a consumer, {measured['parameters']['workers']} workers",
            columns=("strategy", "poll interval", "commits a second", "to none", "missed %", "late, µs (median row)"),
            rows=tuple(rows),
            names=2,
            notes=tuple(
                aim(f"{name}: throughput to none, the slowest strategy's", ratio, least=0.9)
                for name, ratio in slowest.items()
            ),
        )
    ]


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@options("consumer", rounds=5)
@click.option(
    "--duration", type=click.FloatRange(0.1), default=1.5, show_default=True, help="Measurement duration, in seconds."
)
@click.option("--workers", type=click.IntRange(1), default=8, show_default=True)
@click.option("--strategies", callback=words, default=",".join(STRATEGIES), show_default=True)
@click.option(
    "--intervals",
    callback=numbers,
    default=",".join(str(interval) for interval in INTERVALS if interval is not None),
    show_default=True,
    help="Poll intervals, in milliseconds; a run without a consumer is always added.",
)
def main(
    *,
    rounds: int,
    duration: float,
    workers: int,
    strategies: Sequence[str],
    intervals: Sequence[float],
    output: Path,
) -> None:
    """Measure, print, write."""
    contestants: list[float | None] = [None, *intervals]
    cells = []
    with running_server() as server, progress(rounds * len(strategies) * len(contestants)) as tell:
        for strategy in strategies:
            runs_of: dict[float | None, list[dict[str, Any]]] = {interval: [] for interval in contestants}
            for number in range(rounds):
                for interval in alternating(contestants, number):
                    tell(f"{strategy} {_name(interval)}")
                    runs_of[interval].append(_measure(server, strategy, interval, workers, duration))
            columns = ("throughput_per_s", "missed_percent", "late_p50_us")
            cells.append(
                {
                    "strategy": strategy,
                    "intervals": {
                        _name(interval): {what: sample([run[what] for run in runs]) for what in columns}
                        for interval, runs in runs_of.items()
                    },
                }
            )
        measured = document(
            "consumer",
            rounds=rounds,
            parameters={"duration_s": duration, "workers": workers, "intervals_ms": list(intervals)},
            server=server.description,
            cells=cells,
        )
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
