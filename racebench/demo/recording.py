"""A demo that was played, as a value to export: every frame of every part, and the commands that show them again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from racebench.demo.frames import Frame
from racebench.demo.presentation import Part
from racebench.exploration.choices import choice
from racebench.exploration.schedules import Schedule
from racebench.workloads.digests import digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Frames in order, and one schedule for each part, as `racebench replay` and `racebench demo` read it.

    `scenario`: the value of --scenario, if it was given. `pace`: seconds for each frame of a recording. `notes`:
    whether speaker notes are included. `command`: the command line as it was typed, without passwords, and `created`:
    when; "" if they are not known.
    """

    title: str
    frames: tuple[Frame, ...]
    schedules: tuple[str, ...]
    pace: float
    notes: bool
    scenario: str | None = None
    command: str = ""
    created: str = ""

    @property
    def commands(self) -> tuple[str, ...]:
        """The command that shows each part again."""
        scenario = f" --scenario {shlex.quote(self.scenario)}" if self.scenario else ""
        return tuple(f"racebench demo '{schedule}'{scenario}" for schedule in self.schedules)

    @property
    def parts(self) -> Iterator[tuple[Frame, ...]]:
        """The frames of each part."""
        for part in range(len(self.schedules)):
            yield tuple(frame for frame in self.frames if frame.part == part)

    def steps(self, part: int) -> int:
        """The number of steps of a part."""
        return max(frame.number for frame in self.frames if frame.part == part)


def schedule_of(part: Part, frames: tuple[Frame, ...]) -> Schedule:
    """The schedule of a part that was played: which session took each step, and where its connection was cut."""
    return Schedule(
        scenario=part.scenario.name,
        strategy=part.strategy.name,
        consumer=part.consumer.name if part.consumer else None,
        digest=digest(part.strategy, part.consumer),
        steps=tuple(choice(frame.step.session, cut=frame.step.cut) for frame in frames if frame.step is not None),
    )
