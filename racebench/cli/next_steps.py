"""What to do after run, compare, matrix or explore, as commands to copy: the page, a proof or a replay, a strategy.

At most three lines. What was found, and what it means, is said by the reports.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from racebench.analysis import remedies
from racebench.cli.files import ResultFiles
from racebench.core.anomalies import Evidence, needing
from racebench.core.model import Origin, Scenario
from racebench.core.verdict import Verdict
from racebench.reports import sentences
from racebench.workloads import catalog

if TYPE_CHECKING:
    from racebench.core.results import ConsumerResult, RunResult
    from racebench.core.target import Pooling
    from racebench.exploration.result import Exploration
    from racebench.reports.results.document import Document


def after_runs(
    scenario: Scenario,
    document: Document,
    files: ResultFiles,
    saved: Path | None,
    *,
    proof: bool,
    pooler: Pooling | None = None,
) -> list[str]:
    """The steps after run, compare and matrix. `saved`: the file in the results folder; `proof`: explore is one.

    `pooler`: the mode of the one that workers passed. An application's sessions behind one cannot be explored.
    """
    steps = _page(files, saved)
    broken = [run for run in document.runs if run.verdict is Verdict.INVALID]
    if proof:
        of = (broken or document.runs)[0]
        words = _words(scenario)
        simulated = pooler is None or not scenario.strategies[of.strategy].is_application
        if words is not None and simulated and any(run.verdict is not Verdict.UNKNOWN for run in document.runs):
            reader = _reader(of)
            # Under load any driver is measured, and which one the calls use is not known.
            pair = (*_strategy(scenario, of.strategy), *_consumer(None if reader is None else reader.name))
            label = "proof, if the calls use psycopg 3" if scenario.strategies[of.strategy].calls else "proof"
            crash = ("--crash",) if scenario.faults else ()  # without a lost answer there is nothing to prove
            if reader is None or reader.server == "primary":  # no schedule shows what is missed on a standby alone
                steps.append(f"{label}: {_command('explore', *words, *pair, *crash, *_pooler(pooler))}")
    return steps + _show(scenario, next((name for run in broken if (name := sentences.instead(run))), None))


def after_explorations(
    scenario: Scenario, explorations: Sequence[Exploration], files: ResultFiles, saved: Path | None
) -> list[str]:
    """The steps after explore."""
    steps = _page(files, saved)
    replay = next(
        (one.witness.command for one in explorations if one.witness is not None and one.witness.command), None
    )
    broken = [one.strategy for one in explorations if one.verdict is Verdict.INVALID]
    words = _words(scenario)
    if replay is not None:
        steps.append(f"replay: {replay}")
    elif words is not None and not broken:
        of = explorations[0]
        pair = (*_strategy(scenario, of.strategy), *_consumer(of.consumer))
        mode = None if of.pooler is None else of.pooler.pooling
        steps.append(f"load: {_command('run', *words, *pair, *_pooler(mode))}")
    better = (_instead(scenario, one) for one in explorations if one.verdict is Verdict.INVALID)
    return steps + _show(scenario, next((name for name in better if name is not None and name not in broken), None))


def _page(files: ResultFiles, saved: Path | None) -> list[str]:
    """The command that makes a page of what was kept, or how to keep it; nothing if it could not be written."""
    kept = saved
    if kept is None and files.json_path is not None and not files.json_alone:
        kept = Path(files.json_path)
    if kept is None and files.stem is not None:
        return []
    if kept is None:
        return ["page: nothing was kept; leave out --no-save, then: racebench report results/….json --html race.html"]
    return [f"page: {_command('report', str(kept), '--html', 'race.html')}"]


def _words(scenario: Scenario) -> tuple[str, ...] | None:
    """The words that name a scenario to run and explore; None for what no command line can name."""
    options = scenario.options
    if options is None:
        return None
    if scenario.origin is Origin.OWN_CODE:
        return options
    if options[:1] == ("--scenario",):
        return options[1:]
    return (*(() if scenario.name == catalog.DEFAULT_SCENARIO else (scenario.name,)), *options)


def _strategy(scenario: Scenario, name: str) -> tuple[str, ...]:
    return () if scenario.origin is Origin.OWN_CODE else ("-s", name)


def _consumer(name: str | None) -> tuple[str, ...]:
    return () if name is None else ("--consumer", name)


def _pooler(mode: Pooling | None) -> tuple[str, ...]:
    return () if mode is None else ("--pooler", mode)


def _reader(run: RunResult) -> ConsumerResult | None:
    """The consumer without which an exploration would not show what the run found; None if it needs none.

    One on the primary, if any of them shows it.
    """
    if not run.consumers or not {*run.found} <= {*needing(Evidence.CONSUMER)}:
        return None

    def shown(consumer: ConsumerResult) -> tuple[bool, int]:
        count = sum(consumer.counts[kind] for kind in run.found)
        return count > 0 and consumer.server == "primary", count

    return max(run.consumers, key=shown)


def _instead(scenario: Scenario, exploration: Exploration) -> str | None:
    """The strategy or the consumer to use in place of the explored pair."""
    if scenario.origin is Origin.OWN_CODE:
        return None
    consumer = None if exploration.consumer is None else scenario.consumers[exploration.consumer]
    strategy = scenario.strategies[exploration.strategy]
    return remedies.instead(scenario, strategy, consumer, {*exploration.found})


def _show(scenario: Scenario, advised: str | None) -> list[str]:
    """The strategy or the consumer to use instead."""
    if advised is None or scenario.origin is Origin.OWN_CODE:
        return []
    options = tuple(word for word in scenario.options or () if word != "--superuser")
    if not options and scenario.name != catalog.DEFAULT_SCENARIO:
        options = ("--scenario", scenario.name)
    return [f"instead: {_command('show', advised, *options)}"]


def _command(*words: str) -> str:
    return shlex.join(["racebench", *words])
