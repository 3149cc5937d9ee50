"""One self-contained page of results: the verdict, safety against cost, timelines, latency and pace, witnesses.

This package collects the values that the templates show. Every figure comes from a result. The page loads nothing from
the network.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from racebench import __version__
from racebench.analysis.comparison import Comparison, Judgement
from racebench.analysis.matrix import Matrix, arrange
from racebench.core.anomalies import ANOMALIES
from racebench.core.errors import UsageProblem
from racebench.core.results import RunResult, Verdict
from racebench.exploration.result import Exploration, Replay
from racebench.reports import exploration_text, sentences, threshold_lines
from racebench.reports.page import latency, pace, scatter, templates, timeline_data
from racebench.reports.results.document import Document
from racebench.reports.results.explorations import Explorations
from racebench.reports.results.sources import Source
from racebench.reports.server import server_of
from racebench.reports.terminal import comparison_table, matrix_table, run_table

WIDE, NARROW = 1092, 358
_SPOKEN = 8  # at most so many runs get a paragraph each; of more, only those that are not as expected
_CHARTED = 40  # runs in the charts of latency and pace
_SAVED = re.compile(r"^\d{8}T\d{6}Z-.*-(?=[0-9a-f]{6}$)")  # the longest name of a result
_STEPPED = 20  # witnesses with steps
_WRONG = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, jinja2.TemplateError)


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
class Subject:
    """Something with a verdict, and what it is called on the page."""

    strategy: str
    name: str
    verdict: Verdict


def render(sources: Sequence[Source]) -> str:
    """The page of some result files; raises UsageProblem if one lacks what a result has."""
    try:
        return templates.fill("page.html", **_context(sources))
    except _WRONG as problem:
        names = ", ".join(str(source.path) for source in sources)
        raise UsageProblem(f"{names}: not a racebench result ({type(problem).__name__}: {problem})") from problem


def _runs(sources: Sequence[Source]) -> list[tuple[Source, RunResult]]:
    return [(source, run) for source in sources if isinstance(source.content, Document) for run in source.content.runs]


def _context(sources: Sequence[Source]) -> dict[str, Any]:
    runs = _runs(sources)
    names = _names(runs)
    results = [run for _, run in runs]
    explorations = [
        exploration
        for source in sources
        if isinstance(source.content, Explorations)
        for exploration in source.content.explorations
    ]
    spoken = [
        _spoken(name, run)
        for name, run in zip(names, results, strict=True)
        if len(results) <= _SPOKEN or not run.as_expected or run.notes
    ]
    documents = [source.content for source in sources if isinstance(source.content, Document)]
    charted_consumer, charted, charted_names = _charted(sources, results, names)
    matrices = _matrices(sources)
    witnesses = [
        exploration.witness
        for exploration in explorations
        if exploration.witness is not None and exploration.witness.steps
    ]
    comparisons = _comparisons(sources)
    subjects = _subjects(runs, names, comparisons, explorations)
    return {
        "headline": _headline(subjects, comparisons),
        "subjects": _by_verdict(subjects),
        "comparisons": comparisons,
        "judging": "Compared" if comparisons else "Thresholds and baseline",
        "compared": comparison_table,
        "held": [line.plain for document in documents for line in threshold_lines.render(document, ascii_only=False)],
        "spoken": spoken,
        "silent": len(results) - len(spoken),
        "runs": list(zip(names, results, strict=True)),
        "kinds": [kind for kind in ANOMALIES if any(run.counts[kind] for run in results)],
        "consumed": [(n, r, c) for n, r in zip(names, results, strict=True) for c in r.consumers]
        if any(_many_consumers(run) for run in results) and not matrices
        else [],
        "measures": list(dict.fromkeys(name for run in results for name in run.measures)),
        "matrices": matrices,
        "charted_consumer": charted_consumer,
        "matrix_table": matrix_table,
        "scatters": [scatter.draw(charted, charted_names, width=width) for width in (WIDE, NARROW)]
        if len(charted) > 1
        else [],
        "latencies": _both(lambda width: latency.draw(charted, charted_names, width=width)),
        "paces": pace.draw(charted, charted_names),
        "uncharted": 0 if charted_consumer is not None else len(results) - len(charted),
        "timelines": timeline_data.draw(runs, names),
        "explorations": explorations,
        "sentence": exploration_text.sentence,
        "surprises": exploration_text.surprises,
        "values": exploration_text.values,
        "stepped": witnesses[:_STEPPED],
        "unstepped": len(witnesses) - len(witnesses[:_STEPPED]),
        "sessions_of": _sessions_of,
        "files": [_file(source) for source in sources],
        "anomalies": ANOMALIES,
        "version": __version__,
    }


def _charted(
    sources: Sequence[Source], runs: Sequence[RunResult], names: Sequence[str]
) -> tuple[str | None, list[RunResult], list[str]]:
    """The runs in the charts: of a matrix alone, each strategy's with the first consumer, which is named."""
    matrices = _matrices(sources)
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


def _names(runs: Sequence[tuple[Source, RunResult]]) -> list[str]:
    """The shortest distinct names: the strategy, if necessary with its scenario, consumers, file or a number."""
    parts: tuple[Callable[[Source, RunResult], str], ...] = (
        lambda _, run: run.scenario,
        lambda _, run: " + ".join(consumer.name for consumer in run.consumers) or "alone",
        lambda source, _: _SAVED.sub("", source.path.stem),
    )
    names = [run.strategy for _, run in runs]
    for part in parts:
        again = {name for name, times in Counter(names).items() if times > 1}
        extra = [part(source, run) for source, run in runs]
        if again and len(set(extra)) > 1:
            names = [f"{name} · {more}" if name in again else name for name, more in zip(names, extra, strict=True)]
    seen: Counter[str] = Counter()
    again = {name for name, times in Counter(names).items() if times > 1}
    for at, name in enumerate(names):
        seen[name] += 1
        names[at] = f"{name} #{seen[name]}" if name in again else name
    return names


def _comparisons(sources: Sequence[Source]) -> list[tuple[Document, Comparison]]:
    """The documents that have a comparison, each with the comparison."""
    documents = [source.content for source in sources if isinstance(source.content, Document)]
    return [(document, document.comparison) for document in documents if document.comparison is not None]


def _headline(subjects: Sequence[Subject], comparisons: Sequence[tuple[Document, Comparison]]) -> str:
    if not subjects:
        return "Nothing was run"
    verdicts = [subject.verdict for subject in subjects]
    if len(subjects) == 1:
        only = subjects[0].strategy
        return {
            Verdict.INVALID: f"{only} breaks",
            Verdict.VALID: f"{only} held",
            Verdict.UNKNOWN: f"{only}: no verdict",
        }[verdicts[0]]
    if len(comparisons) == 1 and verdicts == [Verdict.VALID] * 2:
        _, comparison = comparisons[0]
        for one in comparison.strategies:
            if one.judgement is not Judgement.REFERENCE and len(comparison.strategies) == len(subjects):
                return f"{one.strategy} beside {comparison.reference}: {one.judgement.value}"
    count = Counter(verdicts)
    what = "strategies" if len({subject.strategy for subject in subjects}) == len(subjects) else "runs"
    broken = (
        f"{count[Verdict.INVALID]} of {len(verdicts)} {what} break"
        if count[Verdict.INVALID]
        else f"None of {len(verdicts)} {what} breaks"
    )
    return f"{broken}{f', {count[Verdict.UNKNOWN]} without a verdict' if count[Verdict.UNKNOWN] else ''}"


def _subjects(
    runs: Sequence[tuple[Source, RunResult]],
    names: Sequence[str],
    comparisons: Sequence[tuple[Document, Comparison]],
    explorations: Sequence[Exploration],
) -> list[Subject]:
    """Everything with a verdict: runs, and strategies that were compared (as one, over all rounds) or explored."""
    rounds = [document for document, _ in comparisons]
    told = [
        Subject(strategy=run.strategy, name=name, verdict=run.verdict)
        for (source, run), name in zip(runs, names, strict=True)
        if source.content not in rounds
    ]
    beside = " (compared)" if told or explorations or len(comparisons) > 1 else ""
    told += [
        Subject(strategy=one.strategy, name=f"{one.strategy}{beside}", verdict=one.verdict)
        for _, comparison in comparisons
        for one in comparison.strategies
    ]
    explored = " (explored)" if runs else ""
    told += [
        Subject(strategy=exploration.strategy, name=f"{exploration.strategy}{explored}", verdict=exploration.verdict)
        for exploration in explorations
    ]
    return told


def _by_verdict(subjects: Sequence[Subject]) -> list[tuple[Verdict, list[str]]]:
    """The names with each verdict, the worst verdict first."""
    names_of = {
        verdict: [subject.name for subject in subjects if subject.verdict is verdict]
        for verdict in (Verdict.INVALID, Verdict.UNKNOWN, Verdict.VALID)
    }
    return [(verdict, names) for verdict, names in names_of.items() if names]


def _spoken(name: str, run: RunResult) -> Spoken:
    remarks = [sentence for sentence in (sentences.conditions(run), sentences.kept_up(run)) if sentence is not None]
    return Spoken(
        name=name,
        run=run,
        summary=run.summary,
        expectation=_sentence(sentences.expectation(run)),
        happened=sentences.happened(run),
        advice=sentences.advice(run),
        remarks=(*remarks, *(f"note: {note}" for note in run.notes)),
    )


def _sentence(clause: str) -> str:
    """The end of a clause as a separate sentence; "" if there is none."""
    said = clause.removeprefix(", ")
    return f"{said[0].upper()}{said[1:]}." if said else ""


def _matrices(sources: Sequence[Source]) -> list[Matrix]:
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
        for name in sorted(names, key=lambda name: (len(name), name))
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
    settings = environment.get("server_settings", {})
    shown: Mapping[str, Any] = settings if isinstance(settings, Mapping) else {}
    return {
        "name": Path(source.path).name,
        "created": content.created,
        "complete": content.complete,
        "facts": facts,
        "settings": dict(shown),
    }
