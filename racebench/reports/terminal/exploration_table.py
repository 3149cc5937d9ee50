"""Explorations on a terminal: a table, sentences, outcomes and the shortest witnesses as lanes (docs/explore.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.text import Text

from racebench.core.anomalies import ANOMALIES
from racebench.core.quantity import quantity
from racebench.core.verdict import Verdict
from racebench.exploration.result import Exploration, Replay, SessionOutcome
from racebench.reports import exploration_text
from racebench.reports.results.explorations import Explorations
from racebench.reports.sentences import counted
from racebench.reports.server import server_of
from racebench.reports.terminal import lanes, tables
from racebench.reports.terminal.tables import Column, Grid, amount, indented, verdict_text

_SPOKEN = 4  # explorations that get a sentence each; of more, only those that surprise
_SHOWN = 3  # witnesses on a terminal
_OUTCOMES = 8  # of one exploration on a terminal; the JSON has all


def show(console: Console, document: Explorations) -> None:
    """Print what was found, what it means, and the shortest witnesses."""
    tables.show(console, render(document, ascii_only=console.options.ascii_only))


def show_replay(console: Console, replay: Replay) -> None:
    """Print a replay and what came of it."""
    tables.show(console, _lanes(replay, ascii_only=console.options.ascii_only))


def render(document: Explorations, *, ascii_only: bool = False, witnesses: bool = True) -> Iterator[RenderableType]:
    """Yield the parts of the report, top to bottom; with `witnesses`, the shortest are drawn."""
    explorations = document.explorations
    if not explorations:
        return
    yield Text(headline(document), style="dim")
    kinds = [kind for kind in ANOMALIES.values() if any(exploration.counts[kind.name] for exploration in explorations)]
    forbidden = {kind for exploration in explorations for kind in exploration.forbidden}
    columns = (
        Column(head="strategy"),
        Column(head="sched-\nules", right=True),
        Column(head="pruned", right=True, rank=4),
        Column(head="wrong", right=True, rank=1),
        *(Column(head=kind.head, right=True, rank=0 if kind.name in forbidden else 5) for kind in kinds),
        Column(head="per s", right=True, rank=6),
        Column(head="verdict"),
    )
    table = Grid(columns, ascii_only=ascii_only)
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
        silent = len(explorations) - len(spoken)
        yield Text(f"{silent} of {len(explorations)} {'is' if silent == 1 else 'are'} as expected.")
    for exploration in spoken:
        yield Text(_sentence(exploration))
        yield from map(Text, exploration_text.remarks(exploration))
        if began := exploration_text.beginning(exploration):
            yield Text(began)
        yield from _outcomes(exploration, ascii_only=ascii_only)
    drawn = [one.witness for one in explorations if one.witness is not None and one.witness.steps] if witnesses else []
    for witness in drawn[:_SHOWN]:
        yield from _lanes(witness, ascii_only=ascii_only)
    for note in dict.fromkeys(note for exploration in explorations for note in exploration.notes):
        yield Text(f"note: {note}")


def headline(document: Explorations) -> str:
    """The scenario, the server, the sessions and the consumer, in a line."""
    exploration = document.explorations[0]
    consumer = exploration.consumer
    polls = f" and consumer '{consumer}' polling {quantity(exploration.polls, 'time')}" if consumer else ""
    reduction = "" if exploration.reduced else " · every schedule, without reduction"
    sessions = quantity(exploration.sessions, "session") + exploration_text.behind(exploration)
    return f"{exploration.scenario} on {server_of(document)} · {sessions}{polls}{reduction}"


def _sentence(exploration: Exploration) -> str:
    known = ""
    if exploration.verdict is not Verdict.UNKNOWN and exploration.as_expected is not None:
        known = ", as expected" if exploration.as_expected else ", NOT as expected"
    said = exploration_text.sentence(exploration)
    return f"{exploration.strategy} is {exploration.verdict.value}{known}: {said[0].lower()}{said[1:]}"


def _outcomes(exploration: Exploration, *, ascii_only: bool) -> Iterator[RenderableType]:
    """The outcomes of schedules, each with its number of schedules, the most frequent first."""
    columns = (
        Column(head="outcome of the sessions", wraps=True),
        Column(head="schedules", right=True),
        Column(head="anomalies", wraps=True),
    )
    table = Grid(columns, ascii_only=ascii_only)
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
    for broken in replay.findings:
        yield indented(Text(str(broken), style="red"))
    if remedy := exploration_text.remedy(replay):
        yield indented(Text(f"fix: {remedy}"))
    if replay.command is not None:
        yield Text(f"  {replay.command}", style="dim", no_wrap=True)
