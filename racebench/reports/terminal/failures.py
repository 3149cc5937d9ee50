"""What a test says that fails because of a result: what was found in one line, the lanes, the figures, the next step.

The first line is what pytest repeats in its summary, cut to the terminal's width, so the figures come first in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from racebench.core.anomalies import ANOMALIES, NON_SERIALIZABLE
from racebench.core.plain_text import one_line
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.exploration.result import Exploration, Limit, Replay
from racebench.reports import exploration_text, sentences
from racebench.reports.library_words import in_library_words
from racebench.reports.results.document import Document
from racebench.reports.results.explorations import Explorations
from racebench.reports.terminal import exploration_table, lanes, run_table, tables

#: The kinds that come from a decision on what another session changes, and what makes such a decision safe.
_DECISIONS = ("violations", "duplicates")
_FIXES = (
    "take a lock before the read (SELECT … FOR UPDATE of a row that exists, such as the parent's; else "
    "pg_advisory_xact_lock), let a constraint refuse the second write and try again, or use SERIALIZABLE and try again"
)
#: How a search that found nothing gets further.
_MORE = {Limit.BUDGET: "give the search more time (budget=300)", Limit.SCHEDULES: "give it a larger max_schedules"}


def of_exploration(document: Explorations, *, width: int, given: Sequence[str] = ()) -> str:
    """An exploration that is not VALID; the document has no other.

    `given`: the parameters, of setup and invariant, with which the exploration was called.
    """
    (exploration,) = document.explorations
    unknown = "UNKNOWN, " if exploration.verdict is Verdict.UNKNOWN else ""
    first = f"{exploration.strategy}: {unknown}{exploration_text.finding(exploration)}"
    return _text(first, _parts_of_exploration(document, exploration, given), width=width)


def of_replay(replay: Replay, *, width: int) -> str:
    """A replay with an anomaly."""
    broken = f" ({replay.findings[0]})" if replay.findings else ""
    parts = [Text(), *_witness(replay), Text(), *_fix(tuple(replay.anomalies), replay)]
    return _text(f"{exploration_text.heading(replay)}{broken}", parts, width=width)


def of_runs(document: Document, verdicts: Mapping[str, Verdict], *, width: int) -> str:
    """Runs under load of which one is not VALID; `verdicts` are those of the strategies."""
    results = {name: [run for run in document.runs if run.strategy == name] for name in verdicts}
    said = [f"{name}: {_counted(verdicts[name], runs)}" for name, runs in results.items() if runs]
    wrong = [text for name, text in zip(results, said, strict=True) if verdicts[name] is not Verdict.VALID]
    parts = [Text(), *run_table.render(document, width=width), Text(), *_fix(_found(document.runs))]
    if document.runs[0].as_expected is None and document.runs[0].verdict is Verdict.INVALID:  # the user's own code
        shows = "`explore` in place of `hammer` shows the schedule, step by step"
        parts.append(Text(f"next: {shows}, if the code is SQL or uses psycopg 3"))
    return _text("; ".join(wrong), parts, width=width)


def _counted(verdict: Verdict, runs: Sequence[RunResult]) -> str:
    """The anomalies of a strategy's runs, counted."""
    found = _found(runs)
    if verdict is Verdict.UNKNOWN or not found:
        said = sentences.happened(runs[0]).removesuffix(".")
        return f"{verdict.value}, {said[0].lower()}{said[1:]}"
    counts = {kind: sum(run.counts[kind] for run in runs) for kind in found}
    attempts = sum(run.counts["committed"] + run.counts["refused"] for run in runs)
    return f"{', '.join(sentences.counted(*pair) for pair in counts.items())} in {attempts:,} operations under load"


def _found(runs: Sequence[RunResult]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(kind for run in runs for kind in run.found))


def _parts_of_exploration(
    document: Explorations, exploration: Exploration, given: Sequence[str]
) -> Iterator[RenderableType]:
    witness = exploration.witness
    if witness is not None and witness.steps:
        yield Text()
        yield Text(exploration_text.heading(witness))
        yield from _witness(witness)
    yield Text()
    yield from exploration_table.render(document, witnesses=False)
    yield Text()
    yield from _fix(exploration.found, witness)
    if exploration.verdict is Verdict.UNKNOWN and exploration.limit in _MORE:
        yield Text(f"next: {_MORE[exploration.limit]}; `math.inf` as the budget runs every schedule")
    if witness is not None:
        yield Text("run this schedule again:")
        yield Text(f"  {_again(witness, given)}", no_wrap=True)
        if witness.command is not None:
            yield Text(f"  {witness.command}", no_wrap=True)


def _witness(replay: Replay) -> Iterator[RenderableType]:
    yield lanes.draw(replay.steps)
    for broken in replay.findings:
        yield Text(f"  {broken}")


def _fix(found: Sequence[str], witness: Replay | None = None) -> Iterator[RenderableType]:
    """What to do about the anomalies; nothing if there are none."""
    if not found:
        return
    remedy = "" if witness is None else exploration_text.remedy(witness)
    if remedy and witness is not None and (witness.named or {*found} == {NON_SERIALIZABLE}):
        yield Text(f"fix: {remedy}")
        return
    kind = min((ANOMALIES[name] for name in found), key=lambda kind: kind.advice_rank)
    yield Text(f"fix: {_FIXES if kind.name in _DECISIONS else kind.advice[0].lower() + kind.advice[1:]}")


def _again(witness: Replay, given: Sequence[str]) -> str:
    """The call of the fixture that runs a witness again, with the functions by their names where they have one.

    The values of the parameters that were given are those of the test.
    """
    names = [call.rpartition(":")[2] for call in dict.fromkeys(witness.calls.values())]
    if not names and (witness.command or "").endswith("'"):
        subjects = ""  # a scenario's, which the schedule names
    else:
        subjects = f"{', '.join(names) if names and all(map(str.isidentifier, names)) else '…'}, "
    definitions = "".join(f"{parameter}=…, " for parameter in given)
    return f"racebench.replay({subjects}{definitions}schedule='{witness.schedule}')"


def _text(first: str, parts: Sequence[RenderableType] | Iterator[RenderableType], *, width: int) -> str:
    """The first line and the parts as plain text, in the library's words."""

    body = in_library_words(tables.plain(lambda console: tables.show(console, parts), width=width)).rstrip()
    return "\n".join([in_library_words(one_line(first)), *(line.rstrip() for line in body.splitlines())])
