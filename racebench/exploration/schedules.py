"""A schedule is a value: `v1:version-counter/naive:s1.s2.s1.s2` says which session takes each step.

A number in brackets after the script's name tells scripts apart that have changed since: `naive[3f2a91c0]`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from racebench.errors import UsageProblem
from racebench.model import Consumer, Strategy

_VERSION = "v1"
_SHAPE = re.compile(r"(?P<version>v\d+):(?P<scenario>[^:/]+)/(?P<strategy>[^:+\[]+)(\+(?P<consumer>[^:\[]+))?"
                    r"(\[(?P<digest>[0-9a-f]{8})\])?:(?P<steps>.*)")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Which session takes each step, from 1; of which scenario, strategy and consumer, and of which script."""

    scenario: str
    strategy: str
    consumer: str | None
    digest: str
    steps: tuple[int, ...]

    def __str__(self) -> str:
        consumer = f"+{self.consumer}" if self.consumer else ""
        steps = ".".join(f"s{session}" for session in self.steps)
        return f"{_VERSION}:{self.scenario}/{self.strategy}{consumer}[{self.digest}]:{steps}"


def parse(text: str) -> Schedule:
    """Read a schedule; raises UsageProblem with the column at which it does not parse."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise UsageProblem(f"schedule '{text}' is not one; it looks like {_VERSION}:version-counter/naive:s1.s2.s1.s2")
    if match["version"] != _VERSION:
        raise UsageProblem(f"schedule '{text}' is of version {match['version']}; this racebench replays {_VERSION}")
    steps, at = [], match.start("steps")
    for part in match["steps"].split("."):
        if not re.fullmatch(r"s[1-9]\d*", part):
            raise UsageProblem(f"schedule '{text}': column {at + 1}: '{part}' is no session; sessions are s1, s2 …")
        steps.append(int(part[1:]))
        at += len(part) + 1
    return Schedule(
        scenario=match["scenario"],
        strategy=match["strategy"],
        consumer=match["consumer"],
        digest=match["digest"] or "",
        steps=tuple(steps),
    )


def check_same(schedule: Schedule, strategy: Strategy, consumer: Consumer | None) -> None:
    """Raise UsageProblem if a schedule is of another version of what it runs."""
    current = digest(strategy, consumer)
    if schedule.digest and schedule.digest != current:
        raise UsageProblem(
            f"the schedule is of another version of '{strategy.name}' ([{schedule.digest}], now [{current}]); "
            "explore again"
        )


def digest(strategy: Strategy, consumer: Consumer | None) -> str:
    """Eight digits that change when what a schedule runs does: scripts, DDL, isolation, retry."""
    texts = [strategy.script.text, *(part.text for part in strategy.schema), str(strategy.isolation)]
    texts += [str(strategy.retry and sorted(strategy.retry.sqlstates))]
    if consumer is not None:
        texts += [consumer.script.text, str(sorted(consumer.cursor.items())), str(sorted(consumer.variables.items()))]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]
