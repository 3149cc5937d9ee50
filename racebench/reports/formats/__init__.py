"""What results can be written as, by name: each format's own module does it. Documented in docs/ci.md."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from racebench.core.errors import UsageProblem

if TYPE_CHECKING:
    from rich.console import Console

    from racebench.reports.results.document import Document
    from racebench.reports.results.explorations import Explorations

#: Formats that any results have; the others are of runs alone.
OF_ALL = ("markdown", "json", "junit", "summary")
FORMATS = ("table", "matrix", *OF_ALL, "svg", "csv", "bigger-is-better", "smaller-is-better")

#: Formats that hold several documents of runs side by side.
_APART = ("markdown", "junit", "summary")


def read(paths: Sequence[Path]) -> list[Document | Explorations]:
    """Read saved results: runs as one document, then explorations as one; UsageProblem if that cannot be.

    What has thresholds or a comparison stays by itself: they are of its own runs, and would be lost among others.
    """
    from racebench.reports.results import document, explorations, sources

    saved = [sources.read(path).content for path in paths]
    runs = [each for each in saved if isinstance(each, document.Document)]
    explored = [each for each in saved if isinstance(each, explorations.Explorations)]
    judged = [each for each in runs if each.comparison is not None or each.thresholds]
    plain = [each for each in runs if each not in judged]
    return [
        *([document.merge(plain)] if plain else []),
        *judged,
        *([explorations.merge(explored)] if explored else []),
    ]


def render(name: str, documents: Sequence[Document | Explorations], *, title: str = "racebench run") -> str:
    """Results as text of a format; raises UsageProblem where it has no such form."""
    from racebench.reports.formats import cases, junit, rows, summary, svg, tracked
    from racebench.reports.results import document
    from racebench.reports.terminal import matrix_table, tables

    runs = [each for each in documents if isinstance(each, document.Document)]
    if name not in ("table", *OF_ALL) and len(runs) < len(documents):
        raise UsageProblem(f"--format {name} is for runs, and these are explorations; take table, {', '.join(OF_ALL)}")
    if name not in _APART and len(runs) > 1:
        documents = [document.merge(runs), *(each for each in documents if not isinstance(each, document.Document))]
        runs = [document.merge(runs)]
    if name == "json" and len(documents) > 1:
        raise UsageProblem("--format json is for runs or for explorations, not for both in one file; name them apart")
    if name == "junit":
        return junit.render(cases.suites(documents))
    if name == "summary":
        return summary.render(documents)
    if name in ("json", "markdown"):
        return "\n".join(_text(name, each) for each in documents)
    if name == "table":
        return "\n".join(tables.plain(partial(show, whole=each)) for each in documents)
    whole = runs[0]
    if name == "svg":
        return svg.render(whole, title=title)
    if name == "matrix":
        return tables.plain(lambda console: matrix_table.show(console, whole))
    return {"csv": rows.render, "bigger-is-better": tracked.bigger, "smaller-is-better": tracked.smaller}[name](whole)


def _text(name: str, whole: Document | Explorations) -> str:
    """One document as JSON or Markdown."""
    from racebench.reports import exploration_text
    from racebench.reports.results import document, explorations
    from racebench.reports.terminal import matrix_table

    if isinstance(whole, document.Document):
        return document.to_json(whole) + "\n" if name == "json" else matrix_table.markdown(whole)
    return explorations.to_json(whole) + "\n" if name == "json" else exploration_text.markdown(whole.explorations)


def show(console: Console, whole: Document | Explorations) -> None:
    """Print results as the command that made them did."""
    from racebench.reports.results import explorations
    from racebench.reports.terminal import exploration_table, run_table

    if isinstance(whole, explorations.Explorations):
        exploration_table.show(console, whole)
    else:
        run_table.show(console, whole)


def write(name: str, whole: Document | Explorations, path: Path) -> None:
    """Write results to a file, whole or not at all."""
    from racebench.reports.results.document import write_atomically

    write_atomically(path, render(name, [whole]))
