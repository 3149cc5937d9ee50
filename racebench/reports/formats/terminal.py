"""The terminal's tables as plain text: of runs, and of a matrix of strategies and consumers."""

from __future__ import annotations

from racebench.reports.formats import Material
from racebench.reports.terminal import matrix_table, run_table, tables


def table(material: Material) -> str:
    """The table of runs, what it means, and one witness."""
    return tables.plain(lambda console: run_table.show(console, material.runs))


def matrix(material: Material) -> str:
    """Strategies × consumers: rows missed and relative throughput."""
    return tables.plain(lambda console: matrix_table.show(console, material.runs))
