"""The results of an exploration and of a replay: frozen values that the search makes, and that reports show and save.

They contain no server, no script and no callable, so a result from a file equals a live one. The document that contains
a result has its environment and date (racebench.reports.results.explorations).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from racebench.core.anomalies import ANOMALIES
from racebench.core.verdict import Verdict
from racebench.exploration.pool import PoolOptions
from racebench.exploration.schedules import Schedule, Step


class Unseen(StrEnum):
    """Why a finished search proves nothing: the race that no schedule of statements can show."""

    #: The race is inside one statement, for example in a default and a trigger of the same INSERT.
    STATEMENT = "statement"
    #: Sessions change the catalogs at the same time, and each looks at them inside the statement that changes them.
    CATALOG = "catalog"
    #: Random numbers may decide what a session does, and one choice of them was explored.
    RANDOM = "random"
    #: Several statements are sent at once, and are one step.
    BATCH = "batch"
    #: The consumer holds rows back for a time.
    DELAY = "delay"
    #: The script sets a time-out.
    TIMEOUT = "timeout"
    #: It could not be told which session sent a statement.
    ATTRIBUTION = "attribution"
    #: Schedules could not be compared with every serial order.
    ORDERS = "orders"
    #: Schedules left something behind that could not be removed, so they did not begin in the same state.
    LEFTOVER = "leftover"
    #: An anomaly may depend on the physical state of an index, which could not be made anew for each schedule.
    PHYSICAL = "physical"


class Start(StrEnum):
    """What each schedule of a search began with."""

    #: Rows of a tenant that no schedule before it had.
    TENANT = "tenant"
    #: The setup's rows, where schedules before it had changed any; indexes keep what was in them.
    RESTORED = "restored"
    #: The setup's rows in tables as large as when they were made anew; that was done where one had grown.
    PAGES = "pages"
    #: Tables that were truncated and filled with the setup's rows.
    ANEW = "anew"
    #: Tables that were made by the setup, run once more.
    REMADE = "remade"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What the schedules began with, and why more than rows may matter, as clauses.

    `prevented`: why the tables were not made anew although that may matter; "" where they were.
    `doubtful`: an anomaly may not have shown for that reason.
    """

    start: Start
    reasons: tuple[str, ...] = ()
    prevented: str = ""
    doubtful: bool = False


class Limit(StrEnum):
    """What ended a search before every schedule was run."""

    #: An anomaly was found, and the search was to stop at the first.
    FIRST = "first"
    #: An anomaly was found, and enough schedules were run for a verdict and a witness.
    ENOUGH = "enough"
    #: The time.
    BUDGET = "budget"
    #: The number of schedules.
    SCHEDULES = "schedules"


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
    """The outcome of some schedules: the sessions' outcomes, in no particular order, and the anomalies, by kind."""

    sessions: tuple[SessionOutcome, ...]
    anomalies: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One schedule, run step by step.

    `sessions` is the number of sessions without the consumer, which has the next number. `calls` says which callable
    each session runs, empty for scripts. `outcome` is None, and there are no `steps`, if the search was interrupted
    before the schedule could be run again. `broken` says which rows broke which invariant. `difference`: how its
    outcome differs from that of the serial order that is most like it; "" if a serial order has it. `named`: what that
    is called, lost update or the like; "" if it has no name. `prepared` are the statements that the scenario sent
    before the schedule. `command` runs it again; None if no command line can name it.
    """

    schedule: Schedule
    sessions: int
    forbidden: tuple[str, ...]
    outcome: ScheduleOutcome | None
    steps: tuple[Step, ...] = ()
    broken: tuple[str, ...] = ()
    difference: str = ""
    named: str = ""
    prepared: tuple[str, ...] = ()
    calls: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None

    @property
    def findings(self) -> tuple[str, ...]:
        """What broke which invariant, and what no serial order has."""
        named = f"{self.named}: " if self.named else ""
        return (*self.broken, *([f"{named}{self.difference}"] if self.difference else []))

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

    Numbers of schedules: `run` ran to their end; `drawn` of these were drawn at random, and find a bug of depth `depth`
    with a probability of at least `chance`; `pruned` were stopped early, because another schedule has the same result;
    `anomalous` have an anomaly that the scenario forbids; in `raced` one step woke up two sessions. `bursts` more, in
    which sessions sent statements at once, were run because the search proves nothing (`unseen`); `anomalous_bursts` of
    them have such an anomaly, and no witness. `complete`: every schedule was run; if not, `limit` says what ended the
    search, None if it was interrupted or a fault ended it. `counts` are the anomalies of all
    schedules. `outcomes` are the distinct outcomes, each with its number of schedules, the most frequent first; one
    that only a burst or a repetition showed has the number 1. `seconds` is the time of the search, without connecting
    and without looking for a shorter witness. `witness` is the shortest anomalous schedule: the fewest session
    switches, then the fewest steps.

    `expected` are the anomalies that the strategy is known to show; `as_expected` is None where nothing is known of it.
    `triggers` are the triggers of the scenario's tables: they run inside a step, and are not interleaved; nor are the
    statements of `functions`, which the sessions run, and which have several. `swallowed`
    counts, by SQLSTATE, the schedules in which a call returned although its last statement had been refused.
    `leftovers` say what schedules left behind that was not restored: then the verdict is UNKNOWN, whatever was counted.
    `fault`: what ended the search early, if its schedules could not be run on account of a lost connection or the like.
    `beginning`: what each schedule began with; None if that is not known.
    `draws`: how many choices of random numbers were explored; 0 if no outcome may depend on them.
    `crash`: how many connections were cut at most in a schedule. `jobs`: how many processes ran schedules.
    `pooler`: the pooler that was simulated. `code`: the file and line where each part of the code begins, if known.
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
    bursts: int = 0
    anomalous_bursts: int = 0
    limit: Limit | None = None
    unseen: Unseen | None = None
    leftovers: tuple[str, ...] = ()
    fault: str = ""
    calls: Mapping[str, str] = field(default_factory=dict)
    triggers: tuple[str, ...] = ()
    swallowed: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    draws: int = 0
    crash: int = 0
    functions: tuple[str, ...] = ()
    beginning: Beginning | None = None
    jobs: int = 1
    pooler: PoolOptions | None = None
    code: tuple[str, ...] = ()

    @property
    def found(self) -> tuple[str, ...]:
        """The kinds of anomaly that the scenario forbids and that occurred."""
        return tuple(kind for kind in self.forbidden if self.counts[kind])

    @property
    def feasible(self) -> int | None:
        """The number of possible schedules, known if all of them were run; else None."""
        return self.run if self.complete and not self.reduced else None

    @property
    def schedules_per_s(self) -> float:
        """The schedules run a second; 0 if the search did not begin."""
        return self.run / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationProgress:
    """The progress of a search: schedules run, the number of anomalous ones, and seconds since its start.

    `drawing`: schedules are drawn at random. `counts`: the anomalies so far that the scenario forbids, by kind.
    """

    run: int
    anomalous: int
    seconds: float
    drawing: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def schedules_per_s(self) -> float:
        """The schedules run a second so far; 0 if the search did not begin."""
        return self.run / self.seconds if self.seconds else 0.0
