"""One self-contained page of results: the verdict, safety against cost, timelines, latency and pace, witnesses.

This module owns the page as a whole: its headline, the table of many files, and the part that each file is in.
part.py has what a part shows. Every figure comes from a result. The page loads nothing from the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from racebench import __version__
from racebench.analysis.comparison import Comparison, Judgement
from racebench.core.anomalies import ANOMALIES
from racebench.core.errors import UsageProblem
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.exploration.result import Exploration
from racebench.reports import exploration_text, sentences
from racebench.reports.page import part, templates, timeline_data
from racebench.reports.page.part import Part
from racebench.reports.results.document import Document
from racebench.reports.results.explorations import Explorations
from racebench.reports.results.sources import Source
from racebench.reports.terminal import comparison_table, matrix_table

#: So many files are shown side by side; of more, each has a part of its own, which is closed at first.
_SIDE_BY_SIDE = 3
_WRONG = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, jinja2.TemplateError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Something with a verdict, and what it is called on the page."""

    strategy: str
    name: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file in the table of many: its part, what it is of, and what has which verdict."""

    part: Part
    name: str
    scenarios: str
    kind: str
    when: str
    subjects: tuple[tuple[Verdict, list[str]], ...]


def render(sources: Sequence[Source]) -> str:
    """The page of some result files; raises UsageProblem if one lacks what a result has."""
    try:
        return templates.fill("page.html", **_context(sources))
    except _WRONG as problem:
        names = ", ".join(str(source.path) for source in sources)
        raise UsageProblem(f"{names}: not a racebench result ({type(problem).__name__}: {problem})") from problem


def _context(sources: Sequence[Source]) -> dict[str, Any]:
    many = len(sources) > _SIDE_BY_SIDE
    groups = [[source] for source in sources] if many else [list(sources)]
    shares = timeline_data.share_out([part.runs_of(group) for group in groups])
    parts = [part.arrange_part(group, share) for group, share in zip(groups, shares, strict=True)]
    subjects = [subject for shown in parts for subject in _subjects(shown)]
    comparisons = [comparison for shown in parts for comparison in shown.comparisons]
    runs = part.runs_of(sources)
    return {
        "headline": _headline(subjects, comparisons),
        "subjects": _by_verdict(subjects),
        "parts": parts,
        "entries": [_entry(shown) for shown in parts] if many else [],
        "all_runs": list(zip(part.names_of_runs(runs), [run for _, run in runs], strict=True)) if many else [],
        "all_kinds": [kind for kind in ANOMALIES if any(run.counts[kind] for _, run in runs)],
        "explorations": len(part.explorations_of(sources)),
        "compared": comparison_table,
        "matrix_table": matrix_table,
        "remedy": exploration_text.remedy,
        "server_sessions": exploration_text.server_sessions,
        "surprises": exploration_text.surprises,
        "counted": sentences.counted,
        "values": exploration_text.values,
        "anomalies": ANOMALIES,
        "version": __version__,
    }


def _entry(shown: Part) -> Entry:
    (source,) = shown.sources
    content = source.content
    results: Sequence[RunResult | Exploration]
    if isinstance(content, Explorations):
        results, kind = content.explorations, "explore"
    else:
        results = content.runs
        kind = "compare" if content.comparison is not None else "matrix" if shown.matrices else "run"
    return Entry(
        part=shown,
        name=source.path.name,
        scenarios=", ".join(dict.fromkeys(result.scenario for result in results)) or "nothing",
        kind=kind,
        when=_when(content.created),
        subjects=tuple(_by_verdict(_subjects(shown))),
    )


def _when(created: str) -> str:
    """A document's date to the minute, UTC."""
    return f"{created[:10]} {created[11:16]}" if created else "date not known"


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
        f"{count[Verdict.INVALID]} of {len(verdicts)} {what} {'breaks' if count[Verdict.INVALID] == 1 else 'break'}"
        if count[Verdict.INVALID]
        else f"None of {len(verdicts)} {what} breaks"
    )
    return f"{broken}{f', {count[Verdict.UNKNOWN]} without a verdict' if count[Verdict.UNKNOWN] else ''}"


def _subjects(shown: Part) -> list[Subject]:
    """Everything with a verdict: runs, and strategies that were compared (as one, over all rounds) or explored."""
    rounds = [document for document, _ in shown.comparisons]
    told = [
        Subject(strategy=run.strategy, name=name, verdict=run.verdict)
        for (source, _), (name, run) in zip(part.runs_of(shown.sources), shown.runs, strict=True)
        if source.content not in rounds
    ]
    beside = " (compared)" if told or shown.explored or len(shown.comparisons) > 1 else ""
    told += [
        Subject(strategy=one.strategy, name=f"{one.strategy}{beside}", verdict=one.verdict)
        for _, comparison in shown.comparisons
        for one in comparison.strategies
    ]
    suffix = " (explored)" if shown.runs else ""
    told += [
        Subject(strategy=one.exploration.strategy, name=f"{one.name}{suffix}", verdict=one.exploration.verdict)
        for one in shown.explored
    ]
    return told


def _by_verdict(subjects: Sequence[Subject]) -> list[tuple[Verdict, list[str]]]:
    """The names with each verdict, the worst verdict first."""
    names_of = {
        verdict: [subject.name for subject in subjects if subject.verdict is verdict]
        for verdict in (Verdict.INVALID, Verdict.UNKNOWN, Verdict.VALID)
    }
    return [(verdict, names) for verdict, names in names_of.items() if names]
