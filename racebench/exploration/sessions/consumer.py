"""A consumer's session: a given number of polls, each of them one step, and then polls until everything has been read.

Which values a poll sends and what its rows deliver is racebench.workloads.polling's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Mapping
from typing import Any

import psycopg
from psycopg import sql

from racebench.core.errors import DatabaseProblem
from racebench.core.faults import CONNECTION_LOST
from racebench.core.model import Consumer
from racebench.core.plain_text import one_line
from racebench.exploration.faults import Fault
from racebench.exploration.independence import Footprint, footprint
from racebench.exploration.inspection import Facts
from racebench.exploration.resources import Reached
from racebench.exploration.sessions.session import GeneratorSession, Steps
from racebench.exploration.steps import describe, values_of, with_values
from racebench.postgres.query import Query
from racebench.workloads.deduplication import Seen
from racebench.workloads.polling import Cursor, Draining

#: The most rows of one poll, as `run` has it by default.
_BATCH = 1000
#: A consumer whose polls bring new rows this many times does not come to an end.
_MOST_PRODUCTIVE = 100


class ConsumerSession(GeneratorSession):
    """Polls `polls` times in each schedule. `zero` is below every version of the strategy."""

    def __init__(
        self,
        number: int,
        consumer: Consumer,
        connection: psycopg.Connection[Any],
        facts: Facts,
        *,
        reached: Reached | None,
        polls: int,
        zero: str,
    ) -> None:
        super().__init__(number)
        self.consumer = consumer
        self.delivered: list[int] = []
        self._connection = connection
        self._polls, self._zero = polls, zero
        for part in consumer.opening:
            connection.execute(part.text.encode())
        self._query = Query(connection, consumer.script, consumer.tolerate)
        self._cursor = self._first_cursor(0)
        # A statement without a transaction: its isolation level does not matter to the others.
        reach = None if reached is None else reached.of
        self._footprint = footprint((self._query.statement,), isolation=None, volatile=facts.volatile, reach=reach)

    @property
    def likeness(self) -> str:
        return ""

    @property
    def memory(self) -> Hashable:
        return None

    @property
    def footprint(self) -> Footprint:
        return self._footprint

    @property
    def pid(self) -> int:
        return self._connection.pgconn.backend_pid

    @property
    def socket(self) -> int:
        return self._connection.pgconn.socket

    @property
    def cursor(self) -> Mapping[str, str]:
        """The columns of the cursor with their values."""
        return {name: value.decode(errors="replace") for name, value in self._cursor.position.items()}

    def configure(self, name: str, value: str) -> None:
        self._connection.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), value))

    def start(self, tenant: int, run: int) -> None:  # noqa: ARG002 - a consumer has no operations
        self.answers.clear()
        self.delivered = []
        self._cursor = self._first_cursor(tenant)
        self.begin(self._poll_often())

    def _first_cursor(self, tenant: int) -> Cursor:
        return Cursor(self.consumer, tenant=tenant, zero=self._zero, batch=_BATCH, seen=Seen())

    def literal(self) -> str:
        return with_values(self.next_step, self._cursor.variables)

    def values(self) -> tuple[str, ...]:
        return values_of(self.next_step, self._cursor.variables)

    def _poll_often(self) -> Steps:
        for _ in range(self._polls):
            yield (self._query.statement,)
            yield from self.poll()

    def poll(self) -> Generator[None, None, int]:
        """Poll once, yielding to wait; return how many new rows came."""
        try:
            return (yield from self._poll())
        except psycopg.Error as problem:
            what = f"'{describe((self._query.statement,))}': {one_line(str(problem))}"
            if self._connection.broken:
                raise Fault(f"{self.name} lost its connection at {what}", problem.sqlstate or CONNECTION_LOST) from None
            raise DatabaseProblem(f"{self.name}: the server refuses {what}") from None

    def _poll(self) -> Generator[None, None, int]:
        self._query.send(self._cursor.parameters())
        yield None
        while (results := self._query.fetch()) is None:
            yield None
        new = 0
        for result in results:
            delivery = self._cursor.take(result)
            self.delivered += delivery.ids
            new += delivery.new
        position = ", ".join(f"{name} = {value}" for name, value in self.cursor.items())
        self.answers.append(f"{new} new" + (f"; cursor at {position}" if position else ""))
        return new

    def drain(self, wait: Callable[[Any], Any], draining: Draining, complete: Callable[[], bool]) -> None:
        """Poll until everything has been read; raises DatabaseProblem if the polls go on bringing new rows.

        `wait` drives a poll to its end; `complete` says whether every row has been delivered.
        """
        productive = 0
        while productive < _MOST_PRODUCTIVE:
            draining.begin_round(time.monotonic())
            new = wait(self.poll())
            if draining.end_round(new, time.monotonic(), complete=complete()):
                return
            productive += new > 0
        raise DatabaseProblem(
            f"consumer '{self.consumer.name}' does not finish: its polls return new rows again and again"
        )

    def close(self) -> None:
        self._connection.close()
