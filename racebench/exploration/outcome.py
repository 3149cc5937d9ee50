"""The outcome of a schedule: the rows and invariants read at its end, and the anomalies in them.

Anomalies have the same definitions as under load (racebench.core.anomalies); simple code is enough, because a schedule
has few operations. This module does not know the steps of the schedule.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from racebench.core import plain_text
from racebench.core.anomalies import ANOMALIES, NON_SERIALIZABLE, SESSION_LOST
from racebench.core.errors import DatabaseProblem, ScenarioProblem
from racebench.core.model import Outcome, Scenario
from racebench.core.plain_text import one_line
from racebench.exploration.inspection import rows_query
from racebench.exploration.oracle.effects import Effect
from racebench.exploration.sessions.consumer import ConsumerSession
from racebench.exploration.sessions.session import StrategySession
from racebench.workloads import callables
from racebench.workloads.polling import Draining

#: The kinds that are counted here, in any order: those of core.anomalies that say that they are `explored`.
COUNTED = frozenset(
    {"duplicates", "missed", "redelivered", "lost", "unexpected", "violations", "refused", "unnumbered"}
    | {NON_SERIALIZABLE, SESSION_LOST}
)
#: The most rows of an invariant that are shown.
_MOST_SHOWN = 3

#: Drives a consumer's last polls to their end.
Wait = Callable[[Any], Any]
#: Of each session its outcome, SQLSTATE, the rank of its version and its tries; and the anomalies with their counts.
Signature = tuple[Any, ...]
_Rows = Sequence[tuple[int, Any, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlock:
    """A deadlock of some sessions, by number, that the last of some choices of a search led to.

    `draw`: the choice of random numbers. `order`: that of the sessions' starts, if it is not that of their numbers.
    """

    after: tuple[int, ...]
    sessions: frozenset[int]
    draw: int
    order: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleResult:
    """The outcome of one schedule: the anomalies, and a signature that is equal for equal outcomes of renamed sessions.

    `raced`: a step woke up two sessions. `waited`: a session waited for another. `deadlocked`: sessions waited for each
    other; `deadlock`: the first time that they did, if it was in a search; `victims`: the numbers of those that the
    server then aborted. `swallowed`: SQLSTATEs of refused statements after which a call returned normally.
    `draw`: the number of the choice of random numbers.
    `burst`: sessions sent steps at once, so the schedule does not say what happened. `effect`: None where no oracle
    judges it; `unjudged`: the oracle cannot say whether a serial order has it. `hung`: how many sessions waited for
    what no session would ever release.
    """

    schedule: tuple[int, ...]
    counts: Mapping[str, int]
    signature: Signature
    raced: bool
    waited: bool = False
    deadlocked: bool = False
    deadlock: Deadlock | None = None
    victims: tuple[int, ...] = ()
    swallowed: tuple[str, ...] = ()
    draw: int = 0
    burst: bool = False
    effect: Effect | None = None
    unjudged: bool = False
    hung: int = 0

    @property
    def non_serializable(self) -> ScheduleResult:
        """The same result, with the finding that no serial order has its effect."""
        return self.counting(NON_SERIALIZABLE, 1)

    def counting(self, kind: str, count: int) -> ScheduleResult:
        """The same result, with the count of one kind of anomaly."""
        counts = {**self.counts, kind: count}
        ends, _ = self.signature
        return replace(self, counts=counts, signature=(ends, tuple((k, c) for k, c in counts.items() if c)))


#: What sessions refuse each other without a pooler, too: it is counted as refused, where that is forbidden.
_OF_RACES = ("23505", "23P01", "40", "55P03")


def failures_for_want(result: ScheduleResult) -> Counter[str]:
    """How many operations failed with each SQLSTATE that may say that something is not, or is, in the session.

    A setting that is missing, or another client's, is refused in many ways: row security (42501), a cast of '' (22P02),
    a column that must not be NULL (23502), a transaction that only reads (25006). So all count but those of races.
    """
    ends, _ = result.signature
    return Counter(
        sqlstate
        for outcome, sqlstate, _, _ in ends
        if outcome == Outcome.FAIL.name and not sqlstate.startswith(_OF_RACES)
    )


class AnomalyCounter:
    """Counts the anomalies that a schedule left, over a connection that no session uses.

    `whole_tables`: everything in the tables is the setup's or the current schedule's. Raises DatabaseProblem and
    ScenarioProblem.
    """

    def __init__(self, connection: psycopg.Connection[Any], scenario: Scenario, *, whole_tables: bool) -> None:
        self._connection, self._scenario, self._whole_tables = connection, scenario, whole_tables
        self._rows = None if scenario.rows is None else rows_query(scenario.rows)
        self._violated: dict[str, int] = {}
        #: The keys of the rows that the consumer never delivered, as texts, in the schedule that was counted last.
        self.undelivered: tuple[str, ...] = ()

    def reset(self) -> None:
        """Remember that the tables are as after the setup."""
        self._violated = {}

    def skip(self) -> None:
        """Do not count what a schedule leaves that was stopped before its end: its sessions might have repaired it."""
        if not self._whole_tables:
            self._new_violations()

    def count(
        self, sessions: Sequence[StrategySession], consumer: ConsumerSession | None, tenant: int, wait: Wait
    ) -> tuple[Mapping[str, int], Signature]:
        """Let the consumer read to the end, and count each kind of anomaly."""
        if consumer is None:
            rows = self._read_rows(tenant)
        else:
            settle_s = consumer.consumer.settle_ms / 1e3
            draining = Draining(settle_s=settle_s, quiet_rounds=1, now_s=time.monotonic())
            consumer.drain(wait, draining, lambda: True)
            rows = self._read_rows(tenant)
            due = {identity for identity, version, _ in rows if version is not None}
            if not due <= set(consumer.delivered):  # the rest may still be held back
                consumer.drain(wait, draining, lambda: due <= set(consumer.delivered))
        counted = dict.fromkeys(COUNTED, 0)
        versions = sorted({version for _, version, _ in rows if version is not None})
        rank = {version: place for place, version in enumerate(versions, 1)}
        by_operation = {operation: version for _, version, operation in rows}
        numbered = [version for _, version, _ in rows if version is not None]
        counted["duplicates"] = len(numbered) - len(versions)
        counted["unnumbered"] = len(rows) - len(numbered)
        if self._rows is not None:
            for session in sessions:
                present = session.operation in by_operation
                counted["lost"] += session.outcome is Outcome.OK and not present
                counted["unexpected"] += session.outcome is Outcome.FAIL and present
        counted["refused"] = sum(session.refused for session in sessions)
        if consumer is not None:
            delivered = Counter(consumer.delivered)
            missed = [identity for identity, version, _ in rows if version is not None and identity not in delivered]
            counted["missed"] = len(missed)
            self.undelivered = tuple(map(str, missed))
            counted["redelivered"] = sum(times - 1 for times in delivered.values())
        counted["violations"] = self._new_violations()
        counts = {kind: counted.get(kind, 0) for kind in ANOMALIES}
        ends = sorted(
            (s.outcome.name, s.sqlstate, rank.get(by_operation.get(s.operation)) or 0, s.tries) for s in sessions
        )
        anomalies = tuple((kind, count) for kind, count in counts.items() if count)
        return counts, (tuple(ends), anomalies)

    def violations(self) -> int:
        """The number of rows that break an invariant now."""
        self.reset()
        return self._new_violations()

    def _new_violations(self) -> int:
        """The increase in the number of rows that break an invariant since the last call."""
        more = 0
        for name, query in self._scenario.invariants.items():
            count = self._ask(name, query).rowcount
            more += max(0, count - self._violated.get(name, 0))
            self._violated[name] = count
        return more + sum(len(callables.broken(check, self._connection)) for check in self._scenario.checks.values())

    def broken(self, tenant: int) -> tuple[str, ...]:
        """Which rows break which invariant now, as text: some rows of each, of this tenant if the query has one."""
        texts = []
        for name, query in self._scenario.invariants.items():
            cursor = self._ask(name, query)
            columns = [column.name for column in cursor.description or ()]
            rows = cursor.fetchall() if columns else []
            if "tenant" in columns:
                rows = [row for row in rows if row[columns.index("tenant")] == tenant]
            elif not self._whole_tables:
                continue  # they may be rows of earlier schedules
            for row in rows[:_MOST_SHOWN]:
                values = plain_text.row(zip(columns, row, strict=True))
                texts.append(f"'{name}' is broken by {values or 'a row'}")
        for name, check in self._scenario.checks.items():
            problems = callables.broken(check, self._connection)[:_MOST_SHOWN]
            texts += [f"'{name}' is broken: {problem}" for problem in problems]
        return tuple(map(one_line, texts))

    def _ask(self, name: str, query: str) -> psycopg.Cursor[Any]:
        try:
            return self._connection.execute(query.encode())  # not prepared: a session may alter what it reads
        except psycopg.OperationalError as problem:
            raise DatabaseProblem(f"invariant '{name}' cannot be asked: {one_line(str(problem))}") from None
        except psycopg.Error as problem:
            where = self._scenario.locate(f"invariants.{name}")
            raise ScenarioProblem(f"{where}: the server refuses this query: {one_line(str(problem))}") from None

    def _read_rows(self, tenant: int) -> _Rows:
        if self._rows is None:
            return []
        try:
            return self._connection.execute(self._rows, (tenant,)).fetchall()
        except psycopg.Error as problem:
            raise DatabaseProblem(f"the rows of a schedule cannot be read: {one_line(str(problem))}") from None
