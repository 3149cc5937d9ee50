"""Saved result files as reports take them: each of runs, or of explorations; both are JSON, told apart here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from racebench.reports.results import explorations
from racebench.reports.results.document import Document, from_json, text_of
from racebench.reports.results.explorations import Explorations


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A result file: of runs or explorations."""

    path: Path
    content: Document | Explorations


def read(path: Path) -> Source:
    """Read a result file of either kind; raises UsageProblem if it is neither, or of another schema version."""
    text = text_of(path)
    try:
        data = json.loads(text)
    except ValueError:
        data = None  # said below, with its line
    if isinstance(data, dict) and "explorations" in data:
        return Source(path=path, content=explorations.from_data(data, str(path)))
    return Source(path=path, content=from_json(text, str(path)))
