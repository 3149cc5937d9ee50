"""Histories checked offline, as a table and sentences, and as JSON (docs/history.md)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from racebench.analysis.offline import CheckResult
from racebench.core import json_text
from racebench.core.anomalies import ANOMALIES, TableKind, of_table
from racebench.reports import sentences
from racebench.reports.results.document import published
from racebench.reports.sentences import counted
from racebench.reports.terminal import tables, timeline
from racebench.reports.terminal.tables import Column, Grid, amount, indented, verdict_text

SCHEMA_VERSION = 1

_LATE = ("p50", "p99", "max")


def show(console: Console, results: Sequence[CheckResult]) -> None:
    """Print what was found in each file, and one witness of the first that is INVALID."""
    tables.show(console, render(results, width=console.width, ascii_only=console.options.ascii_only))


def render(results: Sequence[CheckResult], *, width: int, ascii_only: bool = False) -> Iterator[RenderableType]:
    """Yield the parts of the report, top to bottom."""
    kinds = (*of_table(TableKind.CHECK, numbered=True), *of_table(TableKind.CHECK, numbered=False))
    several = len(results) > 1
    columns = (
        Column(head="strategy"),
        *((Column(head="file", rank=9),) if several else ()),
        Column(head="opera-\ntions", right=True, rank=2),
        Column(head="com-\nmitted", right=True, rank=6),
        Column(head="rows", right=True, rank=5),
        *(Column(head=kind.head, right=True, rank=0 if _occurs(kind.name, results) else 4) for kind in kinds),
        Column(head="verdict"),
    )
    table = Grid(columns, ascii_only=ascii_only)
    for result, name in zip(results, _distinct_names(results), strict=True):
        counts, forbidden = result.counts, result.about.forbidden
        table.add_row(
            result.about.strategy,
            *((name,) if several else ()),
            *(amount(counts[name] or 0) for name in ("attempts", "committed", "rows")),
            *(_optional(counts[kind.name], bad=kind.name in forbidden) for kind in kinds),
            verdict_text(result.verdict),
        )
    yield table
    for result in results:
        yield from _paragraph(result)
    for result in results:
        for witness in result.witnesses:
            if witness.kind in result.about.forbidden:
                yield Text(sentences.example(witness, of=result.about.strategy))
                glyphs = timeline.ASCII if ascii_only else timeline.UNICODE
                if lines := timeline.draw(witness, width=tables.drawing_width(width) - 2, glyphs=glyphs):
                    yield indented(Text("\n".join(lines), no_wrap=True))
                return


def to_json(results: Sequence[CheckResult]) -> str:
    """The results as JSON; counts of anomalies that a history cannot show are null."""
    return json_text.dumps({"schema_version": SCHEMA_VERSION, "files": [_file(result) for result in results]})


def _file(result: CheckResult) -> dict[str, Any]:
    return {
        "file": result.file,
        "scenario": result.about.scenario,
        "strategy": result.about.strategy,
        "note": result.about.note or None,
        "verdict": result.verdict.value,
        "overlapped": result.overlapped,
        "undecided": dict(result.undecided),
        "forbidden": list(result.about.forbidden),
        "counts": dict(result.counts),
        "errors": dict(result.errors),
        "consumers": [
            {"name": log.name, "drained": log.drained, "counts": dict(log.counts), "late_us": dict(log.late_us)}
            for log in result.consumers
        ],
        "seconds": result.seconds,
        "throughput_per_s": result.throughput_per_s,
        "latency_us": dict(result.latency_us),
        "witnesses": [published(witness) for witness in result.witnesses],
    }


def _paragraph(result: CheckResult) -> Iterator[RenderableType]:
    text = Text()
    text.append(result.about.strategy, style="bold")
    text.append(f" ({result.file}: {result.about.scenario}) is ")
    text.append(verdict_text(result.verdict))
    counts = {kind: result.counts[kind] for kind in ANOMALIES if kind in result.about.forbidden}
    anomalies = [counted(kind, count) for kind, count in counts.items() if count]
    if anomalies:
        text.append(f": {', '.join(anomalies)}.")
    elif result.counts["committed"] and not result.overlapped:
        text.append(
            ": no two operations overlapped in time, so no race could occur; record a history of several sessions."
        )
    else:
        text.append(": nothing forbidden was found.")
    yield text
    for log in result.consumers:
        late = ", ".join(f"{name} {log.late_us[name] / 1e3:.1f}" for name in _LATE if log.late_us[name] is not None)  # type: ignore[operator]
        seen = log.counts
        said = (
            f"consumer '{log.name}': {seen['delivered']:,} delivered, {seen['missed']:,} missed, "
            f"{seen['redelivered']:,} again, {seen['out-of-order']:,} out of order"
        )
        yield indented(Text(said + (f"; late by ms: {late}" if late else "")))
    if (left := sentences.undecided(result.undecided)) is not None:
        yield indented(Text(left))
    if result.about.note:
        yield indented(Text(f"note: {result.about.note}", style="yellow"))


def _occurs(kind: str, results: Sequence[CheckResult]) -> bool:
    """Whether a forbidden anomaly was found in a file."""
    return any(result.counts[kind] and kind in result.about.forbidden for result in results)


def _distinct_names(results: Sequence[CheckResult]) -> list[str]:
    """The names of the files without their folders, their ending and what all of them begin with."""
    names = [Path(result.file).name.removesuffix(".npz").removesuffix(".history") for result in results]
    begin = os.path.commonprefix(names).rpartition("-")[0]  # noqa: RUF071 - names of files, no paths
    return [f"…{name[len(begin) + 1 :]}" for name in names] if begin and len(set(names)) > 1 else names


def _optional(count: int | None, *, bad: bool) -> Text:
    return Text("–") if count is None else amount(count, bad=bad)
