"""A telling: one interleaving with a title, a sentence for each step and speaker notes; values, no server.

A sentence is tied to its step: it is said only of a step that sends that statement and is answered so. If a script has
changed, or another strategy is played in the same order, what is said is derived from what happened (words.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from racebench.core.model import Consumer, Scenario, Strategy
from racebench.demo.frames import Taken

#: Further than any script goes: a turn that lasts until the session waits or is done.
TO_THE_END = 1 << 20

_PAIR = re.compile(r"(\w+) = (\S+?)(?=,|$|\s|;)")
_NEW = re.compile(r"(\d+) new")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whose turn it is, from 1. `until` None: exactly one step, which must be possible. Else the session goes on
    until it has passed that statement of its script, waits or is done."""

    session: int
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A step with its sentence: the session, the statement's first words, what the answer must hold, what to say.

    In a sentence {version} stands for what the statement returned as `version`, {new} for how many rows a poll brought.
    """

    session: int
    sends: str
    says: str
    sees: str = ""
    note: str = ""

    def fits(self, taken: Taken) -> bool:
        """Whether that is the step it speaks of."""
        return taken.session == self.session and taken.sent.startswith(self.sends) and self.sees in outcome(taken)

    def said(self, taken: Taken) -> str:
        """The sentence about the step."""
        return fill(self.says, outcome(taken))


def outcome(taken: Taken) -> str:
    """What came of a step, in the words in which a Beat may ask for it."""
    waits = f"waits for {', '.join(taken.waits_for)}" if taken.waits_for else ""
    went_on = "".join(f"; s{each.session} goes on: {each.answer}" for each in taken.went_on)
    return f"{waits or taken.answer}{went_on}"


def fill(text: str, answer: str) -> str:
    """Put what the server returned in a sentence's braces."""
    values = dict(_PAIR.findall(answer))
    if new := _NEW.search(answer):
        values["new"] = new[1]
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], "?"), text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One strategy, perhaps with a consumer, in one order. `opening` is said before the first step, `closing` at the
    end if what was lost is what it `claims`."""

    strategy: str
    consumer: str | None
    beats: tuple[Beat, ...]
    opening: str
    closing: str
    claims: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(Turn(session=beat.session) for beat in self.beats)


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Ready to give: its acts, and the strategy that the last of them is played again with, in the same order."""

    name: str
    title: str
    summary: str
    acts: tuple[Act, ...]
    fix: str | None = None
    scenario: str = "version-counter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An act with what it needs looked up. `again`: the turns are those of the part before, whatever strategy it was.

    `strict`: the sessions must be able to follow the turns, and be at their end after the last.
    """

    scenario: Scenario
    strategy: Strategy
    consumer: Consumer | None
    sessions: int = 2
    turns: tuple[Turn, ...] = ()
    strict: bool = False
    again: bool = False
    heading: str
    opening: str
    closing: str = ""
    claims: Mapping[str, int] = field(default_factory=dict)
    beats: tuple[Beat, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """What is going to be shown, under one title."""

    title: str
    parts: tuple[Part, ...]
