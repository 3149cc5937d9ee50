"""Which order to show of a strategy that has no telling: one that goes wrong, one that waits, one that overlaps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace

from racebench.core.errors import UsageProblem
from racebench.core.model import Strategy
from racebench.core.target import Target
from racebench.demo import play
from racebench.demo.frames import Frame
from racebench.demo.telling import Part, Programme, Turn
from racebench.demo.turns import overlapping
from racebench.exploration import explorer
from racebench.exploration.explorer import Explored, switches
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ExplorationRequest

#: Orders that go wrong among which one is looked for that makes the fix wait.
_CANDIDATES = 12

Tell = Callable[[str, float], None]


def heading_of(strategy: str, consumer: str | None) -> str:
    """What a part is of."""
    return strategy + (f", consumer {consumer}" if consumer else "")


def again(part: Part, fix: Strategy) -> Part:
    """The same turns with another strategy."""
    heading = heading_of(fix.name, part.consumer.name if part.consumer else None)
    return Part(
        scenario=part.scenario,
        strategy=fix,
        consumer=part.consumer,
        sessions=part.sessions,
        again=True,
        heading=f"the fix: {heading}" if fix.right else f"again: {heading}",
        opening=f"The same turns again, with '{fix.name}': {fix.summary}.",
        note="The order is that of the act before. A session that waits cannot take its turn." if fix.right else "",
    )


class _Worst(Explored):
    """An exploration that remembers the schedules in which most kinds of things go wrong, fewest switches first."""

    def __init__(self, asked: ExplorationRequest) -> None:
        super().__init__(asked=asked)
        self.worst: list[ScheduleResult] = []

    def add(self, each: ScheduleResult) -> None:
        Explored.add(self, each)
        if self.forbids(each) and not each.raced:
            self.worst = sorted([*self.worst, each], key=self._size)[:_CANDIDATES]

    def _size(self, each: ScheduleResult) -> tuple[int, int, int]:
        kinds = sum(bool(each.counts[kind]) for kind in self.asked.scenario.forbid)
        return -kinds, switches(each.schedule), len(each.schedule)


def explored(target: Target, asked: ExplorationRequest, fix: Strategy | None, tell: Tell) -> tuple[Part, ...]:
    """An order worth showing: one that goes wrong, else one in which a session waits, else one that overlaps.

    Of those that go wrong the first in which, with the fix, a session visibly waits.
    """
    found = _Worst(asked)
    explorer.explore(target, asked, lambda now: tell(f"{asked.strategy.name}: {now.run:,} orders", 0.4), found)
    part = Part(
        scenario=asked.scenario,
        strategy=asked.strategy,
        consumer=asked.consumer,
        sessions=asked.sessions,
        heading=heading_of(asked.strategy.name, asked.consumer.name if asked.consumer else None),
        opening=f"'{asked.strategy.name}': {asked.strategy.summary}. {_search(found)}",
    )
    orders = [each.schedule for each in found.worst] or ([found.witness] if found.witness is not None else [])
    tell("looking for an order to show", 0.6)
    more = f"{found.anomalous} of {found.run} orders go wrong; this is one."
    first: tuple[Part, ...] | None = None
    for order in orders:
        shown = _with(part, tuple(Turn(session=each) for each in order), more, strict=True)
        parts = (shown,) if fix is None else (shown, again(shown, fix))
        try:
            frames = play.rehearse(target, Programme(title="", parts=parts))[1]
        except UsageProblem:
            continue  # new sessions do not follow it
        if not frames[0][-1].losses:
            continue  # it went wrong on sessions that had done something before
        if fix is None or _waits(frames[-1]):
            return parts
        first = first or parts
    if first is not None:
        return first
    kept = f"{found.anomalous} of {found.run} orders went wrong, but none with new sessions." if orders else ""
    shown = _waiting(target, replace(part, opening=f"{part.opening} {kept}".strip()))
    return (shown,) if fix is None else (shown, again(shown, fix))


def _waits(frames: Iterable[Frame]) -> bool:
    return any(lane.waits for frame in frames for lane in frame.lanes)


def _search(found: Explored) -> str:
    if found.anomalous:
        return ""
    blind = ""
    if found.asked.strategy.inside:
        blind = " Its race is inside one statement: racebench run shows it."
    elif found.blind:
        blind = " This consumer goes by the clock, which no order shows: racebench run does."
    return f"{'All ' if found.complete else ''}{found.run} orders were just run, and none goes wrong.{blind}"


def _waiting(target: Target, part: Part) -> Part:
    """The order in which the second session comes as late as possible and still has to wait."""
    first: Part | None = None
    statements = len(part.strategy.script.statements)
    for turns in overlapping(part.sessions, statements, part.consumer is not None):
        tried = _with(part, turns, "", strict=False)
        with contextlib.closing(play.play(target, tried, 0)) as frames:
            waits = _waits(frames)
        if waits:
            return _with(part, turns, "In this one a session has to wait.", strict=False)
        first = first or tried
    assert first is not None
    return _with(part, first.turns, "Here they overlap, and nobody has to wait.", strict=False)


def _with(part: Part, turns: tuple[Turn, ...], more: str, *, strict: bool) -> Part:
    return replace(part, turns=turns, strict=strict, opening=f"{part.opening.strip()} {more}".strip())
