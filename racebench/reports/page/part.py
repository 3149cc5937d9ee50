"""A part of the page: some result files side by side, as the values that its sections show.

Every figure comes from a result.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from racebench.analysis.comparison import Comparison
from racebench.analysis.matrix import Matrix, arrange
from racebench.core.anomalies import ANOMALIES
from racebench.core.results import ConsumerResult, RunResult
from racebench.exploration.choices import place_of
from racebench.exploration.result import Exploration, Replay
from racebench.reports import exploration_text, sentences, threshold_lines
from racebench.reports.page import latency, pace, scatter, timeline_data
from racebench.reports.page.timeline_data import Timelines
from racebench.reports.results.document import Document
from racebench.reports.results.explorations import Explorations
from racebench.reports.results.sources import Source
from racebench.reports.server import server_of
from racebench.reports.terminal import exploration_table, run_table

WIDE, NARROW = 1092, 358
_SPOKEN = 8  # at most so many runs get a paragraph each; of more, only those that are not as expected
_CHARTED = 40  # runs in the charts of latency and pace
_SAVED = re.compile(r"^\d{8}T\d{6}Z-.*-(?=[0-9a-f]{6}$)")  # the longest name of a result
_STEPPED = 20  # witnesses with steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A run in words."""

    name: str
    run: RunResult
    summary: str
    expectation: str
    happened: str
    advice: str
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """An exploration in words: what was tried, why it has its verdict, what to do next."""

    name: str
    exploration: Exploration
    tried: str
    reason: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A witness with steps, and the name of its exploration."""

    name: str
    replay: Replay
    sessions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What the sections of a part show.

    Numbers of what is left out: `silent` runs have no paragraph, `uncharted` ones are not in the charts, the steps of
    `unstepped` witnesses are not shown.
    """

    sources: tuple[Source, ...]
    runs: tuple[tuple[str, RunResult], ...]
    comparisons: tuple[tuple[Document, Comparison], ...]
    held: tuple[str, ...]
    spoken: tuple[Spoken, ...]
    silent: int
    kinds: tuple[str, ...]
    consumed: tuple[tuple[str, RunResult, ConsumerResult], ...]
    measures: tuple[str, ...]
    faults: tuple[str, ...]
    matrices: tuple[Matrix, ...]
    charted_consumer: str | None
    scatters: tuple[scatter.Scatter, ...]
    latencies: tuple[latency.Latency, ...]
    paces: pace.Paces | None
    uncharted: int
    timelines: Timelines
    explored: tuple[Explored, ...]
    witnesses: tuple[Witness, ...]
    unstepped: int
    files: tuple[Mapping[str, Any], ...]

    @property
    def judging(self) -> str:
        return "Compared" if self.comparisons else "Thresholds and baseline"


def runs_of(sources: Sequence[Source]) -> list[tuple[Source, RunResult]]:
    """Every run of some files, with its file."""
    return [(source, run) for source in sources if isinstance(source.content, Document) for run in source.content.runs]


def explorations_of(sources: Sequence[Source]) -> list[tuple[Source, Exploration]]:
    """Every exploration of some files, with its file."""
    return [
        (source, exploration)
        for source in sources
        if isinstance(source.content, Explorations)
        for exploration in source.content.explorations
    ]


def comparisons_of(sources: Sequence[Source]) -> list[tuple[Document, Comparison]]:
    """The documents that have a comparison, each with the comparison."""
    documents = [source.content for source in sources if isinstance(source.content, Document)]
    return [(document, document.comparison) for document in documents if document.comparison is not None]


def arrange_part(sources: Sequence[Source], drawn: timeline_data.Share) -> Part:
    """What is shown of some files; `drawn` says which of their runs have a timeline."""
    runs = runs_of(sources)
    names = names_of_runs(runs)
    results = [run for _, run in runs]
    explorations = explorations_of(sources)
    explored_names = names_of_explorations(explorations)
    spoken = [
        _spoken(name, run)
        for name, run in zip(names, results, strict=True)
        if len(results) <= _SPOKEN or not run.as_expected or run.notes
    ]
    documents = [source.content for source in sources if isinstance(source.content, Document)]
    charted_consumer, charted, charted_names = _charted(sources, results, names)
    matrices = matrices_of(sources)
    witnesses = [
        Witness(name=name, replay=exploration.witness, sessions=tuple(_sessions_of(exploration.witness)))
        for name, (_, exploration) in zip(explored_names, explorations, strict=True)
        if exploration.witness is not None and exploration.witness.steps
    ]
    return Part(
        sources=tuple(sources),
        runs=tuple(zip(names, results, strict=True)),
        comparisons=tuple(comparisons_of(sources)),
        held=tuple(line.plain for document in documents for line in threshold_lines.render(document, ascii_only=False)),
        spoken=tuple(spoken),
        silent=len(results) - len(spoken),
        kinds=tuple(kind for kind in ANOMALIES if any(run.counts[kind] for run in results)),
        consumed=tuple((n, r, c) for n, r in zip(names, results, strict=True) for c in r.consumers)
        if any(_many_consumers(run) for run in results) and not matrices
        else (),
        measures=tuple(dict.fromkeys(name for run in results for name in run.measures)),
        faults=tuple(dict.fromkeys(fault for run in results for fault in run.injected)),
        matrices=tuple(matrices),
        charted_consumer=charted_consumer,
        scatters=tuple(scatter.draw(charted, charted_names, width=width) for width in (WIDE, NARROW))
        if len(charted) > 1
        else (),
        latencies=tuple(_both(lambda width: latency.draw(charted, charted_names, width=width))),
        paces=pace.draw(charted, charted_names),
        uncharted=0 if charted_consumer is not None else len(results) - len(charted),
        timelines=timeline_data.draw(runs, names, drawn),
        explored=tuple(
            Explored(
                name=name,
                exploration=exploration,
                tried=exploration_text.tried(exploration),
                reason=exploration_text.sentence(exploration),
                next_step=exploration_text.next_step(exploration),
            )
            for name, (_, exploration) in zip(explored_names, explorations, strict=True)
        ),
        witnesses=tuple(witnesses[:_STEPPED]),
        unstepped=len(witnesses) - len(witnesses[:_STEPPED]),
        files=tuple(_file(source) for source in sources),
    )


def _charted(
    sources: Sequence[Source], runs: Sequence[RunResult], names: Sequence[str]
) -> tuple[str | None, list[RunResult], list[str]]:
    """The runs in the charts: of a matrix alone, each strategy's with the first consumer, which is named."""
    matrices = matrices_of(sources)
    if len(matrices) == len(sources) == 1:
        consumer_name = matrices[0].consumers[0]
        chosen = [run for run in runs if [consumer.name for consumer in run.consumers] == [consumer_name]]
        if chosen:
            return consumer_name, chosen[:_CHARTED], [run.strategy for run in chosen][:_CHARTED]
    return None, list(runs[:_CHARTED]), list(names[:_CHARTED])


def _both(draw: Callable[[int], latency.Latency | None]) -> list[latency.Latency]:
    return [drawn for drawn in (draw(WIDE), draw(NARROW)) if drawn is not None]


def _many_consumers(run: RunResult) -> bool:
    return [consumer.name for consumer in run.consumers] not in ([], ["cursor"])


def names_of_runs(runs: Sequence[tuple[Source, RunResult]]) -> list[str]:
    """The shortest distinct names: the strategy, if necessary with its scenario, consumers, file or a number."""
    return _distinct(
        [run.strategy for _, run in runs],
        [run.scenario for _, run in runs],
        [" + ".join(consumer.name for consumer in run.consumers) or "alone" for _, run in runs],
        [_SAVED.sub("", source.path.stem) for source, _ in runs],
    )


def names_of_explorations(explorations: Sequence[tuple[Source, Exploration]]) -> list[str]:
    """The shortest distinct names, as those of runs."""
    return _distinct(
        [one.strategy for _, one in explorations],
        [one.scenario for _, one in explorations],
        [one.consumer or "alone" for _, one in explorations],
        [_SAVED.sub("", source.path.stem) for source, _ in explorations],
    )


def _distinct(names: list[str], *parts: Sequence[str]) -> list[str]:
    """The names, those that occur more than once with the first parts that tell them apart, at last with a number."""
    for extra in parts:
        again = {name for name, times in Counter(names).items() if times > 1}
        if again and len(set(extra)) > 1:
            names = [f"{name} · {more}" if name in again else name for name, more in zip(names, extra, strict=True)]
    seen: Counter[str] = Counter()
    again = {name for name, times in Counter(names).items() if times > 1}
    for at, name in enumerate(names):
        seen[name] += 1
        names[at] = f"{name} #{seen[name]}" if name in again else name
    return names


def _spoken(name: str, run: RunResult) -> Spoken:
    remarks = filter(
        None,
        (sentences.conditions([run]), sentences.kept_up(run), sentences.first_duplicate(run), *sentences.stalls(run)),
    )
    return Spoken(
        name=name,
        run=run,
        summary=run.summary,
        expectation=_sentence(sentences.expectation(run)),
        happened=sentences.happened(run),
        advice=sentences.advice(run),
        remarks=(*remarks, *sentences.on_standby(run), *(f"note: {note}" for note in run.notes)),
    )


def _sentence(clause: str) -> str:
    """The end of a clause as a separate sentence; "" if there is none."""
    said = clause.removeprefix(", ")
    return f"{said[0].upper()}{said[1:]}." if said else ""


def matrices_of(sources: Sequence[Source]) -> list[Matrix]:
    """The matrix of each document that has several strategies with several consumers."""
    matrices = [arrange(source.content.runs) for source in sources if isinstance(source.content, Document)]
    return [matrix for matrix in matrices if len(matrix.strategies) > 1 and len(matrix.consumers) > 1]


def _sessions_of(witness: Replay) -> list[tuple[str, str]]:
    """The sessions that take a step or wait, each with its role."""
    names = {step.session for step in witness.steps} | {name for step in witness.steps for name, _ in step.went_on}
    consumer = f"s{witness.sessions + 1}"
    return [
        (
            name,
            f"consumer '{witness.schedule.consumer}'"
            if witness.schedule.consumer is not None and name == consumer
            else witness.calls.get(name, "strategy"),
        )
        for name in sorted(names, key=place_of)
    ]


def _file(source: Source) -> dict[str, Any]:
    """How a file's runs were measured."""
    content, environment = source.content, source.content.environment
    facts = {
        "Server": server_of(content),
        "Machine": f"{environment.get('cpu_count', '?')} CPUs, {environment.get('machine', '?')}, "
        f"{environment.get('system', '?')}",
        "Software": f"racebench {environment.get('racebench', '?')}, Python {environment.get('python', '?')}, "
        f"psycopg {environment.get('psycopg', '?')}",
    }
    if isinstance(content, Document) and content.runs:
        facts = {"Load": run_table.headline(content), **facts}
    if isinstance(content, Explorations) and content.explorations:
        facts = {"Search": exploration_table.headline(content), **facts}
    settings = environment.get("server_settings", {})
    shown: Mapping[str, Any] = settings if isinstance(settings, Mapping) else {}
    return {
        "name": Path(source.path).name,
        "created": content.created,
        "command": content.command,
        "version": environment.get("racebench", "?"),
        "complete": content.complete,
        "facts": facts,
        "settings": dict(shown),
    }
