"""The timeline of one race as an SVG picture: the most serious anomaly of the first run that has one."""

from __future__ import annotations

from collections.abc import Sequence

from racebench.core.errors import UsageProblem
from racebench.core.results import RunResult
from racebench.reports.excerpts.lookup import find
from racebench.reports.formats import Material
from racebench.reports.page import templates, timeline_picture
from racebench.reports.results.document import Document
from racebench.reports.results.sources import Source

_OPERATIONS = 400  # around the witnesses: more than a picture shows


def render(material: Material) -> str:
    """The timeline of the first run that went wrong, else of the first that has one; UsageProblem if none has."""
    without_anomaly = None
    for source, run in sorted(_runs(material.sources), key=lambda pair: not pair[1].found):
        excerpt = find(source.path, run, most=_OPERATIONS).excerpt
        drawn = None if excerpt is None else timeline_picture.draw(excerpt)
        if excerpt is None or drawn is None:
            continue
        if excerpt.marks:
            return _fill(drawn, run)
        without_anomaly = without_anomaly or (drawn, run)
    if without_anomaly is not None:
        return _fill(*without_anomaly)
    names = ", ".join(str(source.path) for source in material.sources)
    if not _runs(material.sources):
        raise UsageProblem(f"{names}: no run in it, so there is no timeline; of explorations --html has the witnesses")
    raise UsageProblem(f"{names}: no run went wrong or kept its history, so there is no timeline; try run --history")


def _runs(sources: Sequence[Source]) -> list[tuple[Source, RunResult]]:
    return [(source, run) for source in sources if isinstance(source.content, Document) for run in source.content.runs]


def _fill(drawn: timeline_picture.TimelinePicture, run: RunResult) -> str:
    return templates.fill("timeline_file.svg", drawn=drawn, name=run.strategy, verdict=run.verdict)
