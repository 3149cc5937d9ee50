"""Histories checked offline, as a table and sentences, and as JSON (docs/history.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from racebench.analysis.offline import CheckResult
from racebench.core import json_text
from racebench.core.anomalies import ANOMALIES, TableKind, of_table
from racebench.reports.results.document import published
from racebench.reports.sentences import counted
from racebench.reports.terminal import timeline
from racebench.reports.terminal.tables import amount, blank_table, verdict_text

SCHEMA_VERSION = 1

_WIDEST = 16
_LATE = ("p50", "p99", "max")


def show(console: Console, results: Sequence[CheckResult]) -> None:
    """Print what was found in each file, and one witness of the first that is INVALID."""
    for part in render(results, width=console.width, ascii_only=console.options.ascii_only):
        console.print(part)


def render(results: Sequence[CheckResult], *, width: int, ascii_only: bool = False) -> Iterator[RenderableType]:
    """Yield the parts of the report, top to bottom."""
    kinds = (*of_table(TableKind.CHECK, numbered=True), *of_table(TableKind.CHECK, numbered=False))
    middle = ("opera-\ntions", "com-\nmitted", "rows", *(kind.head for kind in kinds))
    table = blank_table(("history",), middle, ("verdict",), ascii_only=ascii_only)
    for result in results:
        counts, forbidden = result.counts, result.about.forbidden
        table.add_row(
            Text(_label(result)),
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
                yield Text(f"One of the {witness.kind} of {_label(result)}: {witness.explanation}.")
                glyphs = timeline.ASCII if ascii_only else timeline.UNICODE
                if lines := timeline.draw(witness, width=width - 2, glyphs=glyphs):
                    yield Padding(Text("\n".join(lines), no_wrap=True, overflow="ignore"), (0, 0, 0, 2))
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
    text.append(_label(result), style="bold")
    text.append(f" ({result.file}: {result.about.scenario}, {result.about.strategy}) is ")
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
            f"{seen['redelivered']:,} again"
        )
        yield Padding(Text(said + (f"; late by ms: {late}" if late else "")), (0, 0, 0, 2))
    if result.about.note:
        yield Padding(Text(f"note: {result.about.note}", style="yellow"), (0, 0, 0, 2))


def _label(result: CheckResult) -> str:
    """The file's name, or, if that is long, its strategy's."""
    name = Path(result.file).name.removesuffix(".npz").removesuffix(".history")
    return name if len(name) <= _WIDEST else result.about.strategy


def _optional(count: int | None, *, bad: bool) -> Text:
    return Text("–") if count is None else amount(count, bad=bad)
