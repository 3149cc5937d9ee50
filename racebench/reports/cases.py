"""Results as test cases: each strategy of a scenario with its verdict, what was found, and the witness in words.

What JUnit XML and the job summary have in common. Words only: every figure is the result's own.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from racebench.model import Anomaly, RunResult, Verdict
from racebench.reports import sentences, terminal, timeline
from racebench.reports.document import Document
from racebench.reports.explorations import Exploration, Explorations

_WIDTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One strategy under one scenario. `found`: the forbidden anomalies; `details`: lines that tell the rest."""

    name: str
    verdict: Verdict
    found: tuple[str, ...]
    message: str
    details: tuple[str, ...]
    seconds: float


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
    if isinstance(document, Document):
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


def server_of(document: Document | Explorations) -> str:
    """The server that a document is about: "PostgreSQL 18.4 (embedded)"."""
    environment = document.environment
    return f"PostgreSQL {environment.get('server_version', '?')} ({environment.get('target', '?')})"


def names(document: Document) -> list[str]:
    """What to call each run of a document, so that no two of a scenario have one name."""
    return _distinct(
        [(run.scenario, run.strategy, ", ".join(each.name for each in run.consumers)) for run in document.runs]
    )


def _named_runs(document: Document) -> list[tuple[str, Case]]:
    return [
        (run.scenario, _of_run(dataclasses.replace(document, runs=(run,)), run, name))
        for run, name in zip(document.runs, names(document), strict=True)
    ]


def _named_explorations(document: Explorations) -> list[tuple[str, Case]]:
    several = document.explorations
    called = _distinct([(each.scenario, each.strategy, each.consumer or "") for each in several])
    return [(each.scenario, _of_exploration(each, name)) for each, name in zip(several, called, strict=True)]


def _distinct(parts: Sequence[tuple[str, str, str]]) -> list[str]:
    """The strategies' names; with the consumers where a strategy is there more than once; numbered if need be."""
    several = Counter((scenario, strategy) for scenario, strategy, _ in parts)
    made, seen = [], Counter[tuple[str, str]]()
    for scenario, strategy, consumers in parts:
        name = strategy
        if several[scenario, strategy] > 1:
            name = f"{strategy} with {consumers}" if consumers else f"{strategy} alone"
        seen[scenario, name] += 1
        made.append(name if seen[scenario, name] == 1 else f"{name} #{seen[scenario, name]}")
    return made


def _of_run(document: Document, run: RunResult, name: str) -> Case:
    details = [sentences.advice(run)]
    for witness in _first_of_each_kind(run):
        details += ["", f"One of the {witness.kind}: {witness.explanation}.", *timeline.draw(witness, width=_WIDTH)]
    details += [f"note: {note}" for note in run.notes]
    details += ["", terminal.headline(document)]
    return Case(
        name=name,
        verdict=run.verdict,
        found=run.found,
        message=sentences.happened(run),
        details=tuple(details),
        seconds=run.seconds,
    )


def _first_of_each_kind(run: RunResult) -> Iterator[Anomaly]:
    for kind in run.found:
        yield from [witness for witness in run.witnesses if witness.kind == kind][:1]


def _of_exploration(explored: Exploration, name: str) -> Case:
    details: list[str] = []
    if explored.steps:
        details += ["The shortest order that goes wrong:", *_drawn(explored), ""]
    if explored.replay:
        details.append(explored.replay)
    return Case(
        name=name,
        verdict=explored.verdict,
        found=explored.found,
        message=explored.sentence,
        details=tuple(details),
        seconds=explored.seconds,
    )


def _drawn(explored: Exploration) -> list[str]:
    from racebench.exploration.explorer import Step
    from racebench.reports import lanes

    steps = [
        Step(
            session=step["session"],
            sent=step["sent"],
            where=step.get("where", ""),
            answered=tuple(step["answered"]),
            waits_for=tuple(step["waits_for"]),
            went_on=tuple((other["session"], tuple(other["answered"])) for other in step["went_on"]),
        )
        for step in explored.steps
    ]
    drawn = terminal.plain(lambda console: console.print(lanes.draw(steps)), width=_WIDTH)
    return [line.rstrip() for line in drawn.splitlines()]
