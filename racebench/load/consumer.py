"""A live consumer: polls for new rows while the workers write, and logs what it was given.

It polls from before the first write until, after the last, it has every row or has been given nothing new for as long
as it may hold rows back. What it missed is for checkers/missed.py to find.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from racebench.core.errors import DatabaseProblem, ScenarioProblem, one_line
from racebench.core.model import Consumer, Load, Strategy
from racebench.history.records import DELIVERY, POLL, RecordFile
from racebench.load.deduplication import Seen
from racebench.load.executors.processes import Channel
from racebench.postgres.session import Query, connect

if TYPE_CHECKING:
    from racebench.core.target import Target

#: The quiet rounds that end a drain: one could have been between two commits' becoming visible.
_QUIET_ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerTask:
    """What a consumer has to do; `deliveries` and `polls` are its two log files."""

    target: Target
    schema: str
    application_name: str
    consumer: Consumer
    strategy: Strategy
    load: Load
    deliveries: Path
    polls: Path


@dataclass(frozen=True, slots=True)
class Polling:
    """The first round is done: the consumer was there before the first write."""


@dataclass(frozen=True, slots=True)
class Drain:
    """The last write is committed, and there are this many rows: poll until they are here or nothing more comes."""

    rows: int


@dataclass(frozen=True, slots=True)
class ConsumerReport:
    """How many polls were made, those that brought nothing included, and how long the longest waited."""

    polls: int
    longest_poll_ns: int


def consume(task: ConsumerTask, channel: Channel) -> None:
    """The consumer's whole life; sends Polling, polls until Drain (or None), sends a ConsumerReport."""
    deliveries = RecordFile(task.deliveries, DELIVERY)
    polls = RecordFile(task.polls, POLL)
    connection = connect(task.target, schema=task.schema, application_name=task.application_name)
    try:
        _open(connection, task.consumer)
        poller = _Poller(task, Query(connection, task.consumer.script, task.consumer.tolerate), deliveries, polls)
        poller.round()
        channel.send(Polling())
        pause = task.load.poll_interval_ms / 1e3
        while not channel.waiting(pause):
            poller.round()
        message = channel.receive()
        if message is not None:
            _drain(poller, message.rows, task.consumer.settle_ms / 1e3)
            channel.send(ConsumerReport(polls=poller.count, longest_poll_ns=poller.longest_ns))
    finally:
        connection.close()
        deliveries.close()
        polls.close()


def _open(connection: psycopg.Connection[Any], consumer: Consumer) -> None:
    for part in consumer.opening:
        try:
            connection.execute(part.text.encode())
        except psycopg.Error as problem:
            raise DatabaseProblem(
                f"consumer '{consumer.name}' cannot begin ({part.path.name}): {one_line(str(problem))}; "
                "give what it needs, or leave it out"
            ) from None


def _drain(poller: _Poller, rows: int, settle_seconds: float) -> None:
    """Poll until every row is here, or nothing new has come for the settling time (and at least two rounds).

    Only a round that begins after the settling time shows that what it does not deliver never comes.
    """
    quiet_rounds, quiet_since = 0, time.monotonic()
    while True:
        quiet = time.monotonic() - quiet_since
        if poller.round():
            quiet_rounds, quiet_since = 0, time.monotonic()
            continue
        quiet_rounds += 1
        if quiet_rounds >= _QUIET_ROUNDS and (len(poller.seen) >= rows or quiet >= settle_seconds):
            return
        time.sleep(min(0.001, settle_seconds))


class _Poller:
    """The cursors, one set a tenant, and the log."""

    def __init__(self, task: ConsumerTask, query: Query, deliveries: RecordFile, polls: RecordFile) -> None:
        consumer = task.consumer
        self.query = query
        self.deliveries = deliveries
        self.polls = polls
        self.dedupe = consumer.dedupe
        self.path = consumer.script.path
        self.parameters = consumer.script.statements[0].parameters
        self.fixed = {name: value.encode() for name, value in consumer.variables.items()}
        self.fixed["batch"] = b"%d" % task.load.batch
        start = {
            name: (task.strategy.zero if text == "zero" else text).encode() for name, text in consumer.cursor.items()
        }
        tenants = range(1, task.load.tenants + 1) if consumer.per_tenant else range(1)
        self.cursors = {tenant: dict(start) for tenant in tenants}
        self.seen = Seen()
        self.count = 0
        self.longest_ns = 0

    def round(self) -> int:
        """Poll each tenant once; return how many rows came that had not come before."""
        return sum(self.poll(tenant, cursor) for tenant, cursor in self.cursors.items())

    def poll(self, tenant: int, cursor: dict[str, bytes]) -> int:
        known = {"tenant": b"%d" % tenant, **self.fixed, **cursor}
        start = time.perf_counter_ns()
        result = self.query.run([known[name] for name in self.parameters])
        end = time.perf_counter_ns()
        self.count += 1
        self.longest_ns = max(self.longest_ns, end - start)
        rows = 0 if result is None else result.ntuples
        if result is None or not rows:
            return 0
        columns = self._columns(result, cursor)
        identity, new = 0, 0
        for row in range(rows):
            identity = int(result.get_value(row, columns["id"]) or 0)
            fresh = self.seen.add(identity)
            new += fresh
            if fresh or not self.dedupe:
                self.deliveries.write(end, identity, self.polls.count, tenant)
        for name in cursor:
            value = result.get_value(rows - 1, columns[name])
            if value is not None:  # a NULL cursor would return nothing for ever
                cursor[name] = value
        if new or not self.dedupe:
            self.polls.write(start, end, identity, rows, tenant)
        return new

    def _columns(self, result: pq.abc.PGresult, cursor: dict[str, bytes]) -> dict[str, int]:
        names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
        for wanted in ("id", *cursor):
            if wanted not in names:
                raise ScenarioProblem(
                    f"{self.path}:1: the consumer's query has no column '{wanted}'; it returns id and its "
                    "cursor's columns"
                )
        return {name: names.index(name) for name in ("id", *cursor)}
