"""The terminal's tables: of runs and of explorations, and of a matrix of strategies and consumers."""

from __future__ import annotations

from functools import partial

from rich.console import Console

from racebench.reports.formats import Material
from racebench.reports.results.document import Document
from racebench.reports.results.explorations import Explorations
from racebench.reports.terminal import exploration_table, matrix_table, run_table, tables


def show(console: Console, document: Document | Explorations) -> None:
    """Print results as the command that made them did."""
    if isinstance(document, Explorations):
        exploration_table.show(console, document)
    else:
        run_table.show(console, document)


def table(material: Material) -> str:
    """The same as plain text: the runs, then the explorations."""
    return "\n".join(tables.plain(partial(show, document=document)) for document in material.documents)


def matrix(material: Material) -> str:
    """Strategies × consumers: rows missed and relative throughput."""
    return tables.plain(lambda console: matrix_table.show(console, material.runs))
