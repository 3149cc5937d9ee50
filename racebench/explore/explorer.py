"""An exploration: one strategy, some sessions, perhaps a consumer; every order of their steps, each on a fresh tenant.

VALID only if the search came to its end and nothing forbidden was found. What goes wrong is counted as `run` counts it
(racebench.model.ANOMALIES), by definitions read plainly: a schedule has a handful of operations.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import psycopg
from psycopg import sql

from racebench.checkers.refused import is_refusal
from racebench.errors import ScenarioProblem, one_line
from racebench.explore.actors import Actor, Poller, State, Writer, drain
from racebench.explore.footprints import Footprint, calls, footprint
from racebench.explore.schedules import Schedule, digest
from racebench.explore.scripts import in_transactions
from racebench.explore.search import Choice, Progress, search
from racebench.explore.stage import Stage
from racebench.model import ANOMALIES, Consumer, Outcome, Scenario, Strategy, Verdict
from racebench.schemas import application_name, fresh_schema, new_name
from racebench.session import Query, Session, connect
from racebench.targets import Target

#: Tenants that a schema serves before it is made afresh: accounts are set up for so many.
_MOST_TENANTS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to explore, and how far. `polls`: of the consumer; `budget_s` and `most`: when to stop, None for never."""

    scenario: Scenario
    strategy: Strategy
    consumer: Consumer | None = None
    sessions: int = 2
    polls: int = 3
    reduce: bool = True
    budget_s: float | None = None
    most: int | None = None
    stop_at_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One schedule at its end: what went wrong, and a signature that tells outcomes apart and sessions not."""

    schedule: tuple[int, ...]
    counts: Mapping[str, int]
    signature: tuple[Any, ...]
    raced: bool


@dataclass(slots=True, kw_only=True)
class Explored:
    """What an exploration found. `anomalous`: schedules in which something forbidden went wrong; `counts` of what."""

    asked: Asked
    run: int = 0
    pruned: int = 0
    anomalous: int = 0
    raced: int = 0
    complete: bool = False
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    witness: tuple[int, ...] | None = None

    @property
    def verdict(self) -> Verdict:
        if self.anomalous:
            return Verdict.INVALID
        return Verdict.VALID if self.complete else Verdict.UNKNOWN

    @property
    def schedule(self) -> Schedule | None:
        """The shortest witness: fewest context switches, then fewest steps."""
        if self.witness is None:
            return None
        asked = self.asked
        return Schedule(
            scenario=asked.scenario.name,
            strategy=asked.strategy.name,
            consumer=asked.consumer.name if asked.consumer else None,
            digest=digest(asked.strategy, asked.consumer),
            steps=self.witness,
        )


def switches(schedule: Sequence[int]) -> int:
    """How often another session goes on than before."""
    return sum(one != other for one, other in pairwise(schedule))


def explore(target: Target, asked: Asked, tell: Callable[[Explored], None] = lambda _: None) -> Explored:
    """Search every schedule, or as far as was asked for."""
    found = Explored(asked=asked)
    started = time.monotonic()

    def ended(each: Ended) -> None:
        found.outcomes[each.signature] += 1
        found.raced += each.raced
        wrong = {kind: count for kind, count in each.counts.items() if count and kind in asked.scenario.forbid}
        found.counts.update({kind: count for kind, count in each.counts.items() if count})
        if wrong:
            found.anomalous += 1
            size = (switches(each.schedule), len(each.schedule))
            if found.witness is None or size < (switches(found.witness), len(found.witness)):
                found.witness = each.schedule

    def go_on(progress: Progress) -> bool:
        found.run, found.pruned, found.seconds = progress.run, progress.pruned, time.monotonic() - started
        tell(found)
        return not (
            (asked.budget_s is not None and found.seconds > asked.budget_s)
            or (asked.most is not None and progress.run >= asked.most)
            or (asked.stop_at_first and found.anomalous > 0)
        )

    with contextlib.closing(Ground(target, asked, ended)) as ground:
        progress = search(ground, reduce=asked.reduce, go_on=go_on)
    found.run, found.pruned, found.complete = progress.run, progress.pruned, progress.complete
    found.seconds = time.monotonic() - started
    return found


class Ground:
    """The world of a search: a schema on the server, its sessions on a stage, a fresh tenant for each schedule."""

    def __init__(self, target: Target, asked: Asked, ended: Callable[[Ended], None]) -> None:
        self._target, self._asked, self._ended = target, asked, ended
        self._stack = contextlib.ExitStack()
        self._runs = 0
        self._tenant = 0
        self._raced = False
        self._violated: dict[str, int] = {}
        self._open()

    def close(self) -> None:
        self._stack.close()

    def _open(self) -> None:
        asked, target = self._asked, self._target
        consumers = [asked.consumer] if asked.consumer else []
        schema = new_name()
        self._stack.enter_context(fresh_schema(target, schema, asked.scenario, asked.strategy, consumers))
        named = application_name(schema, "session")
        monitor = self._stack.enter_context(connect(target, schema=schema))
        self._monitor = monitor
        volatile = _volatile(monitor, asked)
        self._volatile = volatile
        script = in_transactions(asked.strategy.script, volatile)
        isolation = asked.strategy.isolation
        settings = {"default_transaction_isolation": isolation} if isolation else {}
        if _may_set(monitor, "deadlock_timeout"):
            settings["deadlock_timeout"] = "20ms"
        actors: list[Actor] = []
        self.writers: list[Writer] = []
        for number in range(1, asked.sessions + 1):
            connection = connect(target, schema=schema, settings=settings, application_name=named)
            session = Session(connection, script, gated=True, zero=frozenset({"think", "hold"}))
            writer = Writer(number, session, asked.strategy)
            self.writers.append(writer)
            actors.append(writer)
        self.poller: Poller | None = None
        if asked.consumer is not None:
            connection = connect(target, schema=schema, application_name=named)
            for part in asked.consumer.opening:
                connection.execute(part.text.encode())
            query = Query(connection, asked.consumer.script, asked.consumer.tolerate)
            self.poller = Poller(asked.sessions + 1, asked.consumer, query, connection, asked.strategy.zero)
            actors.append(self.poller)
        self.stage = Stage(actors, monitor)
        self._stack.callback(self.stage.close)
        self._tenant = 0
        self._violated = {}
        if asked.scenario.rows is not None:
            self._rows = _rows_query(asked)

    # What a search asks of its world

    def begin(self) -> None:
        if self._tenant >= _MOST_TENANTS or (self._asked.scenario.once and self._runs):
            self._stack.close()
            self._open()
        self._runs += 1
        self._tenant += 1
        self._raced = False
        if self.poller is not None:
            self.poller.polls = self._asked.polls
        for actor in self.stage.actors:
            actor.start(self._tenant, self._runs)

    def choices(self) -> Sequence[Choice]:
        return [
            Choice(
                actor.number,
                self._touches(actor),
                None if actor.begun or isinstance(actor, Poller) else "writer",
            )
            for actor in self.stage.actors
            if actor.state is State.READY
        ]

    def take(self, session: int) -> None:
        actor = self.stage.actors[session - 1]
        glued = self._asked.reduce and _is_begin(actor)
        self.stage.step(actor)
        self._raced |= len(self.stage.woken) > 1
        if glued and actor.state is State.READY:
            self.stage.step(actor)
            self._raced |= len(self.stage.woken) > 1

    def end(self, schedule: Sequence[int], *, complete: bool) -> None:
        if not complete:
            self.stage.abandon()
            return
        self._ended(self._judge(tuple(schedule)))

    def _touches(self, actor: Actor) -> Footprint:
        if _is_begin(actor):
            return Footprint.ANYTHING if self._asked.reduce else Footprint.NOTHING
        isolation = None if isinstance(actor, Poller) else self._asked.strategy.isolation
        return footprint(actor.gate, isolation=isolation, volatile=self._volatile)

    def _judge(self, schedule: tuple[int, ...]) -> Ended:
        asked = self._asked
        counts: dict[str, int] = dict.fromkeys(ANOMALIES, 0)
        if self.poller is not None:
            drain(self.poller, self.stage.wait)
        rows = self._read_rows() if asked.scenario.rows is not None else []
        versions = sorted({version for _, version, _ in rows if version is not None})
        rank = {version: place for place, version in enumerate(versions, 1)}
        by_operation = {operation: version for _, version, operation in rows}
        numbered = [version for _, version, _ in rows if version is not None]
        counts["duplicates"] = len(numbered) - len(versions)
        counts["unnumbered"] = len(rows) - len(numbered)
        if asked.scenario.rows is not None:
            for writer in self.writers:
                there = writer.operation in by_operation
                counts["lost"] += writer.outcome is Outcome.OK and not there
                counts["unexpected"] += writer.outcome is Outcome.FAIL and there
        counts["refused"] = sum(w.outcome is Outcome.FAIL and is_refusal(w.sqlstate) for w in self.writers)
        if self.poller is not None:
            delivered = Counter(self.poller.delivered)
            counts["missed"] = sum(version is not None and identity not in delivered for identity, version, _ in rows)
            counts["redelivered"] = sum(times - 1 for times in delivered.values())
        counts["violations"] = self._violations()
        sessions = sorted(
            (w.outcome.name, w.sqlstate, rank.get(by_operation.get(w.operation)) or 0, w.tries) for w in self.writers
        )
        wrong = tuple((kind, count) for kind, count in counts.items() if count)
        return Ended(schedule=schedule, counts=counts, signature=(tuple(sessions), wrong), raced=self._raced)

    def _read_rows(self) -> list[tuple[int, Any, int]]:
        return self._monitor.execute(self._rows, (self._tenant,), prepare=True).fetchall()

    def _violations(self) -> int:
        """How many more rows break an invariant than before this schedule."""
        more = 0
        for name, query in self._asked.scenario.invariants.items():
            try:
                count = self._monitor.execute(query.encode(), prepare=True).rowcount
            except psycopg.Error as problem:
                where = self._asked.scenario.locate(f"invariants.{name}")
                raise ScenarioProblem(f"{where}: the server refuses this query: {one_line(str(problem))}") from None
            more += max(0, count - self._violated.get(name, 0))
            self._violated[name] = count
        return more


def _is_begin(actor: Actor) -> bool:
    return len(actor.gate) == 1 and actor.gate[0].keyword in ("BEGIN", "START")


def _rows_query(asked: Asked) -> sql.Composed:
    rows = asked.scenario.rows
    assert rows is not None
    columns = [sql.Identifier(name) for name in (rows.id, rows.version, rows.operation)]
    return sql.SQL("SELECT {} FROM {} WHERE {} = %s ORDER BY 1").format(
        sql.SQL(", ").join(columns), sql.Identifier(rows.table), sql.Identifier(rows.tenant)
    )


def _volatile(connection: psycopg.Connection[Any], asked: Asked) -> frozenset[str]:
    """Of the functions that the scripts may call, those that may do anything."""
    statements = list(asked.strategy.script.statements)
    statements += asked.consumer.script.statements if asked.consumer else []
    names = sorted(set().union(*map(calls, statements)))
    rows = connection.execute(
        "SELECT DISTINCT proname FROM pg_proc WHERE proname = ANY(%s) AND provolatile = 'v'", (names,)
    ).fetchall()
    return frozenset(str(row[0]) for row in rows)


def _may_set(connection: psycopg.Connection[Any], name: str) -> bool:
    try:
        connection.execute(sql.SQL("SET {} = '20ms'").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
