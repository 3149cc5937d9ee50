"""A schedule as a value and as text: `v1:version-counter/naive:s1.s2.s1.s2` says which session takes each step.

Steps are written as choices.py says: `s1b` is a step of s1's second strand, `s1-cut` one at which s1 is cut off.
A digest in brackets after the strategy's name changes when the strategy does: `naive[3f2a91c0]`. The number of the draw
of random numbers follows it, unless that is 0: `naive[3f2a91c0~7]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from racebench.core.errors import UsageProblem
from racebench.core.model import Consumer, Strategy
from racebench.core.plain_text import one_line
from racebench.exploration import choices
from racebench.workloads.digests import digest

_VERSION = "v1"
_LONGEST_SHOWN = 100
#: The parts of a schedule's text, in order: name, pattern, whether it must be there, and how a message names it.
_PARTS = (
    ("version", re.compile(r"v\d+:"), True, "'v1:'"),
    ("scenario", re.compile(r"[^:/]+/"), True, "a scenario and '/'"),
    ("strategy", re.compile(r"[^:+\[]+"), True, "a strategy"),
    ("consumer", re.compile(r"\+[^:\[]+"), False, ""),
    ("digest", re.compile(r"\[[0-9a-f]{8}(?:~\d{1,9})?\]"), False, ""),
    ("steps", re.compile(r":"), True, "':' and the steps (or '[' and eight digits)"),
)
_DIGEST_AT_END = re.compile(r"\[([0-9a-f]{8})(?:~(\d+))?\]$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The choice of each step (choices.py), and what the sessions run; `digest`: of its version.

    `draw`: the number of the choice of random numbers.
    """

    scenario: str
    strategy: str
    consumer: str | None
    digest: str
    steps: tuple[int, ...]
    draw: int = 0

    @property
    def sessions(self) -> int:
        """The highest number of a session that takes a step; a consumer counts as one."""
        return max(map(choices.session_of, self.steps))

    def __str__(self) -> str:
        consumer = f"+{self.consumer}" if self.consumer else ""
        steps = ".".join(map(choices.text_of, self.steps))
        draw = f"~{self.draw}" if self.draw else ""
        digest = f"[{self.digest}{draw}]" if self.digest else ""
        return f"{_VERSION}:{self.scenario}/{self.strategy}{consumer}{digest}:{steps}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a replay: the session that took it, what was sent and answered.

    `where`: the line of the application that sent it. `script`: the line of its statement in a script. `literal`: what
    was sent, with the values in it; "" if the session only went on after a wait. `values`: the values that travelled,
    as short texts ("1", or "version=1" if they have names). `waits_for`: the sessions that it waited for. `went_on`:
    the sessions that went on because of it, with what they were answered. `cut`: how the session's connection was cut.
    `backend`: the number of the pooler's server session that it ran on; None without a pooler, and while it waits for
    one.
    """

    session: str
    sent: str
    answered: tuple[str, ...]
    where: str = ""
    literal: str = ""
    values: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    went_on: tuple[tuple[str, tuple[str, ...]], ...] = ()
    cut: choices.Cut | None = None
    backend: int | None = None
    script: str = ""


def parse(text: str) -> Schedule:
    """Read a schedule; raises UsageProblem with the column at which it does not parse."""
    parts: dict[str, str] = {}
    at = 0
    for name, pattern, needed, what in _PARTS:
        match = pattern.match(text, at)
        if match is None and needed:
            raise _unlike(text, at, f"expected {what}, found {_rest(text, at)}")
        if match is not None:
            parts[name], at = match.group(), match.end()
            if name == "version" and parts[name] != f"{_VERSION}:":
                raise _unlike(text, 0, f"it is of version {parts[name][:-1]}; this racebench replays {_VERSION}")
    steps = []
    for part in text[at:].split("."):
        try:
            steps.append(choices.parse(part))
        except ValueError:
            raise _unlike(text, at, f"'{part}' is no session; sessions are s1, s2 …") from None
        at += len(part) + 1
    digest, _, draw = parts.get("digest", "")[1:-1].partition("~")
    return Schedule(
        scenario=parts["scenario"][:-1],
        strategy=parts["strategy"],
        consumer=parts["consumer"][1:] if "consumer" in parts else None,
        digest=digest,
        steps=tuple(steps),
        draw=int(draw or 0),
    )


def parse_steps(text: str) -> tuple[str, int, tuple[int, ...]]:
    """The digest, the draw and the steps of a schedule whose names are known: they may have any characters in them.

    Raises ValueError if it does not end in steps.
    """
    head, _, steps = text.rpartition(":")
    digest = _DIGEST_AT_END.search(head)
    steps_taken = tuple(map(choices.parse, steps.split(".")))
    return (digest[1], int(digest[2] or 0), steps_taken) if digest else ("", 0, steps_taken)


def check_same(schedule: Schedule, strategy: Strategy, consumer: Consumer | None) -> None:
    """Raise UsageProblem if a schedule belongs to another version of what it runs."""
    current = digest(strategy, consumer)
    if schedule.digest and schedule.digest != current:
        raise UsageProblem(
            f"the schedule is of another version of '{strategy.name}' ([{schedule.digest}], now [{current}]); "
            "explore again"
        )


def _rest(text: str, at: int) -> str:
    return f"'{text[at : at + 12]}'" if at < len(text) else "its end"


def _unlike(text: str, at: int, why: str) -> UsageProblem:
    shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
    return UsageProblem(
        f"schedule '{one_line(shown)}': column {at + 1}: {why}; "
        f"one looks like {_VERSION}:version-counter/naive:s1.s2.s1.s2"
    )
