"""What a demo shows, as values: walkthroughs with a caption for each step, and the parts that are played.

A caption belongs to one step: it is shown only for a step of that session that sends that statement and gets that
answer. For any other step the sentence is derived from what happened (narration.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from racebench.core.model import Consumer, Scenario, Strategy
from racebench.demo.frames import TakenStep
from racebench.exploration.choices import Cut

#: Higher than the index of any statement: the session goes on until it waits or has ended.
TO_THE_END = 1 << 20

_PAIR = re.compile(r"(\w+) = (\S+?)(?=,|$|\s|;)")
_NEW = re.compile(r"(\d+) new")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEntry:
    """Which session goes on, counted from 1, how far, and whether its connection is cut at the last of these steps.

    `until` None: exactly one step, which must be possible. Else the session goes on until the statement with that index
    has been answered, or until it waits or has ended.
    """

    session: int
    until: int | None = None
    cut: Cut | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """A sentence for one step: the session, how its statement begins, what the answer must contain, and the text.

    In the text {version} is replaced by the value that the statement returned as `version`, and {new} by the number of
    rows that a poll delivered. `cut`: the session's connection is cut at this step.
    """

    session: int
    statement: str
    text: str
    answer: str = ""
    note: str = ""
    cut: Cut | None = None

    def matches(self, step: TakenStep) -> bool:
        """Whether the caption is about this step."""
        return (
            step.session == self.session
            and step.cut is self.cut
            and step.sent.startswith(self.statement)
            and self.answer in describe_result(step)
        )

    def render(self, step: TakenStep) -> str:
        """The sentence, with the step's values."""
        return substitute(self.text, describe_result(step))


def describe_result(step: TakenStep) -> str:
    """The result of a step, in the words that a caption's `answer` is compared with."""
    waits = f"waits for {', '.join(step.waits_for)}" if step.waits_for else ""
    resumed = "".join(f"; s{session.session} goes on: {session.answer}" for session in step.resumed)
    return f"{waits or step.answer}{resumed}"


def substitute(text: str, result: str) -> str:
    """Replace the names in a caption's braces by values of the result; an unknown name becomes "?"."""
    values = dict(_PAIR.findall(result))
    if new := _NEW.search(result):
        values["new"] = new[1]
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], "?"), text)


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkthroughPart:
    """One strategy, with a consumer or without, and one schedule.

    `opening` is shown before the first step; `closing` at the end, if the anomalies found are those of `expected`.
    """

    strategy: str
    consumer: str | None
    captions: tuple[Caption, ...]
    opening: str
    closing: str
    expected: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    sessions: int = 2

    @property
    def schedule(self) -> tuple[ScheduleEntry, ...]:
        return tuple(ScheduleEntry(session=caption.session, cut=caption.cut) for caption in self.captions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walkthrough:
    """A prepared demo: its parts, and the strategy with which the last part's schedule is played again."""

    name: str
    title: str
    summary: str
    parts: tuple[WalkthroughPart, ...]
    fix: str | None = None
    scenario: str = "version-counter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part to play, with its scenario, strategy and consumer looked up.

    `repeats`: the schedule is that of the part before, for this part's strategy. `strict`: every entry of the schedule
    must be possible, and all sessions must have ended after the last.
    """

    scenario: Scenario
    strategy: Strategy
    consumer: Consumer | None
    sessions: int = 2
    schedule: tuple[ScheduleEntry, ...] = ()
    strict: bool = False
    repeats: bool = False
    heading: str
    opening: str
    closing: str = ""
    expected: Mapping[str, int] = field(default_factory=dict)
    captions: tuple[Caption, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """The parts to show, under one title."""

    title: str
    parts: tuple[Part, ...]
