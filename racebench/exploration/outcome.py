"""What a schedule came to: rows and invariants read after it, and what is wrong with them.

Counted as `run` counts it (racebench.core.anomalies), by definitions read plainly: a schedule has a handful of
operations. Knows nothing of how the schedule came about.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from racebench.core.anomalies import ANOMALIES
from racebench.core.errors import DatabaseProblem, ScenarioProblem, one_line
from racebench.core.model import Outcome, Scenario
from racebench.exploration.actors import Poller, Writer, drain
from racebench.exploration.callers import Caller
from racebench.exploration.inspection import rows_query
from racebench.workloads import callables
from racebench.workloads.polling import Draining

#: Rows of an invariant that are shown.
_MOST_SAID = 3

#: Drives a consumer's last polls to their end.
Wait = Callable[[Any], Any]
_Rows = Sequence[tuple[int, Any, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How often each kind of anomaly occurred, and a signature that tells outcomes apart and sessions not.

    The signature: of each session its outcome, SQLSTATE, the rank of its version and its tries; and what is wrong.
    """

    counts: Mapping[str, int]
    signature: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleResult:
    """What one schedule came to: the anomalies, and a signature that is equal for equal outcomes of renamed sessions.

    `raced`: a step woke up two sessions. `deadlocked`: sessions waited for each other; `victims`: the numbers of those
    that the server then aborted. `swallowed`: SQLSTATEs of refused statements after which a call returned normally.
    """

    schedule: tuple[int, ...]
    counts: Mapping[str, int]
    signature: tuple[Any, ...]
    raced: bool
    deadlocked: bool = False
    victims: tuple[int, ...] = ()
    swallowed: tuple[str, ...] = ()


class Judge:
    """Reads what a schedule left, by a connection of its own. Raises DatabaseProblem and ScenarioProblem."""

    def __init__(self, monitor: psycopg.Connection[Any], scenario: Scenario, *, whole_tables: bool) -> None:
        self._monitor, self._scenario, self._whole_tables = monitor, scenario, whole_tables
        self._rows = None if scenario.rows is None else rows_query(scenario.rows)
        self._violated: dict[str, int] = {}

    def forget(self) -> None:
        """The tables are as they were at first."""
        self._violated = {}

    def judge(self, writers: Sequence[Writer | Caller], poller: Poller | None, tenant: int, wait: Wait) -> Judgement:
        """Let the consumer read to the end, and count what is wrong."""
        if poller is None:
            rows = self._read_rows(tenant)
        else:
            settle_s = poller.consumer.settle_ms / 1e3
            draining = Draining(settle_s=settle_s, quiet_rounds=1, now_s=time.monotonic())
            drain(poller, wait, draining, lambda: True)
            rows = self._read_rows(tenant)
            due = {identity for identity, version, _ in rows if version is not None}
            if not due <= set(poller.delivered):  # the rest may still be held back
                drain(poller, wait, draining, lambda: due <= set(poller.delivered))
        counts: dict[str, int] = dict.fromkeys(ANOMALIES, 0)
        versions = sorted({version for _, version, _ in rows if version is not None})
        rank = {version: place for place, version in enumerate(versions, 1)}
        by_operation = {operation: version for _, version, operation in rows}
        numbered = [version for _, version, _ in rows if version is not None]
        counts["duplicates"] = len(numbered) - len(versions)
        counts["unnumbered"] = len(rows) - len(numbered)
        if self._rows is not None:
            for writer in writers:
                there = writer.operation in by_operation
                counts["lost"] += writer.outcome is Outcome.OK and not there
                counts["unexpected"] += writer.outcome is Outcome.FAIL and there
        counts["refused"] = sum(writer.refused for writer in writers)
        if poller is not None:
            delivered = Counter(poller.delivered)
            counts["missed"] = sum(version is not None and identity not in delivered for identity, version, _ in rows)
            counts["redelivered"] = sum(times - 1 for times in delivered.values())
        counts["violations"] = self.violations()
        sessions = sorted(
            (w.outcome.name, w.sqlstate, rank.get(by_operation.get(w.operation)) or 0, w.tries) for w in writers
        )
        wrong = tuple((kind, count) for kind, count in counts.items() if count)
        return Judgement(counts=counts, signature=(tuple(sessions), wrong))

    def violations(self) -> int:
        """How many more rows break an invariant than when it was asked last."""
        more = 0
        for name, query in self._scenario.invariants.items():
            count = self._ask(name, query).rowcount
            more += max(0, count - self._violated.get(name, 0))
            self._violated[name] = count
        return more + sum(len(callables.broken(check, self._monitor)) for check in self._scenario.checks.values())

    def broken(self, tenant: int) -> tuple[str, ...]:
        """What breaks an invariant now, in words: some rows of each, of this tenant if the query tells."""
        said = []
        for name, query in self._scenario.invariants.items():
            cursor = self._ask(name, query)
            columns = [column.name for column in cursor.description or ()]
            rows = cursor.fetchall() if columns else []
            if "tenant" in columns:
                rows = [row for row in rows if row[columns.index("tenant")] == tenant]
            elif not self._whole_tables:
                continue  # they may be rows of earlier schedules
            for row in rows[:_MOST_SAID]:
                values = ", ".join(f"{column} = {value}" for column, value in zip(columns, row, strict=True))
                said.append(f"'{name}' is broken by {values or 'a row'}")
        for name, check in self._scenario.checks.items():
            said += [f"'{name}' is broken: {each}" for each in callables.broken(check, self._monitor)[:_MOST_SAID]]
        return tuple(map(one_line, said))

    def _ask(self, name: str, query: str) -> psycopg.Cursor[Any]:
        try:
            return self._monitor.execute(query.encode(), prepare=True)
        except psycopg.OperationalError as problem:
            raise DatabaseProblem(f"invariant '{name}' cannot be asked: {one_line(str(problem))}") from None
        except psycopg.Error as problem:
            where = self._scenario.locate(f"invariants.{name}")
            raise ScenarioProblem(f"{where}: the server refuses this query: {one_line(str(problem))}") from None

    def _read_rows(self, tenant: int) -> _Rows:
        if self._rows is None:
            return []
        try:
            return self._monitor.execute(self._rows, (tenant,), prepare=True).fetchall()
        except psycopg.Error as problem:
            raise DatabaseProblem(f"the rows of a schedule cannot be read: {one_line(str(problem))}") from None
