"""Saved result files as reports take them: each of runs, or of explorations; both are JSON, told apart here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from racebench.reports.results import document, explorations, reading
from racebench.reports.results.document import Document
from racebench.reports.results.explorations import Explorations


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A result file: of runs or explorations."""

    path: Path
    content: Document | Explorations


def for_file(sources: Sequence[Source], file: Path | None) -> tuple[Source, ...]:
    """Sources as they are written into one new document: the histories are named relative to its folder.

    None: into stdout, which may go to any folder, so that the paths are absolute.
    """
    folder = None if file is None else file.parent
    return tuple(
        replace(source, content=document.in_folder(source.content, folder, was=source.path.parent))
        if isinstance(source.content, Document)
        else source
        for source in sources
    )


def read(path: Path) -> Source:
    """Read a result file of either kind; raises UsageProblem if it is neither, or of another schema version."""
    data = reading.data_of(reading.text_of(path), str(path))
    of = explorations if "explorations" in data else reading
    return Source(path=path, content=of.from_data(data, str(path)))
