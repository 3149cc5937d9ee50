"""The outcomes of thresholds and of a baseline, a line each, with ✓ or ✗; the first lines of every summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from racebench.analysis.baselines import BaselineResult, Beside, Standing
from racebench.analysis.thresholds import Held, Outcome
from racebench.reports import figures
from racebench.reports.results.document import Document

_MARKS = {
    Outcome.PASSED: ("✓", "green"),
    Outcome.CROSSED: ("✗", "bold red"),
    Outcome.INCONCLUSIVE: ("?", "bold yellow"),
}
_OUTCOMES = {
    Standing.ANOMALY: Outcome.CROSSED,
    Standing.SLOWER: Outcome.CROSSED,
    Standing.HELD: Outcome.PASSED,
    Standing.INCONCLUSIVE: Outcome.INCONCLUSIVE,
}
_ALIKE = 3  # a threshold that more strategies pass is said once for all of them
_ASCII = {"✓": "+", "✗": "x"}


def render(document: Document, *, ascii_only: bool) -> Iterator[Text]:
    """Yield a line for each threshold and strategy, one for those that pass if they are many, then the baseline's."""
    for text, of in _by_text(document.thresholds).items():
        passed = [held for held in of if held.outcome is Outcome.PASSED]
        if len(passed) > _ALIKE:
            values = [held.value for held in passed if held.value is not None]
            said = f"{text}  {len(passed)} strategies, {_span(values, ascii_only=ascii_only)}"
            yield _line(Outcome.PASSED, Outcome.PASSED.value, said, ascii_only=ascii_only)
        for held in of if len(passed) <= _ALIKE else [one for one in of if one not in passed]:
            said = of_threshold(held, ascii_only=ascii_only)
            yield _line(held.outcome, held.outcome.value, said, ascii_only=ascii_only)
    if document.baseline is not None:
        yield from _baseline(document.baseline, ascii_only=ascii_only)


def _by_text(thresholds: Sequence[Held]) -> dict[str, list[Held]]:
    of_text: dict[str, list[Held]] = {}
    for held in thresholds:
        of_text.setdefault(held.text, []).append(held)
    return of_text


def _span(values: Sequence[float], *, ascii_only: bool) -> str:
    low, high = min(values), max(values)
    return figures.figure(low) if low == high else figures.interval(low, high, ascii_only=ascii_only)


def _line(outcome: Outcome | None, word: str, text: str, *, ascii_only: bool) -> Text:
    mark, style = ("·", "dim") if outcome is None else _MARKS[outcome]
    line = Text()
    line.append(f"{_ASCII.get(mark, mark) if ascii_only else mark} {word}", style=style)
    line.append(f"  {text}")
    return line


def of_threshold(held: Held, *, ascii_only: bool) -> str:
    """A threshold with its value for a strategy, and the reason for its result."""
    whose = held.text if held.text.lstrip().startswith(f"{held.strategy}:") else f"{held.strategy}: {held.text}"
    parts = []
    if held.value is not None:
        between = ""
        if held.low is not None and held.high is not None:
            between = f" [{figures.interval(held.low, held.high, ascii_only=ascii_only)}]"
        parts.append(f"is {figures.figure(held.value)}{between}")
    if held.reason:
        parts.append(held.reason)
    return f"{whose}  {', '.join(parts)}".rstrip()


def _baseline(result: BaselineResult, *, ascii_only: bool) -> Iterator[Text]:
    limit = "" if result.fail_slower is None else f", at most {100 * result.fail_slower:g} % slower"
    relative = "" if result.control is None else f", relative to {result.control}"
    yield Text(f"Compared with the baseline {result.name} of {result.created[:10]}{limit}{relative}:")
    for one in result.strategies:
        yield _line(
            _OUTCOMES.get(one.standing),
            one.standing.value,
            of_baseline(one, ascii_only=ascii_only),
            ascii_only=ascii_only,
        )
    if result.differs:
        differs = "; ".join(result.differs)
        yield Text(
            f"Throughput is not compared with it, because the conditions differ: {differs}. Save another baseline "
            "under the present conditions."
        )


def of_baseline(one: Beside, *, ascii_only: bool) -> str:
    """A strategy's throughput relative to that of the baseline, and the reason for its result."""
    ratio = ""
    if one.ratio is not None:
        between = figures.interval(one.ratio.low, one.ratio.high, ascii_only=ascii_only)
        ratio = f" {figures.figure(one.ratio.value)} [{between}]"
    return f"{one.strategy}{ratio}{f', {one.reason}' if one.reason else ''}"
