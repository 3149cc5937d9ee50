"""`compare`: from options to rounds of all strategies in seeded random order, what follows from them, and baselines.

Each round runs every strategy once, in an order drawn anew, so that no strategy always comes first or always follows
the same other one. The runs of a round draw the same random choices.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from racebench.analysis import baselines, thresholds
from racebench.analysis.baselines import Measured, Standing
from racebench.analysis.comparison import Asked, Conditions, compare
from racebench.cli import planning
from racebench.cli.planning import Cell, Plan
from racebench.core.errors import ExitCode, UsageProblem, suggest
from racebench.core.model import Consumer, Origin, Scenario, Strategy
from racebench.exploration.schedules import digest
from racebench.postgres import cpu_time
from racebench.reports.results import document
from racebench.reports.results.document import Document

DEFAULT_ROUNDS = 7
DEFAULT_SECONDS = 1.0
BASELINES = "baselines"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(slots=True, kw_only=True)
class Comparing:
    """What `compare` adds to a plan. `named`: the reference was chosen by the user."""

    plan: Plan
    reference: str
    named: bool
    rounds: int
    margin: float
    fail_slower: float | None
    baseline: Document | None
    baseline_name: str
    save_to: Path | None
    cells: list[Cell] = field(default_factory=list)
    load_average: float | None = None
    ticks: tuple[int, int] | None = None
    saved_baseline: Path | None = None

    def arrange(self, cells: Sequence[Cell]) -> Sequence[Cell]:
        """Repeat the cells in every round, in a drawn order, with a seed of the round."""
        self.cells = list(cells)
        names = [strategy.name for strategy, _, _ in cells]
        if self.reference not in names and names:  # this server is too old for it
            self.reference = _reference(self.plan.scenario, [strategy for strategy, _, _ in cells])
        self.load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        self.ticks = cpu_time.machine_ticks()
        return in_rounds(cells, self.rounds, self.plan.load.seed)

    def conclude(self, made: Document) -> Document:
        """Add what follows from the runs so far."""
        asked = Asked(
            reference=self.reference,
            rounds=self.rounds,
            seed=self.plan.load.seed,
            digests={strategy.name: digest(strategy, None) for strategy, _, _ in self.cells},
            frame=frame(self.plan.scenario, self.plan.consumers),
            margin=self.margin,
        )
        conditions = Conditions(load_average=self.load_average, stolen=self._stolen())
        made = replace(made, comparison=compare(made.runs, asked, conditions, os.cpu_count() or 1))
        if self.baseline is None:
            return made
        result = baselines.beside(
            _measured(made),
            _measured(self.baseline),
            name=self.baseline_name,
            fail_slower=self.fail_slower,
        )
        return replace(made, baseline=result)

    def _stolen(self) -> float | None:
        """The share of CPU time that the hypervisor took since the first run began."""
        now = cpu_time.machine_ticks()
        if now is None or self.ticks is None or now[1] <= self.ticks[1]:
            return None
        return (now[0] - self.ticks[0]) / (now[1] - self.ticks[1])


def in_rounds(cells: Sequence[Cell], rounds: int, seed: int) -> list[Cell]:
    """Every cell once a round, each round in an order of its own: the same again for the same seed.

    The runs of a round share a seed, which is another in the next round.
    """
    drawn = random.Random(seed)
    made = []
    for _ in range(rounds):
        order = list(cells)
        drawn.shuffle(order)
        of_round = drawn.randrange(2**32)
        made += [(strategy, consumers, replace(load, seed=of_round)) for strategy, consumers, load in order]
    return made


def plan(
    *,
    rounds: int,
    reference: str | None,
    margin: float,
    threshold: Sequence[str],
    baseline: str | None,
    save_baseline: str | None,
    fail_slower: float | None,
    **given: Any,
) -> Comparing:
    """Check the options of `compare`; raises UsageProblem for the first that cannot be carried out."""
    asked = [thresholds.parse(text) for text in threshold]
    if fail_slower is not None and baseline is None:
        raise UsageProblem("--fail-slower needs --baseline NAME: slower than what?")
    given["strategies"] = tuple(given["strategies"] or ("correct",)) + ((reference,) if reference else ())
    given["history"] = bool(given["history"])
    made = planning.draft(**given, apart=True, keep=False, expect=None, default_seconds=DEFAULT_SECONDS)
    if len(made.strategies) < 2 and baseline is None and save_baseline is None:
        more = "another file or --call" if made.scenario.origin is Origin.OWN_CODE else "--strategy or --reference"
        raise UsageProblem(
            f"compare needs two strategies or more, not only '{made.strategies[0].name}'; add {more}"
            if made.strategies
            else f"no strategy of '{made.scenario.name}' is in that group; name two"
        )
    if reference is not None and reference not in made.scenario.strategies:
        raise UsageProblem(f"--reference '{reference}' is a group; name one strategy")
    chosen = reference or _reference(made.scenario, made.strategies)
    made.thresholds = planning.concerning(made, asked, reference=chosen)
    folder = Path(given["results"]) / BASELINES
    comparing = Comparing(
        plan=made,
        reference=chosen,
        named=reference is not None,
        rounds=rounds,
        margin=margin / 100,
        fail_slower=None if fail_slower is None else fail_slower / 100,
        baseline=None,
        baseline_name="",
        save_to=None if save_baseline is None else folder / f"{_name_of('--save-baseline', save_baseline)}.json",
    )
    if baseline is not None:
        path = _path_of(baseline, folder)
        comparing.baseline, comparing.baseline_name = _read(path, made.scenario.name), baseline
    planning.check_places(made)
    if comparing.save_to is not None:
        document.check_writable(folder)
        planning.check_file("--save-baseline", comparing.save_to)
    made.arrange, made.conclude = comparing.arrange, comparing.conclude
    return comparing


def _reference(scenario: Scenario, strategies: Sequence[Strategy]) -> str:
    """The strategy that the scenario advises, else the first that is right, else the first; of those compared."""
    names = [strategy.name for strategy in strategies]
    if scenario.advise in names:
        return str(scenario.advise)
    return next((strategy.name for strategy in strategies if strategy.right), names[0])


def frame(scenario: Scenario, consumers: Sequence[Consumer]) -> str:
    """Eight digits that change with what all strategies share: schema, invariants, and the consumers' queries."""
    texts = [*(part.text for part in scenario.schema), *scenario.invariants.values()]
    texts += [call.text for call in (*scenario.setup, *scenario.checks.values())]
    for consumer in consumers:
        parts = (*consumer.schema, *consumer.opening, *consumer.closing)
        texts += [consumer.name, consumer.script.text, *(part.text for part in parts)]
        texts += [str(sorted(consumer.cursor.items())), str(sorted(consumer.variables.items()))]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]


def _name_of(option: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageProblem(f"{option} takes a name of letters, digits, - _ and ., not '{name}'")
    return name


def _path_of(baseline: str, folder: Path) -> Path:
    """The file of a baseline given by name, or the file itself."""
    if "/" in baseline or baseline.endswith(".json"):
        return Path(baseline)
    path = folder / f"{_name_of('--baseline', baseline)}.json"
    if not path.is_file():
        known = [each.stem for each in folder.glob("*.json")]
        hint = suggest(baseline, known) or "; save one with --save-baseline"
        raise UsageProblem(f"baseline '{baseline}' not found in {folder}{hint}")
    return path


def _read(path: Path, scenario: str) -> Document:
    found = document.read(path)
    if found.comparison is None:
        raise UsageProblem(f"baseline {path} is not of `racebench compare`; save one with --save-baseline")
    baselines.check(_measured(found), str(path), scenario)
    return found


def _measured(made: Document) -> Measured:
    assert made.comparison is not None  # a baseline has one, and so has what is concluded
    return Measured(created=made.created, environment=made.environment, runs=made.runs, comparison=made.comparison)


def finish(made: Comparing) -> int:
    """The exit code; if it is 0, and nothing is missing, what was measured becomes the baseline asked for."""
    whole = made.plan.document()
    codes = [planning.exit_code(made.plan)]
    if whole.baseline is not None:
        standings = {one.standing for one in whole.baseline.strategies}
        codes += [ExitCode.ANOMALY] if Standing.ANOMALY in standings else []
        codes += [ExitCode.THRESHOLD] if Standing.SLOWER in standings else []
        codes += [ExitCode.INCONCLUSIVE] if Standing.INCONCLUSIVE in standings else []
    code = planning.gravest(codes)
    if code == ExitCode.OK and made.save_to is not None:
        document.write_atomically(made.save_to, made.plan.json() + "\n")
        made.saved_baseline = made.save_to
    return code
