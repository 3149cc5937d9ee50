"""Explorations on a terminal: a table, sentences, outcomes and the shortest witnesses as lanes (docs/explore.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.text import Text

from racebench.core.anomalies import ANOMALIES
from racebench.core.results import Verdict
from racebench.exploration.result import Exploration, Replay, SessionOutcome
from racebench.reports import exploration_text
from racebench.reports.results.explorations import Explorations
from racebench.reports.sentences import counted
from racebench.reports.server import server_of
from racebench.reports.terminal import lanes
from racebench.reports.terminal.tables import amount, blank_table, verdict_text

_SPOKEN = 4  # explorations that get a sentence each; of more, only those that surprise
_SHOWN = 3  # witnesses on a terminal
_OUTCOMES = 8  # of one exploration on a terminal; the JSON has all


def show(console: Console, document: Explorations) -> None:
    """Print what was found, what it means, and the shortest witnesses."""
    for part in render(document, ascii_only=console.options.ascii_only):
        _print(console, part)


def show_replay(console: Console, replay: Replay) -> None:
    """Print a replay and what came of it."""
    for part in _lanes(replay, ascii_only=console.options.ascii_only):
        _print(console, part)


def _print(console: Console, part: RenderableType) -> None:
    """Print a part; a command is one line, however long: it is there to be copied."""
    console.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))


def render(document: Explorations, *, ascii_only: bool = False, witnesses: bool = True) -> Iterator[RenderableType]:
    """Yield the parts of the report, top to bottom; with `witnesses`, the shortest are drawn."""
    explorations = document.explorations
    if not explorations:
        return
    yield Text(headline(document), style="dim")
    kinds = [kind for kind in ANOMALIES.values() if any(exploration.counts[kind.name] for exploration in explorations)]
    counts = ("sched-\nules", "pruned", "wrong", *(kind.head for kind in kinds), "per s")
    table = blank_table(("strategy",), counts, ("verdict",), ascii_only=ascii_only)
    for exploration in explorations:
        table.add_row(
            exploration.strategy,
            amount(exploration.run) + ("" if exploration.complete else "+"),
            amount(exploration.pruned),
            amount(exploration.anomalous, bad=True),
            *(amount(exploration.counts[kind.name], bad=kind.name in exploration.forbidden) for kind in kinds),
            f"{exploration.schedules_per_s:,.0f}" if exploration.seconds else "–",
            verdict_text(exploration.verdict),
        )
    yield table
    if not all(exploration.complete for exploration in explorations):
        yield Text("+ not every schedule was run", style="dim")
    spoken = [one for one in explorations if len(explorations) <= _SPOKEN or not one.as_expected]
    if len(spoken) < len(explorations):
        yield Text(f"{len(explorations) - len(spoken)} of {len(explorations)} are as expected.")
    for exploration in spoken:
        yield Text(_sentence(exploration))
        for code, times in exploration.swallowed.items():
            schedules = "schedule" if times == 1 else "schedules"
            yield Text(
                f"In {times:,} {schedules} a call returned although its last statement was refused ({code}): "
                "is that meant?"
            )
        yield from _outcomes(exploration, ascii_only=ascii_only)
    drawn = [one.witness for one in explorations if one.witness is not None and one.witness.steps] if witnesses else []
    for witness in drawn[:_SHOWN]:
        yield from _lanes(witness, ascii_only=ascii_only)
    for note in dict.fromkeys(note for exploration in explorations for note in exploration.notes):
        yield Text(f"note: {note}", no_wrap=True)


def headline(document: Explorations) -> str:
    """The scenario, the server, the sessions and the consumer, in a line."""
    exploration = document.explorations[0]
    consumer = exploration.consumer
    times = "time" if exploration.polls == 1 else "times"
    polls = f" and consumer '{consumer}' polling {exploration.polls} {times}" if consumer else ""
    reduction = "" if exploration.reduced else " · every schedule, without reduction"
    return f"{exploration.scenario} on {server_of(document)} · {exploration.sessions} sessions{polls}{reduction}"


def _sentence(exploration: Exploration) -> str:
    known = ""
    if exploration.verdict is not Verdict.UNKNOWN and exploration.as_expected is not None:
        known = ", as expected" if exploration.as_expected else ", NOT as expected"
    said = exploration_text.sentence(exploration)
    return f"{exploration.strategy} is {exploration.verdict.value}{known}: {said[0].lower()}{said[1:]}"


def _outcomes(exploration: Exploration, *, ascii_only: bool) -> Iterator[RenderableType]:
    """The outcomes of schedules, each with its number of schedules, the most frequent first."""
    table = blank_table(("outcome of the sessions",), ("schedules",), ("anomalies",), ascii_only=ascii_only)
    sign = "x" if ascii_only else "×"
    for outcome, times in [*exploration.outcomes.items()][:_OUTCOMES]:
        ends = Counter(map(_end, outcome.sessions))
        table.add_row(
            ", ".join(f"{often} {sign} {end}" if often > 1 else end for end, often in ends.items()),
            amount(times),
            ", ".join(counted(kind, count) for kind, count in outcome.anomalies) or "none",
        )
    yield Text()
    yield table
    if (left := len(exploration.outcomes) - _OUTCOMES) > 0:
        yield Text(f"and {left:,} more, which the JSON has", style="dim")


def _end(session: SessionOutcome) -> str:
    """What became of a session: of versions their rank counts, for which number it is depends on those before."""
    names = {"OK": "committed", "FAIL": "refused", "UNKNOWN": "unknown"}
    name = names.get(session.outcome, session.outcome.lower())
    if session.outcome == "OK" and session.rank:
        name = f"version {session.rank}"
    code = [session.sqlstate] if session.sqlstate else []
    tries = [f"at try {session.tries}"] if session.tries > 1 else []
    return " ".join([name, *code, *tries])


def _lanes(replay: Replay, *, ascii_only: bool) -> Iterator[RenderableType]:
    yield Text()
    yield Text(exploration_text.heading(replay), style="bold")
    yield lanes.draw(replay.steps, ascii_only=ascii_only)
    for broken in replay.broken:
        yield Text(f"  {broken}", style="red")
    if replay.command is not None:
        yield Text(f"  {replay.command}", style="dim", no_wrap=True)
