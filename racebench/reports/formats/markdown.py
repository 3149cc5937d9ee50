"""Markdown: the table of each document and the command that made it, one after another."""

from __future__ import annotations

from racebench.reports import exploration_text, made_by
from racebench.reports.formats import Material
from racebench.reports.results.document import Document
from racebench.reports.terminal import matrix_table


def render(material: Material) -> str:
    """The tables, with an empty line between two documents."""
    parts = []
    for document in material.documents:
        table = (
            matrix_table.markdown(document)
            if isinstance(document, Document)
            else exploration_text.markdown(document.explorations)
        )
        parts += [table, *filter(None, [made_by.markdown(document)])]
    return "\n".join(parts)
