"""A live consumer: polls for new rows while the workers write, and logs what was delivered to it.

It polls from before the first write until after the last one: until it has every row, or no new row has come for as
long as it may hold rows back. checkers/missed.py finds what it missed, analysis/liveness.py how long it was stalled.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from racebench.core.errors import ConnectionLost, DatabaseProblem
from racebench.core.liveness import Holder, Sighting
from racebench.core.model import Consumer, Load, Strategy
from racebench.core.plain_text import one_line
from racebench.core.target import Target
from racebench.executors import Channel, RecordedFile, Report
from racebench.history.recording import DELIVERY, POLL, QUIET, RecordFile
from racebench.load.quiet import Asking, Quiet
from racebench.postgres import standby
from racebench.postgres.query import Query
from racebench.postgres.reconnecting import connect_first, reconnect
from racebench.postgres.resting import Resting
from racebench.workloads.deduplication import Seen
from racebench.workloads.polling import Cursor, Draining, tenants

#: The quiet rounds that end a drain: one round could fall between two commits that become visible.
_QUIET_ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerTask:
    """A consumer's task; `deliveries`, `polls` and `quiet` are its log files.

    `asked`: the server that is asked which transactions are open, the primary of a standby on which it reads.
    `rests`: another run follows, and its connection may wait for that.
    """

    target: Target
    asked: Target
    schema: str
    application_name: str
    consumer: Consumer
    strategy: Strategy
    load: Load
    deliveries: Path
    polls: Path
    quiet: Path
    rests: bool = False

    @property
    def recorded(self) -> tuple[RecordedFile, ...]:
        name = self.consumer.name
        files = ((self.deliveries, DELIVERY), (self.polls, POLL), (self.quiet, QUIET))
        return tuple(RecordedFile(path, layout, name) for path, layout in files)

    def recorded_in(self, folder: Path) -> ConsumerTask:
        return replace(
            self,
            deliveries=folder / self.deliveries.name,
            polls=folder / self.polls.name,
            quiet=folder / self.quiet.name,
        )


@dataclass(frozen=True, slots=True)
class Polling:
    """The first round is done: the consumer was there before the first write."""


@dataclass(frozen=True, slots=True)
class Drain:
    """The last write is committed, and there are this many rows: poll until all are delivered or no more come."""

    rows: int


@dataclass(frozen=True, slots=True)
class ConsumerReport(Report):
    """How many polls were made, empty ones included, and how long the longest waited for its answer.

    `lost`: how often its connection was lost; it went on from its cursors over another. `conflicts`: how often a
    standby canceled a poll that conflicted with its replay. `resting`: the pid of its session if that waits for the
    next run. `sightings`: which transactions were open while it got nothing. `behind`: those behind which rows may
    still wait that it did not deliver, so that it has not read to the end.
    """

    polls: int
    longest_poll_ns: int
    lost: int = 0
    conflicts: int = 0
    resting: tuple[int, ...] = ()
    sightings: tuple[Sighting, ...] = ()
    behind: tuple[Holder, ...] = ()

    def shifted(self, by_ns: int) -> ConsumerReport:
        """The same report for a clock that is so far ahead."""
        return replace(
            self,
            sightings=tuple(
                replace(one, first_ns=one.first_ns + by_ns, last_ns=one.last_ns + by_ns) for one in self.sightings
            ),
        )


def consume(task: ConsumerTask, channel: Channel) -> None:
    """Run one consumer from start to end: send Polling, poll until Drain (or None), send a ConsumerReport."""
    deliveries = RecordFile(task.deliveries, DELIVERY)
    polls = RecordFile(task.polls, POLL)
    quiet_file = RecordFile(task.quiet, QUIET)
    quiet = Quiet(quiet_file, Asking(task.asked, task.application_name))
    resting: Resting = channel.kept.setdefault("sessions", Resting())
    with contextlib.ExitStack() as stack:
        stack.callback(polls.close)
        stack.callback(deliveries.close)
        stack.callback(quiet_file.close)
        stack.callback(quiet.end)
        connections = stack.enter_context(contextlib.ExitStack())
        queries: list[Query] = []
        opened: list[psycopg.Connection[Any]] = []

        def prepare() -> None:
            connection = resting.connect(
                task.target, schema=task.schema, application_name=task.application_name, settings={}, rests=task.rests
            )
            connections.callback(connection.close)
            opened.append(connection)
            _open(connection, task.consumer)
            queries.append(Query(connection, task.consumer.script, task.consumer.tolerate))

        def prepare_again() -> None:
            prepare()
            polling.query = queries[-1]

        connect_first(prepare)
        polling = _Polls(task, queries[-1], deliveries, polls, quiet, prepare_again)
        polling.round()
        channel.send(Polling())
        pause = task.load.poll_interval_ms / 1e3
        while not channel.waiting(pause):
            polling.round()
        message = channel.receive()
        if message is not None:
            behind = _drain(polling, message.rows, task.consumer.settle_ms / 1e3)
            quiet.end()
            # What a consumer has opened itself, such as a replication slot, may need its session.
            rests = task.rests and not task.consumer.opening and not polling.lost
            channel.send(
                ConsumerReport(
                    polls=polling.count,
                    longest_poll_ns=polling.longest_ns,
                    lost=polling.lost,
                    conflicts=polling.conflicts,
                    resting=(opened[-1].pgconn.backend_pid,) if rests else (),
                    sightings=quiet.sightings,
                    behind=behind,
                )
            )
            if rests:
                connections.pop_all()
                resting.rest(opened[-1], task.target, schema=task.schema, application_name=task.application_name)


def _open(connection: psycopg.Connection[Any], consumer: Consumer) -> None:
    for part in consumer.opening:
        try:
            connection.execute(part.text.encode())
        except psycopg.Error as problem:
            kind = ConnectionLost if connection.broken else DatabaseProblem
            raise kind(
                f"consumer '{consumer.name}' cannot begin ({part.path.name}): {one_line(str(problem))}; "
                "give what it needs, or leave it out"
            ) from None


def _drain(polling: _Polls, rows: int, settle_s: float) -> tuple[Holder, ...]:
    """Poll until every row is here, or nothing new has come for the settling time.

    Returns the transactions behind which the other rows may wait: those that were open all the time without a new row,
    if the consumer's query may depend on them.
    """
    quiet_since_ns = time.perf_counter_ns()
    draining = Draining(settle_s=settle_s, quiet_rounds=_QUIET_ROUNDS, now_s=time.monotonic())
    while True:
        draining.begin_round(time.monotonic())
        new = polling.round()
        if new:
            quiet_since_ns = time.perf_counter_ns()
        complete = len(polling.seen) >= rows
        if draining.end_round(new, time.monotonic(), complete=complete):
            return () if complete else polling.held_since(quiet_since_ns)
        if not new:
            time.sleep(min(0.001, settle_s))


class _Polls:
    """The consumer's cursors, one for each tenant, and its log."""

    def __init__(
        self,
        task: ConsumerTask,
        query: Query,
        deliveries: RecordFile,
        polls: RecordFile,
        quiet: Quiet,
        connect_again: Callable[[], None],
    ) -> None:
        consumer, load = task.consumer, task.load
        self.query = query
        self.deliveries = deliveries
        self.polls = polls
        self.quiet = quiet
        self.dedupe = consumer.dedupe
        self.seen = Seen()
        self.cursors = {
            tenant: Cursor(consumer, tenant=tenant, zero=task.strategy.zero, batch=load.batch, seen=self.seen)
            for tenant in tenants(consumer, load.tenants)
        }
        self.count = self.lost = self.conflicts = 0
        self.longest_ns = 0
        self._connect_again = connect_again
        # What is read from a replication slot is gone for the next reader; only a cursor of ours can be kept.
        self._keeps_cursor = not consumer.opening
        self._on_standby = consumer.on_standby

    def held_since(self, time_ns: int) -> tuple[Holder, ...]:
        """The transactions that have been open since a time, and behind which rows may wait."""
        return self.quiet.held_since(time_ns, self.query.statement.sql)

    def round(self) -> int:
        """Poll each tenant once; return how many new rows were delivered.

        A connection that is lost is replaced, and the cursors go on. So does a poll that a standby cancels because its
        replay conflicts with it. Raises DatabaseProblem, also if the server has kept the place of the consumer and not
        a cursor.
        """
        self.quiet.look()
        try:
            return sum(self.poll(tenant, cursor) for tenant, cursor in self.cursors.items())
        except ConnectionLost:
            if not self._keeps_cursor:
                raise
        except DatabaseProblem as problem:
            if self._on_standby and standby.is_write(problem):
                raise DatabaseProblem(f"{problem}; this consumer cannot read on a standby, leave it out") from None
            if not self._on_standby or not standby.is_conflict(problem):
                raise
            self.conflicts += 1
            return 1  # not a quiet round
        self.lost += 1
        connecting = reconnect(self._connect_again, sys.maxsize)
        while True:
            try:
                time.sleep(next(connecting))
            except StopIteration as end:
                if end.value:
                    raise DatabaseProblem(end.value) from None
                return 1  # not a quiet round: what it read before it was lost is not known

    def poll(self, tenant: int, cursor: Cursor) -> int:
        parameters = cursor.parameters()
        start = time.perf_counter_ns()
        result = self.query.run(parameters)
        end = time.perf_counter_ns()
        self.count += 1
        self.longest_ns = max(self.longest_ns, end - start)
        rows = 0 if result is None else result.ntuples
        if result is None or not rows:
            self.quiet.nothing(tenant, start, end)
            return 0
        delivery = cursor.take(result)
        write, number = self.deliveries.write, self.polls.count
        for identity in delivery.ids:
            write(end, identity, number, tenant)
        if delivery.new:
            self.quiet.something(tenant)
        else:
            self.quiet.nothing(tenant, start, end)
        if delivery.new or not self.dedupe:
            self.polls.write(start, end, delivery.last, rows, tenant)
        return delivery.new
