"""The table, the sentences and the witness, as rich renderables."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from racebench.model import Anomaly, RunResult, Verdict
from racebench.reports import sentences, timeline
from racebench.reports.document import Document

_STYLES = {Verdict.VALID: "bold green", Verdict.INVALID: "bold red", Verdict.UNKNOWN: "bold yellow"}
_WITNESS_ORDER = ("duplicates", "missed", "redelivered", "lost", "unexpected", "unnumbered", "refused")


def show(console: Console, document: Document) -> None:
    """Print a document: the table, what it means, and one witness."""
    for part in render(document, width=console.width, ascii_only=console.options.ascii_only):
        console.print(part)


def plain(document: Document, *, width: int = 100) -> str:
    """The same as text, without colour."""
    console = Console(width=width, file=io.StringIO(), color_system=None, highlight=False)
    with console.capture() as capture:
        show(console, document)
    return capture.get()


def render(document: Document, *, width: int, ascii_only: bool = False) -> Iterator[RenderableType]:
    """Yield the parts of a document, top to bottom."""
    if not document.runs:
        return
    yield Text(_headline(document), style="dim")
    yield table(document.runs, ascii_only=ascii_only)
    for result in document.runs:
        yield from _paragraph(result)
    if (found := _witness(document.runs)) is not None:
        result, witness = found
        yield Text(f"One of the {witness.kind} of {result.strategy}: {witness.explanation}.")
        glyphs = timeline.ASCII if ascii_only else timeline.UNICODE
        lines = timeline.draw(witness, width=width - 2, glyphs=glyphs)
        yield Padding(Text("\n".join(lines), no_wrap=True, overflow="ignore"), (0, 0, 0, 2))


def table(results: Sequence[RunResult], *, ascii_only: bool = False) -> Table:
    """One line a strategy, within 80 columns."""
    made = Table(box=box.ASCII2 if ascii_only else box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    made.add_column("strategy", no_wrap=True)
    names = ("commits\nper s", "p50/p99\nms", "com-\nmitted", "dupli-\ncates", "missed", "gaps", "errors", "retries")
    for name in names:
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("verdict", no_wrap=True)
    for result in results:
        counts = result.counts
        made.add_row(
            result.strategy,
            f"{result.throughput_per_s:,.0f}",
            _latency(result.latency_us),
            _count(counts["committed"]),
            _count(counts["duplicates"], bad="duplicates" in result.forbidden),
            _count(counts["missed"], bad="missed" in result.forbidden),
            _count(counts["gaps"]),
            _count(sum(result.errors.values()), bad=bool(counts["refused"])),
            _count(counts["retries"]),
            Text(result.verdict.value, style=_STYLES[result.verdict]),
        )
    return made


def _headline(document: Document) -> str:
    first = document.runs[0]
    load = first.load
    pressed = [f"{load.workers} workers"]
    if load.duration_s is not None:
        pressed.append(f"{load.duration_s:g} s")
    if load.operations is not None:
        pressed.append(f"{load.operations:,} operations")
    for name, us in (("think", load.think_us), ("hold", load.hold_us)):
        if us:
            pressed.append(f"{name} {us / 1e3:g} ms")
    if load.tenants > 1:
        pressed.append(f"{load.tenants} tenants")
    server = document.environment.get("server_version", "?")
    where = document.environment.get("target", "?")
    return (
        f"{first.scenario} on PostgreSQL {server} ({where}) · {', '.join(pressed)} · "
        f"consumer '{first.consumer}' every {load.poll_interval_ms:g} ms · seed {load.seed}"
    )


def _paragraph(result: RunResult) -> Iterator[RenderableType]:
    text = Text()
    text.append(f"{result.strategy}", style="bold")
    text.append(" is ")
    text.append(result.verdict.value, style=_STYLES[result.verdict])
    text.append(f", {sentences.expectation(result)}. {sentences.happened(result)} {sentences.advice(result)}")
    yield text
    for note in result.notes:
        yield Padding(Text(f"note: {note}", style="yellow"), (0, 0, 0, 2))
    if result.schema:
        yield Padding(Text(f"kept: schema {result.schema}"), (0, 0, 0, 2))


def _witness(results: Sequence[RunResult]) -> tuple[RunResult, Anomaly] | None:
    """The most telling witness: of the first strategy that has one, by kind."""
    for result in results:
        for kind in _WITNESS_ORDER:
            for witness in result.witnesses:
                if witness.kind == kind and kind in result.forbidden:
                    return result, witness
    return None


def _latency(latency: Mapping[str, Any]) -> str:
    p50, p99 = latency["p50"], latency["p99"]
    return "–" if p50 is None else f"{_ms(p50)}/{_ms(p99)}"


def _ms(us: float) -> str:
    ms = us / 1e3
    return f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def _count(count: int, *, bad: bool = False) -> Text:
    """A count; from a million on in millions, so that the table keeps its width (the JSON is exact)."""
    text = f"{count}" if count < 1_000_000 else f"{count / 1e6:.1f}M"
    return Text(text, style="bold red" if bad and count else "")
