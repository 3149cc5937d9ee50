"""HTML: one self-contained page of all the results given (docs/report.md)."""

from __future__ import annotations

from racebench.reports import page
from racebench.reports.formats import Material


def render(material: Material) -> str:
    """The page; raises UsageProblem if a file lacks what a result has."""
    return page.render(material.sources)
