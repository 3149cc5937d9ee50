"""Markdown: the table of each document, one after another."""

from __future__ import annotations

from racebench.reports import exploration_text
from racebench.reports.formats import Material
from racebench.reports.results.document import Document
from racebench.reports.terminal import matrix_table


def render(material: Material) -> str:
    """The tables, with an empty line between two documents."""
    return "\n".join(
        matrix_table.markdown(document)
        if isinstance(document, Document)
        else exploration_text.markdown(document.explorations)
        for document in material.documents
    )
