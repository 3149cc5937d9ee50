"""What was shown, as a value to take along: every frame of every act, and how to run each again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from racebench.demo.frames import Frame
from racebench.demo.telling import Part
from racebench.exploration.schedules import Schedule
from racebench.workloads.digests import digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Frames in order; `schedules` has each act's, as `racebench replay` and `racebench demo` take it.

    `scenario`: where it was found, if that was said.
    `pace`: seconds that a recording stays at each frame. `notes`: whether the speaker's are to be there too.
    """

    title: str
    frames: tuple[Frame, ...]
    schedules: tuple[str, ...]
    pace: float
    notes: bool
    scenario: str | None = None

    @property
    def commands(self) -> tuple[str, ...]:
        """What shows each act again."""
        where = f" --scenario {shlex.quote(self.scenario)}" if self.scenario else ""
        return tuple(f"racebench demo '{schedule}'{where}" for schedule in self.schedules)

    @property
    def acts(self) -> Iterator[tuple[Frame, ...]]:
        """The frames of each act."""
        for act in range(len(self.schedules)):
            yield tuple(frame for frame in self.frames if frame.act == act)

    def steps(self, act: int) -> int:
        """How many steps an act has."""
        return max(frame.number for frame in self.frames if frame.act == act)


def schedule(part: Part, frames: tuple[Frame, ...]) -> Schedule:
    """Which session took each step of a part."""
    return Schedule(
        scenario=part.scenario.name,
        strategy=part.strategy.name,
        consumer=part.consumer.name if part.consumer else None,
        digest=digest(part.strategy, part.consumer),
        steps=tuple(frame.taken.session for frame in frames if frame.taken is not None),
    )
