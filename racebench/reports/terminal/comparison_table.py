"""A comparison as a table, what was found, and what makes its figures less than they seem.

Every figure is the comparison's own. On a narrow terminal the table is two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from racebench.analysis.comparison import Compared, Comparison, Judgement
from racebench.analysis.estimates import Estimate
from racebench.core.anomalies import ANOMALIES, TableKind, of_table
from racebench.core.quantity import quantity
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.reports import escape, figures, sentences, threshold_lines
from racebench.reports.results.document import Document
from racebench.reports.terminal.tables import Column, Grid, amount, indented, verdict_text

_STYLES = {
    Judgement.BETTER: "bold green",
    Judgement.WORSE: "bold red",
    Judgement.INVALID: "bold red",
    Judgement.INCONCLUSIVE: "bold yellow",
}
_SENSELESS = 100  # an interval whose ends differ by such a factor says nothing; the JSON has it
_SPOKEN = 5  # strategies with anomalies that get a line each


def render(document: Document, *, width: int, ascii_only: bool, verbose: bool = False) -> Iterator[RenderableType]:
    """Yield the parts, top to bottom, after the headline."""
    comparison = document.comparison
    assert comparison is not None
    yield Text(f"{_how_far(comparison)} · reference {comparison.reference}", style="dim")
    yield from threshold_lines.render(document, ascii_only=ascii_only)
    kinds, forbidden = _kinds(document.runs)
    whole = _table(comparison, kinds, forbidden, speed=True, counts=True, ascii_only=ascii_only)
    if whole.least_width <= width:
        yield whole
    else:
        yield _table(comparison, kinds, forbidden, speed=True, counts=False, ascii_only=ascii_only)
        yield Text()
        yield _table(comparison, kinds, forbidden, speed=False, counts=True, ascii_only=ascii_only)
    yield Text(_legend(comparison), style="dim")
    yield from _anomalies(comparison, document.runs)
    for one in comparison.strategies if verbose else ():
        conditions = sentences.conditions([run for run in document.runs if run.strategy == one.strategy])
        if conditions is not None:
            yield Text.assemble((one.strategy, "bold"), f": {conditions}")
    for one in comparison.strategies:
        faults = sentences.injected([run for run in document.runs if run.strategy == one.strategy])
        if faults is not None:
            yield Text.assemble((one.strategy, "bold"), f": {faults}.")
    for warning in comparison.warnings:
        yield indented(Text(f"warning: {warning}", style="yellow"))


def _how_far(comparison: Comparison) -> str:
    if comparison.whole < comparison.rounds:
        return f"UNFINISHED: {comparison.whole} of {comparison.rounds} whole rounds, in random order"
    return f"{quantity(comparison.whole, 'round')}, in random order"


def _kinds(runs: Sequence[RunResult]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The anomalies that have a column, and those that the scenario forbids."""
    numbered = any(result.counts["rows"] or result.consumers for result in runs)
    kinds = tuple(kind.name for kind in of_table(TableKind.COMPARISON, numbered=numbered))
    return kinds, runs[0].forbidden if runs else ()


def _table(
    comparison: Comparison,
    kinds: Sequence[str],
    forbidden: Sequence[str],
    *,
    speed: bool,
    counts: bool,
    ascii_only: bool,
) -> Grid:
    """One line a strategy: whether it is right, then its speed beside the reference, then its latencies and counts."""
    columns = [Column(head="strategy"), Column(head="verdict")]
    if speed:
        columns += [
            Column(head="judged"),
            Column(head="commits\nper s", right=True, rank=1),
            Column(head="to refe-\nrence", right=True),
            Column(head="interval", right=True, rank=2),
        ]
    if counts:
        columns += [
            Column(head="p50/p99\nms", right=True, rank=3),
            Column(head="com-\nmitted", right=True, rank=5),
            *(Column(head=ANOMALIES[kind].head, right=True, rank=0 if kind in forbidden else 6) for kind in kinds),
            Column(head="errors", right=True, rank=2),
            Column(head="retries", right=True, rank=4),
        ]
    drawn = Grid(columns, ascii_only=ascii_only)
    for one in comparison.strategies:
        cells: list[Text | str] = [one.strategy, verdict_text(one.verdict)]
        if speed:
            cells.append(Text(judged(one), style=_style(one)))
            cells += [_rate(one.throughput_per_s), *_ratio(one, ascii_only=ascii_only)]
        if counts:
            cells += [_latency(one), _amount(one, "committed")]
            cells += [_amount(one, kind, bad=kind in forbidden) for kind in kinds]
            cells += [_amount(one, "errors", bad=bool(one.counts["refused"])), _amount(one, "retries")]
        drawn.add_row(*cells)
    return drawn


def _style(one: Compared) -> str:
    return _STYLES.get(one.judgement, "")


def _amount(one: Compared, name: str, *, bad: bool = False) -> Text | str:
    """A count; a dash, no 0, for what was not run."""
    return amount(one.counts[name], bad=bad) if one.runs else "–"


def _rate(rate: Estimate | None) -> str:
    return "–" if rate is None else f"{rate.value:,.0f}"


def _ratio(one: Compared, *, ascii_only: bool) -> tuple[str, str]:
    if one.judgement is Judgement.REFERENCE:
        return "1", ""
    if one.ratio is None:
        return "–", ""
    if one.ratio.high > _SENSELESS * one.ratio.low:
        return figures.figure(one.ratio.value), "too wide"
    return figures.figure(one.ratio.value), figures.interval(one.ratio.low, one.ratio.high, ascii_only=ascii_only)


def _latency(one: Compared) -> str:
    p50, p99 = one.latency_us["p50"], one.latency_us["p99"]
    return "–" if p50 is None or p99 is None else f"{_ms(p50.value)}/{_ms(p99.value)}"


def _ms(us: float) -> str:
    ms = us / 1e3
    return f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def _legend(comparison: Comparison) -> str:
    margin = f"Same: within {100 * comparison.margin:g} %. " if comparison.margin else ""
    reference = next((one for one in comparison.strategies if one.strategy == comparison.reference), None)
    racy = (
        f" The reference {comparison.reference} is INVALID, so a VALID strategy is judged better even if it is slower."
        if reference is not None and reference.verdict is Verdict.INVALID
        else ""
    )
    return (
        f"Rates and latencies: geometric means of the rounds; intervals: {100 * comparison.confidence:g} % that all "
        f"hold together. {margin}Counts: sums of all runs. VALID under load is an upper bound, not a proof.{racy}"
    )


def _anomalies(comparison: Comparison, runs: Sequence[RunResult]) -> Iterator[Text]:
    """A line for each strategy with anomalies: which, in how many runs, and one of them in words."""
    wrong = [one for one in comparison.strategies if one.found]
    for one in wrong[:_SPOKEN]:
        of = [run for run in runs if run.strategy == one.strategy]
        shown = sum(bool(run.found) for run in of)
        anomalies = ", ".join(sentences.counted(kind, one.counts[kind]) for kind in one.found)
        line = Text()
        line.append(one.strategy, style="bold")
        line.append(" is ")
        line.append(verdict_text(one.verdict))
        line.append("" if all(run.as_expected is not False for run in of) else ", NOT as expected")
        line.append(f": {anomalies}, in {shown} of {quantity(len(of), 'run')}.")
        witnesses = (witness for run in of for witness in run.witnesses if witness.kind in one.found)
        if (witness := next(witnesses, None)) is not None:
            line.append(f" {sentences.example(witness)}")
        yield line
    if len(wrong) > _SPOKEN:
        more = quantity(len(wrong) - _SPOKEN, "more has", "more have")
        yield Text(f"{more} anomalies; see the JSON.")


def headings(document: Document) -> tuple[str, ...]:
    """The headings of `cells`."""
    assert document.comparison is not None
    kinds, _ = _kinds(document.runs)
    beside = f"to {document.comparison.reference}"
    return ("commits per s", beside, "interval", "p50/p99 ms", *kinds, "errors", "retries")


def cells(one: Compared, document: Document) -> list[str]:
    """A strategy's figures: its rate, the ratio and its interval, latencies, counts."""
    kinds, _ = _kinds(document.runs)
    counts = [f"{one.counts[kind]:,}" if one.runs else "–" for kind in (*kinds, "errors", "retries")]
    return [_rate(one.throughput_per_s), *_ratio(one, ascii_only=False), _latency(one), *counts]


def judged(one: Compared) -> str:
    """In a word; of what has an anomaly nothing more is to be said than its verdict."""
    return "–" if one.judgement is Judgement.INVALID else one.judgement.value


def read_from(comparison: Comparison) -> str:
    """How far it came, and what the figures are."""
    return f"{_how_far(comparison)}. {_legend(comparison)}"


def markdown(document: Document) -> str:
    """The comparison as a Markdown table, after what became of thresholds and before the warnings."""
    comparison = document.comparison
    assert comparison is not None
    heads = headings(document)
    lines = [f"- {escape.markdown(line.plain)}" for line in threshold_lines.render(document, ascii_only=False)]
    lines += [""] if lines else []
    lines.append(
        _row(["strategy", "verdict", "judged", heads[0], f"to {escape.code(comparison.reference)}", *heads[2:]])
    )
    lines.append(_row(["---"] * 3 + ["---:"] * len(heads)))
    for one in comparison.strategies:
        verdict = one.verdict.value if one.verdict is Verdict.VALID else f"**{one.verdict.value}**"
        lines.append(_row([escape.code(one.strategy), verdict, judged(one), *cells(one, document)]))
    lines += ["", read_from(comparison)]
    if comparison.warnings:
        lines += ["", *(f"- warning: {escape.markdown(warning)}" for warning in comparison.warnings)]
    return "\n".join([*lines, ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
