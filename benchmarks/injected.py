"""The catalog under every fault of --fault: the verdicts, and how often the fault was injected.

Of each scenario its first broken strategy and the advised one, with --whole every strategy.

A fault must change no verdict: an anomaly that the catalog does not know of a strategy is wrong, and the exit code is 1
then. A broken strategy is run again, up to --tries times, until it shows one that it is known for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.levels import running
from benchmarks.measurement import Document, Table, document, finish, output_option, progress
from racebench.core.injection import parse
from racebench.core.model import Load, Scenario, Strategy
from racebench.executors.processes import Processes
from racebench.load.driver import LoadDriver
from racebench.postgres.embedded import as_superuser
from racebench.workloads import catalog

FAULTS = (
    *("cut-after-commit:2%", "cut-before-commit:2%", "cut:2%", "stall:20ms:2%", "latency:1ms±0.5ms"),
    *("terminate-backend:every 20ms", "crash-server:once"),
)
_WORKERS = 4
_OPERATIONS = 200
_OPERATIONS_OF_BUSY = 20  # each has thousands of transactions


def subjects(*, whole: bool) -> Iterator[tuple[Scenario, Strategy]]:
    """The first broken strategy of each scenario and the one that it advises; `whole`: every strategy."""
    for scenario in catalog.shipped():
        strategies = scenario.strategies.values()
        broken = next(strategy for strategy in strategies if strategy.expect or strategy.may)
        for strategy in strategies:
            if whole or strategy is broken or strategy.name == scenario.advise:
                yield scenario, strategy


def judge(driver: LoadDriver, scenario: Scenario, strategy: Strategy, fault: str, tries: int) -> dict[str, Any]:
    """Run a strategy under a fault; a broken one again, by another seed, until it shows something."""
    operations = _WORKERS if scenario.once else _OPERATIONS_OF_BUSY if "busy" in strategy.name else _OPERATIONS
    consumers = catalog.find_consumers(scenario, catalog.default_consumers(scenario))
    for seed in range(tries):
        load = Load(
            workers=_WORKERS,
            duration_s=None,
            operations=operations,
            hold_us=500,
            seed=seed,
            faults=(parse(fault),),
        )
        fitting = tuple(consumer for consumer in consumers if consumer.fits(strategy))
        done = driver.run(scenario, strategy, fitting, load, lambda _: None)
        if strategy.right or done.found:
            break
    known = {*done.expected, *done.possible}
    return {
        "scenario": scenario.name,
        "strategy": strategy.name,
        "right": strategy.right,
        "fault": fault,
        "verdict": done.verdict.value,
        "found": list(done.found),
        "wrong": not {*done.found} <= known,
        "injected": done.injected[fault],
        "ok": done.counts["committed"],
        "fail": done.counts["failed"],
        "unknown": done.counts["unknown"],
    }


def tables(measured: Document) -> list[Table]:
    """The verdicts, with the faults as columns, and the sums."""
    cells: list[Mapping[str, Any]] = measured["cells"]
    at = {(cell["scenario"], cell["strategy"], cell["fault"]): cell for cell in cells}
    faults = [fault for fault in FAULTS if any(cell["fault"] == fault for cell in cells)]
    rows = []
    for scenario, strategy in dict.fromkeys((cell["scenario"], cell["strategy"]) for cell in cells):
        of = [at[scenario, strategy, fault] for fault in faults]
        rows.append((scenario, f"`{strategy}`", "right" if of[0]["right"] else "broken", *map(_shown, of)))
    sums = [
        (
            f"`{fault}`",
            *(f"{sum(cell[name] for cell in cells if cell['fault'] == fault):,}" for name in _SUMMED),
            str(sum(cell["wrong"] for cell in cells if cell["fault"] == fault)),
        )
        for fault in faults
    ]
    return [
        Table(
            title="Injected faults",
            columns=("fault", "injected", "operations OK", "FAIL", "UNKNOWN", "wrong verdicts"),
            rows=tuple(sums),
            names=1,
        ),
        Table(
            title="Verdicts under injected faults",
            columns=("scenario", "strategy", "known to be", *(f"`{fault}`" for fault in faults)),
            rows=tuple(rows),
            names=3,
            notes=(
                "In brackets: how often the fault was injected into the run.",
                "retry-lost is right where no answer to a COMMIT is lost.",
                "A broken strategy is VALID where no run showed its anomaly.",
            ),
        ),
    ]


_SUMMED = ("injected", "ok", "fail", "unknown")


def _shown(cell: Mapping[str, Any]) -> str:
    return f"{'WRONG: ' if cell['wrong'] else ''}{cell['verdict']} ({cell['injected']:,})"


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option("--tries", type=click.IntRange(1), default=3, show_default=True, help="Runs of a broken strategy.")
@click.option("--whole", is_flag=True, help="Every strategy of the catalog.")
@output_option("injected")
def main(*, tries: int, whole: bool, output: Path) -> None:
    """Run, print, write; exit with 1 if a verdict is wrong."""
    chosen = list(subjects(whole=whole))
    with running("18", {}) as (target, described), Processes() as processes, progress(len(chosen)) as tell:
        cells = []
        superuser = as_superuser(target)
        for scenario, strategy in chosen:
            tell(f"{scenario.name} {strategy.name}")
            driver = LoadDriver(target=superuser if scenario.superuser else target, executor=processes)
            cells += [judge(driver, scenario, strategy, fault, tries) for fault in FAULTS]
    measured = document("injected", rounds=1, parameters={"tries": tries}, server=described, cells=cells)
    finish(measured, tables(measured), output)
    raise SystemExit(1 if any(cell["wrong"] for cell in cells) else 0)


if __name__ == "__main__":
    main()
