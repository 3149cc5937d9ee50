"""The results of an exploration and of a replay: frozen values, made by the search, shown and saved by reports.

They hold no server, no script and no callable, so a result that was read from a file is the same as a live one. Where
and when it was made is in the document that holds it (racebench.reports.results.explorations).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from racebench.core.anomalies import ANOMALIES
from racebench.core.results import Verdict
from racebench.exploration.schedules import Schedule, Step


class Unseen(StrEnum):
    """Why a finished search proves nothing: what no schedule of statements shows."""

    #: The race is inside one statement, for example in a default and a trigger of the same INSERT.
    STATEMENT = "statement"
    #: The consumer holds rows back for a time.
    DELAY = "delay"
    #: The script has a time-out of its own.
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOutcome:
    """How the operation of a session ended: OK, FAIL or UNKNOWN, and the SQLSTATE of an error ("" without one).

    `rank` is the place of its row's version among the versions of the schedule, from 1; 0 without a version. `tries`
    counts the first try too.
    """

    outcome: str
    sqlstate: str
    rank: int
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOutcome:
    """What some schedules came to: of each session its outcome, in no particular order, and the anomalies, by kind."""

    sessions: tuple[SessionOutcome, ...]
    anomalies: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One schedule, run step by step.

    `sessions` is the number of sessions without the consumer, which has the next number. `calls` says which callable
    each session runs, empty for scripts. `outcome` is None, and there are no `steps`, if the search was interrupted
    before the schedule could be run again. `broken` says which rows broke which invariant. `prepared` are the
    statements that the scenario sent before the schedule. `command` runs it again; None if no command line can name it.
    """

    schedule: Schedule
    sessions: int
    forbidden: tuple[str, ...]
    outcome: ScheduleOutcome | None
    steps: tuple[Step, ...] = ()
    broken: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()
    calls: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each kind of anomaly occurred."""
        anomalies = dict(self.outcome.anomalies if self.outcome else ())
        return {kind: anomalies.get(kind, 0) for kind in ANOMALIES}

    @property
    def anomalies(self) -> Mapping[str, int]:
        """The anomalies that occurred and that the scenario forbids, with their counts."""
        return {kind: count for kind, count in self.counts.items() if count and kind in self.forbidden}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """What the search of one strategy's schedules found.

    `run` schedules were run to their end, `drawn` of them at random, which meet a bug of depth `depth` with a
    probability of at least `chance`; `pruned` were broken off, because another schedule shows the same; `anomalous`
    have an anomaly that the scenario forbids; in `raced` a step woke up two sessions. `complete`: every schedule was
    run. `counts` are over all schedules; `outcomes` are what schedules came to, with the number of schedules, the most
    frequent first. `seconds` are the search's: without connecting, and without looking for a shorter witness. `witness`
    is the shortest anomalous schedule: fewest switches of session, then fewest steps.

    `expected` are the anomalies that the strategy is known to show; `as_expected` is None where nothing is known of it.
    `triggers` are those of the scenario's tables: what they do is inside a step, and not interleaved. `swallowed`
    counts, by SQLSTATE, schedules in which a call returned although its last statement had been refused.
    """

    scenario: str
    strategy: str
    summary: str
    consumer: str | None
    sessions: int
    polls: int
    reduced: bool
    seed: int
    depth: int
    verdict: Verdict
    expected: tuple[str, ...]
    as_expected: bool | None
    forbidden: tuple[str, ...]
    counts: Mapping[str, int]
    outcomes: Mapping[ScheduleOutcome, int]
    run: int
    pruned: int
    drawn: int
    chance: float | None
    anomalous: int
    raced: int
    complete: bool
    seconds: float
    witness: Replay | None
    unseen: Unseen | None = None
    calls: Mapping[str, str] = field(default_factory=dict)
    triggers: tuple[str, ...] = ()
    swallowed: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def found(self) -> tuple[str, ...]:
        """The kinds of anomaly that the scenario forbids and that occurred."""
        return tuple(kind for kind in self.forbidden if self.counts[kind])

    @property
    def feasible(self) -> int | None:
        """The number of schedules that can happen, if they were all run; None if it is not known."""
        return self.run if self.complete and not self.reduced else None

    @property
    def schedules_per_s(self) -> float:
        """The rate of the search; 0 if it did not begin."""
        return self.run / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationProgress:
    """How far a search has come: schedules run, how many of them are anomalous, and seconds since it began."""

    run: int
    anomalous: int
    seconds: float

    @property
    def schedules_per_s(self) -> float:
        """The rate so far; 0 if the search did not begin."""
        return self.run / self.seconds if self.seconds else 0.0
