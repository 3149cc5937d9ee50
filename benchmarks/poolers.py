"""Strategies behind PgBouncer in each mode, and directly: the verdict of each, with the anomalies that were found.

A cell is wrong if a strategy shows an anomaly that the catalog does not expect there, or does not show one that it
expects; then the exit code is 1. A strategy that is expected to show one is run again, up to --tries times, until it
does. The delay between two statements makes it likely that another client has the session of the server meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.measurement import Document, Table, document, finish, output_option, progress
from racebench.core.model import Load, Protocol, Scenario, Strategy
from racebench.core.target import Pooling, Target
from racebench.core.verdict import Verdict
from racebench.core.watching import Patience
from racebench.executors.processes import Processes
from racebench.load.driver import LoadDriver
from racebench.postgres import environment, pgbouncer
from racebench.postgres.embedded import EmbeddedServer
from racebench.postgres.requirements import for_pooler
from racebench.workloads import catalog

#: Strategies by scenario; None for all.
SUBJECTS: Mapping[str, tuple[str, ...] | None] = {
    "session-state": None,
    "version-counter": ("naive", "session-advisory", "advisory", "upsert"),
}
_WORKERS = 8
_OPERATIONS = 120
_GIVE_UP_S = 8.0
_DIRECT = "direct"


def judge(
    target: Target, processes: Processes, scenario: Scenario, name: str, mode: Pooling | None, tries: int
) -> dict[str, Any]:
    """One strategy in one mode, run again until what is expected of it has shown."""
    known = scenario.behind(mode)
    strategy = known.strategies[name]
    cell = {"scenario": scenario.name, "strategy": name, "mode": mode.value if mode else _DIRECT}
    if lack := for_pooler(strategy, mode):
        return {**cell, "verdict": None, "found": [], "why": lack, "wrong": False, "stalled": False}
    patience = Patience(give_up_s=_GIVE_UP_S)
    driver = LoadDriver(target=replace(target, pooler=mode), executor=processes, patience=patience)
    for seed in range(tries):
        result = driver.run(known, strategy, (), _load(strategy, mode, seed), lambda _: None)
        expected = strategy.expect - {"missed"}
        if expected <= set(result.found) and result.verdict is not Verdict.UNKNOWN:
            break
    return {
        **cell,
        "verdict": result.verdict.value,
        "found": list(result.found),
        "why": "",
        "wrong": not expected <= set(result.found) <= expected or result.verdict is Verdict.UNKNOWN,
        "stalled": any("gave up" in note for note in result.notes),
    }


def _load(strategy: Strategy, mode: Pooling | None, seed: int) -> Load:
    shared = mode not in (None, Pooling.SESSION)
    return Load(
        workers=_WORKERS,
        duration_s=None,
        operations=_OPERATIONS,
        think_us=1000,
        seed=seed,
        protocol=Protocol.SIMPLE if shared or strategy.text else Protocol.PREPARED,
    )


def tables(measured: Document) -> list[Table]:
    """A row for each strategy, with the modes as columns."""
    cells: list[Mapping[str, Any]] = measured["cells"]
    modes = list(dict.fromkeys(cell["mode"] for cell in cells))
    names = list(dict.fromkeys((cell["scenario"], cell["strategy"]) for cell in cells))
    at = {(cell["scenario"], cell["strategy"], cell["mode"]): _shown(cell) for cell in cells}
    return [
        Table(
            title="Strategies behind PgBouncer",
            columns=("scenario", "strategy", *modes),
            rows=tuple(
                (scenario, f"`{name}`", *(at[scenario, name, mode] for mode in modes)) for scenario, name in names
            ),
            names=2,
            notes=(
                f"{_WORKERS} workers, {_OPERATIONS} operations, 1 ms between two statements, {measured['pooler']}; in "
                "transaction and statement pooling two workers share a session of the server.",
                "refused: the strategy begins transactions, which that mode refuses. hangs: the run was given up.",
            ),
        )
    ]


def _shown(cell: Mapping[str, Any]) -> str:
    if cell["verdict"] is None:
        return "refused"
    found = f": {', '.join(cell['found'])}" if cell["found"] else ""
    hangs = "; hangs" if cell["stalled"] else ""
    return f"{'WRONG: ' if cell['wrong'] else ''}{cell['verdict']}{found}{hangs}"


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option("--tries", type=click.IntRange(1), default=10, show_default=True, help="Runs until an anomaly is found.")
@output_option("poolers")
def main(*, tries: int, output: Path) -> None:
    """Run, print, write; exit with 1 if a cell is wrong."""
    modes: tuple[Pooling | None, ...] = (None, *Pooling)
    scenarios = {name: catalog.find_scenario(name) for name in SUBJECTS}
    subjects = [
        (scenario, name) for scenario in scenarios.values() for name in SUBJECTS[scenario.name] or scenario.strategies
    ]
    cells: list[dict[str, Any]] = []
    with (
        progress(len(subjects) * len(modes)) as tell,
        EmbeddedServer(connections=40, pooled=True) as target,
        Processes() as processes,
    ):
        described = environment.describe(target)
        for scenario, name in subjects:
            for mode in modes:
                tell(f"{scenario.name} {name}, {mode or _DIRECT}")
                cells.append(judge(target, processes, scenario, name, mode, tries))
    measured = document("poolers", rounds=1, parameters={"tries": tries}, server=described, cells=cells)
    measured["pooler"] = pgbouncer.version()
    finish(measured, tables(measured), output)
    raise SystemExit(1 if any(cell["wrong"] for cell in cells) else 0)


if __name__ == "__main__":
    main()
