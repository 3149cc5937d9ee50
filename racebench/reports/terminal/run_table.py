"""A document of runs for a terminal: the table, a paragraph for each run that needs one, and one witness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from racebench.core import codes
from racebench.core.anomalies import ANOMALIES, AnomalyKind, Evidence, TableKind, by_witness, needing, of_table
from racebench.core.model import Protocol
from racebench.core.quantity import quantity
from racebench.core.results import Anomaly, RunResult
from racebench.reports import sentences
from racebench.reports.results.document import Document
from racebench.reports.server import server_of
from racebench.reports.terminal import tables, timeline
from racebench.reports.terminal.tables import Column, Grid, amount, indented, verdict_text

_SPOKEN = 4  # runs that get a paragraph each; of more, only those that surprise


def show(console: Console, document: Document, *, verbose: bool = False) -> None:
    """Print a document: the tables, what they mean, and one witness; `verbose`: a paragraph for every run."""
    parts = render(document, width=console.width, ascii_only=console.options.ascii_only, verbose=verbose)
    tables.show(console, parts)


def render(
    document: Document, *, width: int, ascii_only: bool = False, verbose: bool = False
) -> Iterator[RenderableType]:
    """Yield the parts of a document, top to bottom."""
    runs = document.runs
    if not runs:
        return
    yield Text(headline(document), style="dim")
    if document.comparison is not None:
        from racebench.reports.terminal import comparison_table  # of compare alone

        yield from comparison_table.render(document, width=width, ascii_only=ascii_only, verbose=verbose)
        return
    if document.thresholds or document.baseline is not None:
        from racebench.reports import threshold_lines

        yield from threshold_lines.render(document, ascii_only=ascii_only)
    yield table(runs, ascii_only=ascii_only)
    if any([consumer.name for consumer in result.consumers] not in ([], ["cursor"]) for result in runs):
        yield Text()
        yield consumer_table(runs, ascii_only=ascii_only)
    if any(result.measures for result in runs):
        yield Text()
        yield measure_table(runs, ascii_only=ascii_only)
    if any(result.injected for result in runs):
        yield Text()
        yield fault_table(runs, ascii_only=ascii_only)
    spoken = [result for result in runs if verbose or len(runs) <= _SPOKEN or not result.as_expected or result.notes]
    if len(spoken) < len(runs):
        silent = len(runs) - len(spoken)
        are = "is" if silent == 1 else "are"
        yield Text(f"{silent} of {len(runs)} runs {are} as expected. VALID under load is an upper bound, not a proof.")
    for result in spoken:
        yield from _paragraph(result, verbose=verbose)
    if (shown := _witness(runs)) is not None:
        result, witness = shown
        said = result if result in spoken else None
        if example := sentences.example(witness, said, of=result.strategy):
            yield Text(example)
        glyphs = timeline.ASCII if ascii_only else timeline.UNICODE
        if lines := timeline.draw(witness, width=tables.drawing_width(width) - 2, glyphs=glyphs):
            yield indented(Text("\n".join(lines), no_wrap=True))


def table(results: Sequence[RunResult], *, ascii_only: bool = False) -> Grid:
    """One line a strategy. What can go wrong depends on whether the scenario numbers rows."""
    numbered = any(result.counts["rows"] or result.consumers for result in results)
    kinds = of_table(TableKind.RUN, numbered=numbered)
    columns = (
        Column(head="strategy"),
        Column(head="commits\nper s", right=True, rank=1),
        Column(head="p50/p99\nms", right=True, rank=3),
        Column(head="com-\nmitted", right=True, rank=4),
        *(_of_kind(kind, results) for kind in kinds),
        Column(head="errors", right=True, rank=2),
        Column(head="retries", right=True, rank=5),
        Column(head="verdict"),
    )
    drawn = Grid(columns, ascii_only=ascii_only)
    for result in results:
        counts = result.counts
        drawn.add_row(
            result.strategy,
            f"{result.throughput_per_s:,.0f}",
            _latency(result.latency_us),
            amount(counts["committed"]),
            *(amount(counts[kind.name], bad=kind.name in result.forbidden) for kind in kinds),
            amount(sum(result.errors.values()), bad=bool(counts["refused"])),
            amount(counts["retries"]),
            verdict_text(result.verdict),
        )
    return drawn


def _of_kind(kind: AnomalyKind, results: Sequence[RunResult]) -> Column:
    """The column of an anomaly: one that no run forbids is the least important."""
    return Column(head=kind.head, right=True, rank=0 if any(kind.name in run.forbidden for run in results) else 6)


def row(label: str, result: RunResult) -> str:
    """A run in one line, while others go on: what it is called, the verdict, what was found and the throughput."""
    found = ", ".join(sentences.counted(kind, result.counts[kind]) for kind in result.found)
    figures = f"{found or quantity(result.counts['committed'], 'commit')}, {result.throughput_per_s:,.0f} per s"
    return f"{label}  {result.verdict.value}  {figures}"


def consumer_table(results: Sequence[RunResult], *, ascii_only: bool = False) -> Grid:
    """One line a strategy and consumer: what it missed, was given again, and how late rows came."""
    kinds = [ANOMALIES[name] for name in needing(Evidence.CONSUMER)]
    columns = (
        *((Column(head="strategy"),) if len(results) > 1 else ()),
        Column(head="consumer"),
        Column(head="deliv-\nered", right=True, rank=3),
        *(_of_kind(kind, results) for kind in kinds),
        Column(head="late ms\np50", right=True, rank=1),
        Column(head="late ms\np99", right=True, rank=2),
        Column(head="late ms\nmax", right=True, rank=5),
        Column(head="longest\npoll ms", right=True, rank=4),
        Column(head="stalled\nms", right=True, rank=2),
        Column(head="verdict"),
    )
    drawn = Grid(columns, ascii_only=ascii_only)
    for result in results:
        for consumer in result.consumers:
            counts, late = consumer.counts, consumer.late_us
            drawn.add_row(
                *((result.strategy,) if len(results) > 1 else ()),
                consumer.name,
                amount(counts["delivered"]),
                *(_count(counts.get(kind.name), bad=kind.name in result.forbidden) for kind in kinds),
                *(_optional_ms(late[name]) for name in ("p50", "p99", "max")),
                _optional_ms(consumer.longest_poll_us),
                "–" if consumer.stalled_ms is None else _ms(1e3 * consumer.stalled_ms),
                verdict_text(consumer.verdict),
            )
    return drawn


def measure_table(results: Sequence[RunResult], *, ascii_only: bool = False) -> Grid:
    """One line a strategy with what the scenario measures, and the errors by SQLSTATE."""
    names = list(dict.fromkeys(name for result in results for name in result.measures))
    columns = (
        Column(head="strategy"),
        *(Column(head=name, right=True, rank=1) for name in names),
        Column(head="errors", wraps=True),
    )
    drawn = Grid(columns, ascii_only=ascii_only)
    for result in results:
        values = ("–" if result.measures.get(name) is None else str(result.measures[name]) for name in names)
        errors = ", ".join(f"{count} × {codes.shown(sqlstate)}" for sqlstate, count in result.errors.items())
        drawn.add_row(result.strategy, *values, errors or "none")
    return drawn


def fault_table(results: Sequence[RunResult], *, ascii_only: bool = False) -> Grid:
    """One line a strategy: which faults were injected, and what became of its operations."""
    columns = (
        Column(head="strategy"),
        Column(head="faults injected", wraps=True),
        *(Column(head=head, right=True) for head in ("OK", "FAIL", "UNKNOWN")),
    )
    drawn = Grid(columns, ascii_only=ascii_only)
    for result in results:
        outcomes = (amount(result.counts[name]) for name in ("committed", "failed", "unknown"))
        drawn.add_row(result.strategy, sentences.faults_of([result]) or "none", *outcomes)
    return drawn


def headline(document: Document) -> str:
    """The scenario, the server, the load and the consumers, in a line."""
    first = document.runs[0]
    load = first.load
    parts = [quantity(load.workers, "worker")]
    if load.connections_per_worker > 1:
        parts[0] += f" × {load.connections_per_worker} connections"
    if load.protocol is not Protocol.PREPARED:
        parts.append(load.protocol.value)
    parts.append("closed loop" if load.rate_per_s is None else f"open loop, {load.rate_per_s:g} due a second")
    if load.warmup_s:
        parts.append(f"{load.warmup_s:g} s warm-up")
    if load.duration_s is not None:
        parts.append(f"{load.duration_s:g} s")
    if load.operations is not None:
        parts.append(quantity(load.operations, "operation"))
    for name, us in (("think", load.think_us), ("hold", load.hold_us), ("jitter", load.jitter_us)):
        if us:
            parts.append(f"{name} {us / 1e3:g} ms")
    if load.long_percent:
        parts.append(f"{load.long_percent:g} % hold {load.long_us / 1e3:g} ms")
    if load.rollback_percent:
        parts.append(f"{load.rollback_percent:g} % roll back")
    if load.tenants > 1:
        parts.append(f"{load.tenants} tenants")
    if load.idle_in_transaction_s:
        parts.append(f"a session idle in transaction for {load.idle_in_transaction_s:g} s")
    if load.faults:
        parts.append(f"faults {', '.join(fault.text for fault in load.faults)}")
    return (
        f"{first.scenario} on {server_of(document)} · {', '.join(parts)} · "
        f"{_consumers(first)}seed {load.seed if document.comparison is None else document.comparison.seed}"
    )


def _consumers(result: RunResult) -> str:
    if not result.consumers:
        return ""
    only = f"consumer '{result.consumers[0].name}'"
    what = only if len(result.consumers) == 1 else f"{len(result.consumers)} consumers"
    return f"{what} every {result.load.poll_interval_ms:g} ms · "


def _paragraph(result: RunResult, *, verbose: bool) -> Iterator[RenderableType]:
    text = Text()
    text.append(f"{result.strategy}", style="bold")
    text.append(" is ")
    text.append(verdict_text(result.verdict))
    text.append(f"{sentences.expectation(result)}. {sentences.happened(result)} {sentences.advice(result)}")
    yield text
    if verbose and (conditions := sentences.conditions([result])) is not None:
        yield indented(Text(conditions, style="dim"))
    if (kept_up := sentences.kept_up(result)) is not None:
        yield indented(Text(kept_up))
    if (known := sentences.first_duplicate(result)) is not None:
        yield indented(Text(known))
    for line in sentences.on_standby(result):
        yield indented(Text(line))
    for stall in sentences.stalls(result):
        yield indented(Text(stall))
    if result.machines:
        yield indented(Text(sentences.machines(result)))
    for note in result.notes:
        yield indented(Text(f"note: {note}", style="yellow"))
    if result.schema:
        yield indented(Text(f"kept: schema {result.schema}"))


def _witness(results: Sequence[RunResult]) -> tuple[RunResult, Anomaly] | None:
    """The most useful witness, by its kind, of the first strategy that has one."""
    for result in results:
        forbidden = [witness for witness in result.witnesses if witness.kind in result.forbidden]
        if forbidden:
            return result, min(forbidden, key=lambda witness: by_witness(witness.kind))
    return None


def _latency(latency: Mapping[str, Any]) -> str:
    p50, p99 = latency["p50"], latency["p99"]
    return "–" if p50 is None else f"{_ms(p50)}/{_ms(p99)}"


def _count(count: int | None, *, bad: bool) -> Text | str:
    """The count of a kind; a dash in a document that is older than the kind."""
    return "–" if count is None else amount(count, bad=bad)


def _optional_ms(us: float | None) -> str:
    return "–" if us is None else _ms(us)


def _ms(us: float) -> str:
    ms = us / 1e3
    return f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"
