"""Every consumer of version-counter on the primary and on a hot standby, in the same runs: what each missed.

Beside a strategy that commits in the order of its numbers only a consumer that the catalog knows to go by transactions
on a standby may miss a row; beside a sequence no consumer that the catalog knows to miss none. A cell in which another
does is wrong, and the exit code is 1 then. A consumer that is known to miss rows always is run again, up to --tries
times, until it does. One transaction in twenty lasts longer than the others, but not as long as a consumer waits that
waits at all: what such a consumer misses on a standby that is further behind, it misses because of the standby.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.measurement import Document, Table, document, finish, output_option, progress
from racebench.core.model import Consumer, Load, Strategy
from racebench.core.results import ConsumerResult, RunResult
from racebench.executors.processes import Processes
from racebench.load.driver import LoadDriver
from racebench.postgres import environment
from racebench.postgres.embedded import EmbeddedServer, EmbeddedStandby
from racebench.workloads import catalog

STRATEGIES = ("advisory-nextval", "sequence")
#: Without a delay, and further behind than any consumer waits for a transaction.
DELAYS_MS = (0, 800)
_WORKERS = 4
_OPERATIONS = 300
_NOT_KNOWN = "–"


def judge(driver: LoadDriver, strategy: Strategy, consumer: Consumer, delay_ms: int, tries: int) -> dict[str, Any]:
    """One consumer on both servers, in a run of its own, which is repeated until what must show has shown."""
    scenario = catalog.find_scenario(catalog.DEFAULT_SCENARIO)
    for seed in range(tries):
        load = Load(
            workers=_WORKERS,
            duration_s=None,
            operations=_OPERATIONS,
            hold_us=1000,
            long_percent=5,
            long_us=20_000,
            poll_interval_ms=0.2,
            seed=seed,
        )
        result = driver.run(scenario, strategy, (consumer,), load, lambda _: None)
        if all(read.counts["missed"] for read in result.consumers if read.expected == "always"):
            break
    primary, standby = result.consumers
    return {
        "strategy": strategy.name,
        "right": strategy.right,
        "consumer": consumer.name,
        "delay_ms": delay_ms,
        "rows": result.counts["rows"],
        "primary": _read(primary),
        "standby": _read(standby),
        "missed_only_there": standby.missed_only_here,
        "wrong": not all(read.as_expected for read in result.consumers),
        "notes": _notes(result),
    }


def _read(consumer: ConsumerResult) -> dict[str, Any]:
    return {
        "verdict": consumer.verdict.value,
        "expected": consumer.expected,
        "missed": consumer.counts["missed"],
        "late_us": dict(consumer.late_us),
    }


def _notes(result: RunResult) -> list[str]:
    """What the surroundings did; the load's own bottlenecks do not matter here."""
    return [note for note in result.notes if "standby" in note]


def tables(measured: Document) -> list[Table]:
    """A row for each consumer, with the strategies and the delays as columns; and how late rows came."""
    cells: list[Mapping[str, Any]] = measured["cells"]
    at = {(cell["consumer"], cell["strategy"], cell["delay_ms"]): cell for cell in cells}
    delays = list(dict.fromkeys(cell["delay_ms"] for cell in cells))
    strategies = list(dict.fromkeys(cell["strategy"] for cell in cells))
    names = list(dict.fromkeys(cell["consumer"] for cell in cells))
    rows, late = [], []
    for name in names:
        shown: list[str] = []
        for strategy in strategies:
            of = [at[name, strategy, delay] for delay in delays]
            shown += [_missed(of[0]["primary"], of[0]), *(_missed(cell["standby"], cell) for cell in of)]
        rows.append((f"`{name}`", *shown))
        of = [at[name, strategies[0], delay] for delay in delays]
        late.append((f"`{name}`", _late(of[0]["primary"]), *(_late(cell["standby"]) for cell in of)))
    rows += [(f"`{name}`", *[_NOT_KNOWN] * (len(strategies) * (1 + len(delays)))) for name in measured["left_out"]]
    places = ["primary", *(f"standby{f', {delay} ms behind' if delay else ''}" for delay in delays)]
    return [
        Table(
            title="Rows missed on the primary and on a standby",
            columns=("consumer", *(f"`{strategy}`, {place}" for strategy in strategies for place in places)),
            rows=tuple(rows),
            names=1,
            notes=(
                f"Of the {cells[0]['rows']} rows of a run with {_WORKERS} workers; in brackets: of them only there.",
                f"{_NOT_KNOWN}: the consumer cannot read on a standby.",
            ),
        ),
        Table(
            title="How late rows came",
            columns=("consumer", *places),
            rows=tuple(late),
            names=1,
            notes=(f"From commit to delivery, median and latest in ms, beside `{strategies[0]}`.",),
        ),
    ]


def _missed(read: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    wrong = "WRONG: " if cell["wrong"] else ""
    if read["verdict"] == "UNKNOWN":
        return f"{wrong}?"
    only = f" ({cell['missed_only_there']})" if read is cell["standby"] and read["missed"] else ""
    return f"{wrong}{read['missed']}{only}"


def _late(read: Mapping[str, Any]) -> str:
    p50, most = read["late_us"]["p50"], read["late_us"]["max"]
    return _NOT_KNOWN if p50 is None else f"{p50 / 1e3:.0f} / {most / 1e3:.0f}"


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option("--tries", type=click.IntRange(1), default=10, show_default=True, help="Runs until rows are missed.")
@output_option("standby")
def main(*, tries: int, output: Path) -> None:
    """Run, print, write; exit with 1 if a verdict is wrong."""
    scenario = catalog.find_scenario(catalog.DEFAULT_SCENARIO)
    consumers = [consumer for consumer in scenario.consumers.values() if not consumer.unfit_for_standby]
    cells: list[dict[str, Any]] = []
    with progress(len(DELAYS_MS) * len(consumers)) as tell, Processes() as processes:
        for delay_ms in DELAYS_MS:
            server = EmbeddedServer(connections=20, replicated=True)
            with server as target, EmbeddedStandby(server, delay_ms=delay_ms) as standby:
                described = environment.describe(target)
                driver = LoadDriver(target=replace(target, standby=standby), executor=processes)
                for consumer in consumers:
                    tell(f"{consumer.name}, {delay_ms} ms behind")
                    cells += [
                        judge(driver, scenario.strategies[name], consumer, delay_ms, tries) for name in STRATEGIES
                    ]
    measured = document("standby", rounds=1, parameters={"tries": tries}, server=described, cells=cells)
    measured["left_out"] = [name for name, consumer in scenario.consumers.items() if consumer.unfit_for_standby]
    finish(measured, tables(measured), output)
    raise SystemExit(1 if any(cell["wrong"] for cell in cells) else 0)


if __name__ == "__main__":
    main()
