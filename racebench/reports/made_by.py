"""What made a document: the command as it was typed, racebench's version, and when."""

from __future__ import annotations

from racebench.reports import escape
from racebench.reports.results.document import Document
from racebench.reports.results.explorations import Explorations


def markdown(document: Document | Explorations) -> str:
    """A line of Markdown with its line break; "" for a document that does not record its command."""
    if not document.command:
        return ""
    version = escape.markdown(f"racebench {document.environment.get('racebench', '?')}, {document.created}")
    return f"Made by {escape.code(document.command, in_cell=False)} ({version}).\n"
