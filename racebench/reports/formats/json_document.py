"""JSON: a document of runs (docs/results.md) or of explorations (docs/explore.md), as commands save it."""

from __future__ import annotations

from racebench.reports.formats import Material
from racebench.reports.results import document, explorations


def render(material: Material) -> str:
    """The one document."""
    (content,) = material.documents
    if isinstance(content, document.Document):
        return document.to_json(content) + "\n"
    return explorations.to_json(content) + "\n"
