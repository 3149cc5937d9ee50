"""Results as test cases: each strategy of a scenario with its verdict, what was found, and the witness in words.

What JUnit XML and the job summary have in common. Words only: every figure is the result's own.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from racebench.analysis.baselines import Standing
from racebench.analysis.comparison import Comparison
from racebench.core.anomalies import ANOMALIES
from racebench.core.quantity import quantity
from racebench.core.results import Anomaly, RunResult
from racebench.core.verdict import Verdict
from racebench.exploration.result import Exploration, Replay
from racebench.reports import exploration_text, sentences, threshold_lines
from racebench.reports.results.document import Document
from racebench.reports.results.explorations import Explorations
from racebench.reports.server import server_of
from racebench.reports.terminal import run_table, tables, timeline

_WIDTH = 100
#: The driver of the suite of thresholds and baseline.
LIMITS = "limits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One strategy under one scenario. `found`: the forbidden anomalies; `details`: lines that tell the rest.

    `counts`: every anomaly that occurred; `known`: those that the scenario says the strategy has. `code`: the file and
    line where each part of the code begins. `witness`: the schedule of an exploration, run step by step.
    """

    name: str
    verdict: Verdict
    found: tuple[str, ...]
    message: str
    details: tuple[str, ...]
    seconds: float
    counts: Mapping[str, int] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    code: tuple[str, ...] = ()
    witness: Replay | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The cases of one scenario in one document. `driver` is "run" or "explore"."""

    scenario: str
    driver: str
    created: str
    complete: bool
    server: str
    cases: tuple[Case, ...]


def suites(documents: Sequence[Document | Explorations]) -> list[Suite]:
    """The suites of some documents, in their order, and the scenarios in the order in which they come."""
    return [suite for document in documents for suite in _suites(document)]


def _suites(document: Document | Explorations) -> Iterator[Suite]:
    if isinstance(document, Document) and document.comparison is not None:
        driver, named = "compare", _named_strategies(document, document.comparison)
    elif isinstance(document, Document):
        driver, named = "run", _named_runs(document)
    else:
        driver, named = "explore", _named_explorations(document)
    for scenario in dict.fromkeys(scenario for scenario, _ in named):
        yield Suite(
            scenario=scenario,
            driver=driver,
            created=document.created,
            complete=document.complete,
            server=server_of(document),
            cases=tuple(case for of, case in named if of == scenario),
        )
    if isinstance(document, Document) and (document.thresholds or document.baseline is not None):
        yield Suite(
            scenario=document.runs[0].scenario,
            driver=LIMITS,
            created=document.created,
            complete=document.complete,
            server=server_of(document),
            cases=tuple(_of_limits(document)),
        )


def _of_limits(document: Document) -> Iterator[Case]:
    """Thresholds and comparisons with the baseline: crossed is INVALID, inconclusive is UNKNOWN."""
    held: list[tuple[str, str, str]] = [
        (f"{one.strategy}: {one.text}", one.outcome.value, threshold_lines.of_threshold(one, ascii_only=False))
        for one in document.thresholds
    ]
    if document.baseline is not None:
        name = document.baseline.name
        judged = [one for one in document.baseline.strategies if one.standing is not Standing.NOT_JUDGED]
        differs = "; ".join(document.baseline.differs)
        held += [
            (
                f"{one.strategy}: baseline {name}",
                one.standing.value,
                f"{threshold_lines.of_baseline(one, ascii_only=False)}{f' ({differs})' if differs else ''}",
            )
            for one in judged
        ]
    verdicts = {"passed": Verdict.VALID, "held": Verdict.VALID, "inconclusive": Verdict.UNKNOWN}
    for name, word, said in held:
        yield Case(
            name=name,
            verdict=verdicts.get(word, Verdict.INVALID),
            found=(word.replace(" ", "-"),),
            message=f"{word}: {said}",
            details=(),
            seconds=0.0,
        )


def _named_strategies(document: Document, comparison: Comparison) -> list[tuple[str, Case]]:
    """A case for each strategy of a comparison; its witness is of the first of its worst runs."""
    named = []
    for one in comparison.strategies:
        of = [run for run in document.runs if run.strategy == one.strategy]
        if not of:
            continue
        worst = next((run for run in of if run.verdict is one.verdict), of[0])
        counted = ", ".join(sentences.counted(kind, one.counts[kind]) for kind in one.found) or "no anomaly"
        if one.verdict is Verdict.UNKNOWN:
            counted = sentences.happened(worst).removesuffix(".")
        judged = f"; {one.judgement.value}{f': {one.reason}' if one.reason else ''}"
        case = _of_run(dataclasses.replace(document, runs=(worst,), comparison=None), worst, one.strategy)
        case = dataclasses.replace(
            case,
            found=one.found,
            counts={kind: one.counts[kind] for kind in ANOMALIES if one.counts.get(kind, 0)},
            message=f"{one.verdict.value} in {quantity(len(of), 'run')}: {counted}{judged}.",
            seconds=sum(run.seconds for run in of),
        )
        named.append((worst.scenario, case))
    return named


def names(document: Document) -> list[str]:
    """What to call each run of a document, so that no two of a scenario have one name."""
    return _distinct(
        [(run.scenario, run.strategy, ", ".join(consumer.name for consumer in run.consumers)) for run in document.runs]
    )


def _named_runs(document: Document) -> list[tuple[str, Case]]:
    return [
        (run.scenario, _of_run(dataclasses.replace(document, runs=(run,)), run, name))
        for run, name in zip(document.runs, names(document), strict=True)
    ]


def _named_explorations(document: Explorations) -> list[tuple[str, Case]]:
    several = document.explorations
    called = _distinct(
        [(exploration.scenario, exploration.strategy, exploration.consumer or "") for exploration in several]
    )
    return [
        (exploration.scenario, _of_exploration(exploration, name))
        for exploration, name in zip(several, called, strict=True)
    ]


def _distinct(parts: Sequence[tuple[str, str, str]]) -> list[str]:
    """The strategies' names; with the consumers where a strategy is there more than once; numbered if need be."""
    several = Counter((scenario, strategy) for scenario, strategy, _ in parts)
    names, seen = [], Counter[tuple[str, str]]()
    for scenario, strategy, consumers in parts:
        name = strategy
        if several[scenario, strategy] > 1:
            name = f"{strategy} with {consumers}" if consumers else f"{strategy} alone"
        seen[scenario, name] += 1
        names.append(name if seen[scenario, name] == 1 else f"{name} #{seen[scenario, name]}")
    return names


def _of_run(document: Document, run: RunResult, name: str) -> Case:
    details = [sentences.advice(run)]
    for witness in _first_of_each_kind(run):
        lines = [sentences.example(witness, run), *timeline.draw(witness, width=_WIDTH)]
        details += ["", *filter(None, lines)] if any(lines) else []
    details += filter(None, [sentences.first_duplicate(run), *sentences.stalls(run), sentences.injected([run])])
    details += [f"note: {note}" for note in run.notes]
    details += ["", run_table.headline(document)]
    return Case(
        name=name,
        verdict=run.verdict,
        found=run.found,
        message=sentences.happened(run),
        details=tuple(details),
        seconds=run.seconds,
        counts={kind: run.counts[kind] for kind in ANOMALIES if run.counts.get(kind, 0)},
        known=_known(run, (*run.expected, *run.possible)),
        code=run.code,
    )


def _known(result: RunResult | Exploration, expected: Sequence[str]) -> frozenset[str]:
    """The anomalies that the scenario says the strategy has; none where nothing is known of it."""
    if result.as_expected is None:
        return frozenset()
    return frozenset((*expected, *result.found)) if result.as_expected else frozenset(expected)


def _first_of_each_kind(run: RunResult) -> Iterator[Anomaly]:
    for kind in run.found:
        yield from [witness for witness in run.witnesses if witness.kind == kind][:1]


def _of_exploration(exploration: Exploration, name: str) -> Case:
    details: list[str] = []
    witness = exploration.witness
    if witness is not None and witness.steps:
        details += ["The shortest schedule that goes wrong:", *_drawn(witness), *witness.findings]
        if remedy := exploration_text.remedy(witness):
            details.append(f"fix: {remedy}")
        details.append("")
    if witness is not None and witness.command:
        details.append(witness.command)
    details += [f"note: {note}" for note in exploration.notes]
    return Case(
        name=name,
        verdict=exploration.verdict,
        found=exploration.found,
        message=exploration_text.sentence(exploration),
        details=tuple(details),
        seconds=exploration.seconds,
        # What went wrong may be the work of an earlier schedule.
        counts={} if exploration.leftovers else {kind: count for kind, count in exploration.counts.items() if count},
        known=_known(exploration, exploration.expected),
        code=exploration.code,
        witness=exploration.witness,
    )


def _drawn(witness: Replay) -> list[str]:
    from racebench.reports.terminal import lanes

    drawn = tables.plain(lambda console: tables.show(console, [lanes.draw(witness.steps)]), width=_WIDTH)
    return [line.rstrip() for line in drawn.splitlines()]
