"""Choose the schedule to show of a strategy without a walkthrough.

A schedule with an anomaly if the explorer finds one, else one in which a session waits, else one in which the sessions
overlap.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from racebench.core.errors import UsageProblem
from racebench.core.model import Strategy
from racebench.core.quantity import quantity
from racebench.core.target import Target
from racebench.demo import player
from racebench.demo.frames import Frame
from racebench.demo.presentation import Part, Presentation, ScheduleEntry
from racebench.demo.schedules import entries, overlapping
from racebench.exploration import explorer
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration, Unseen
from racebench.exploration.tally import switches

#: Schedules with an anomaly that are tried, to find one in which the fix makes a session wait.
_CANDIDATES = 12

#: What the search cannot show, by its reason.
LIMITS = {
    Unseen.STATEMENT: "Its race is inside one statement: use racebench run to see it.",
    Unseen.CATALOG: "Two sessions change the schema at the same time, each in one statement: use racebench run.",
    Unseen.TIMEOUT: "Its script has a time-out of its own, which no schedule shows: use racebench run.",
    Unseen.BATCH: "A call sends several statements at once, which are one step: use racebench run.",
    Unseen.DELAY: "This consumer depends on the time, which no schedule controls: use racebench run.",
    Unseen.RANDOM: "Random numbers may decide what a session does: explore more with racebench explore --draws.",
    Unseen.ATTRIBUTION: "It could not always be told which request a statement belonged to, so this proves nothing.",
    Unseen.ORDERS: "Not every outcome could be compared with every serial order, so this proves nothing.",
    Unseen.PHYSICAL: "An index may keep what earlier schedules put into it, and the tables cannot be made anew.",
    Unseen.LEFTOVER: "The schedules did not all begin in the same state, so this proves nothing.",
}

Tell = Callable[[str, float], None]


def heading_of(strategy: str, consumer: str | None) -> str:
    """The heading of a part."""
    return strategy + (f", consumer {consumer}" if consumer else "")


def repeat_with_fix(part: Part, fix: Strategy) -> Part:
    """The same schedule with another strategy."""
    heading = heading_of(fix.name, part.consumer.name if part.consumer else None)
    return Part(
        scenario=part.scenario,
        strategy=fix,
        consumer=part.consumer,
        sessions=part.sessions,
        repeats=True,
        heading=f"the fix: {heading}" if fix.right else f"again: {heading}",
        opening=f"The same schedule again, with '{fix.name}': {fix.summary}.",
        note="The schedule is that of the first part. A session that waits cannot take its step." if fix.right else "",
    )


class _Worst:
    """Keeps the schedules with most kinds of anomalies, fewest session switches first."""

    def __init__(self, forbidden: Sequence[str]) -> None:
        self._forbidden = forbidden
        self.schedules: list[ScheduleResult] = []

    def add(self, ended: ScheduleResult) -> None:
        """Keep a schedule that is at its end, if it is among the worst."""
        if self._kinds(ended) and not ended.raced:
            self.schedules = sorted([*self.schedules, ended], key=self._rank)[:_CANDIDATES]

    def _kinds(self, ended: ScheduleResult) -> int:
        return sum(bool(ended.counts[kind]) for kind in self._forbidden)

    def _rank(self, ended: ScheduleResult) -> tuple[int, int, int]:
        return -self._kinds(ended), switches(ended.schedule), len(ended.schedule)


def choose_parts(target: Target, request: ExplorationRequest, fix: Strategy | None, tell: Tell) -> tuple[Part, ...]:
    """Explore a strategy, and return a part with a schedule worth showing, and a second part with the fix.

    Among schedules with an anomaly the first is taken in which a session waits once the fix is used.
    """
    worst = _Worst(request.scenario.forbid)
    exploration = explorer.explore(
        target,
        request,
        progress=lambda now: tell(f"{request.strategy.name}: {quantity(now.run, 'schedule')}", 0.4),
        ended=worst.add,
    )
    part = Part(
        scenario=request.scenario,
        strategy=request.strategy,
        consumer=request.consumer,
        sessions=request.sessions,
        heading=heading_of(request.strategy.name, request.consumer.name if request.consumer else None),
        opening=f"'{request.strategy.name}': {request.strategy.summary}. {_describe_search(exploration)}",
    )
    schedules = [ended.schedule for ended in worst.schedules]
    if not schedules and exploration.witness is not None:
        schedules = [exploration.witness.schedule.steps]
    tell("looking for a schedule to show", 0.6)
    have = "has" if exploration.anomalous == 1 else "have"
    count = f"{exploration.anomalous} of {quantity(exploration.run, 'schedule')} {have} an anomaly; this is one."
    first: tuple[Part, ...] | None = None
    for schedule in schedules:
        broken = _with_schedule(part, entries(schedule), count, strict=True)
        parts = (broken,) if fix is None else (broken, repeat_with_fix(broken, fix))
        try:
            frames = player.rehearse(target, Presentation(title="", parts=parts))[1]
        except UsageProblem:
            continue  # new sessions cannot follow it
        if not frames[0][-1].anomalies:
            continue  # the anomaly needed sessions that had run other schedules before
        if fix is None or _has_wait(frames[-1]):
            return parts
        first = first or parts
    if first is not None:
        return first
    not_repeated = ""
    if schedules:
        count = f"{exploration.anomalous} of {quantity(exploration.run, 'schedule')}"
        not_repeated = f"{count} had an anomaly, but none with new sessions."
    waiting = _waiting(target, replace(part, opening=f"{part.opening} {not_repeated}".strip()))
    return (waiting,) if fix is None else (waiting, repeat_with_fix(waiting, fix))


def _has_wait(frames: Iterable[Frame]) -> bool:
    return any(lane.waits for frame in frames for lane in frame.lanes)


def _describe_search(exploration: Exploration) -> str:
    if exploration.anomalous:
        return ""
    limit = f" {LIMITS[exploration.unseen]}" if exploration.unseen is not None else ""
    if exploration.fault:
        limit = f" Then a fault ended the search: {exploration.fault}."
    which = "All " if exploration.complete and exploration.run > 1 else ""
    run = f"{which}{quantity(exploration.run, 'schedule was', 'schedules were')} run first"
    return f"{run}; none has an anomaly.{limit}"


def _waiting(target: Target, part: Part) -> Part:
    """The schedule in which the second session begins as late as possible and still has to wait."""
    first: Part | None = None
    statements = len(part.strategy.script.statements)
    for schedule in overlapping(part.sessions, statements, part.consumer is not None):
        candidate = _with_schedule(part, schedule, "", strict=False)
        with contextlib.closing(player.play(target, candidate, 0)) as frames:
            waits = _has_wait(frames)
        if waits:
            return _with_schedule(part, schedule, "In this one a session has to wait.", strict=False)
        first = first or candidate
    assert first is not None
    return _with_schedule(part, first.schedule, "Here the sessions overlap, and none has to wait.", strict=False)


def _with_schedule(part: Part, schedule: tuple[ScheduleEntry, ...], remark: str, *, strict: bool) -> Part:
    return replace(part, schedule=schedule, strict=strict, opening=f"{part.opening.strip()} {remark}".strip())
