"""The live consumer: polls each tenant's new rows while the workers write, and logs what it was given.

It polls from before the first write until, after the last, a whole round brings nothing.
What it missed is for checkers/missed.py to find.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import pq

from racebench.errors import ScenarioProblem
from racebench.executors.processes import Channel
from racebench.model import Consumer, Load
from racebench.recording import DELIVERY, POLL, RecordFile
from racebench.session import Session, connect

if TYPE_CHECKING:
    from racebench.targets import Target

_COLUMNS = ("id", "version")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerTask:
    """What the consumer has to do; `deliveries` and `polls` are its two log files."""

    target: Target
    schema: str
    application_name: str
    consumer: Consumer
    load: Load
    deliveries: Path
    polls: Path


@dataclass(frozen=True, slots=True)
class Polling:
    """The first round is done: the consumer was there before the first write."""


@dataclass(frozen=True, slots=True)
class Drain:
    """The last write is committed: poll until a whole round brings nothing."""


@dataclass(frozen=True, slots=True)
class ConsumerReport:
    """How many polls were made, those that brought nothing included."""

    polls: int


def consume(task: ConsumerTask, channel: Channel) -> None:
    """The consumer's whole life; sends Polling, polls until Drain (or None), sends a ConsumerReport."""
    deliveries = RecordFile(task.deliveries, DELIVERY)
    polls = RecordFile(task.polls, POLL)
    connection = connect(task.target, schema=task.schema, application_name=task.application_name)
    try:
        poller = _Poller(task, Session(connection, task.consumer.script), deliveries, polls)
        poller.round()
        channel.send(Polling())
        draining = False
        while True:
            if not draining and channel.waiting():
                if channel.receive() is None:
                    return
                draining = True
            delivered = poller.round()
            if draining and not delivered:
                break
            if not draining and task.load.poll_interval_ms > 0:
                channel.waiting(task.load.poll_interval_ms / 1e3)
        channel.send(ConsumerReport(polls=poller.count))
    finally:
        connection.close()
        deliveries.close()
        polls.close()


class _Poller:
    def __init__(self, task: ConsumerTask, session: Session, deliveries: RecordFile, polls: RecordFile) -> None:
        self.session = session
        self.deliveries = deliveries
        self.polls = polls
        self.batch = b"%d" % task.load.batch
        self.cursors = dict.fromkeys(range(1, task.load.tenants + 1), 0)
        self.parameters = task.consumer.script.statements[0].parameters
        self.path = task.consumer.script.path
        self.count = 0
        unknown = set(self.parameters) - {"tenant", "cursor", "batch"}
        if unknown:
            raise ScenarioProblem(
                f"{self.path}:1: variable :{min(unknown)} is not set; a consumer has :tenant, :cursor and :batch"
            )

    def round(self) -> int:
        """Poll each tenant once; return how many rows were delivered."""
        return sum(self.poll(tenant, cursor) for tenant, cursor in self.cursors.items())

    def poll(self, tenant: int, cursor: int) -> int:
        known = {"tenant": b"%d" % tenant, "cursor": b"%d" % cursor, "batch": self.batch}
        start = time.perf_counter_ns()
        result = self.session.query(0, [known[name] for name in self.parameters])
        end = time.perf_counter_ns()
        self.count += 1
        rows = result.ntuples
        if not rows:
            return 0
        id_column, version_column = self._columns(result)
        for row in range(rows):
            identity = int(result.get_value(row, id_column) or 0)
            version = int(result.get_value(row, version_column) or 0)
            self.deliveries.write(end, identity, version, self.polls.count, tenant)
        self.cursors[tenant] = version
        self.polls.write(start, end, cursor, version, rows, tenant)
        return rows

    def _columns(self, result: pq.abc.PGresult) -> tuple[int, int]:
        names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
        if missing := set(_COLUMNS) - set(names):
            raise ScenarioProblem(
                f"{self.path}:1: the consumer's query has no column '{min(missing)}'; it returns id and version"
            )
        return names.index("id"), names.index("version")
