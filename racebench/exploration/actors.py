"""A session on a stage: it takes one step at a time, and says what it would do next.

A step begins when the statement is sent and ends when its answer is here. What lies between two steps (variables,
retries, a ROLLBACK after a refusal) belongs to the step before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

import psycopg

from racebench.analysis.checkers.refused import is_refusal
from racebench.core.errors import DatabaseProblem, one_line
from racebench.core.model import Consumer, Outcome, Statement, Strategy
from racebench.postgres.session import Query, Session
from racebench.postgres.transport import Prepared, See, Text, Variables
from racebench.postgres.wire import Reply
from racebench.workloads.deduplication import Seen
from racebench.workloads.polling import Cursor, Draining
from racebench.workloads.retry import Tries

#: The tries of a retry rule that are worth exploring: after so many, nobody is left to be in the way of.
_MOST_TRIES = 20
_DEADLOCK = "40P01"
#: The most rows of one poll, as `run` has it unless told otherwise.
_BATCH = 1000
#: After so many polls that each brought new rows, a consumer does not come to an end.
_MOST_PRODUCTIVE = 100
#: Variables by which alike sessions differ all the same (likeness.py sees to it that nothing comes of them).
_OF_THE_SESSION = frozenset({"client_id", "operation"})

Steps = Generator[Any, None, Any]


class State(Enum):
    """READY: at a gate, about to send. WAITING: sent, not answered. DONE: nothing more to do."""

    READY = "ready"
    WAITING = "waiting"
    DONE = "done"


class Actor(Protocol):
    """One session of a stage."""

    number: int
    name: str
    state: State
    #: What it would send next.
    gate: tuple[Statement, ...]
    begun: bool
    answers: list[str]
    #: The line of the application that leads to what it would send next; "" for a script.
    where: str

    @property
    def like(self) -> str:
        """What is the same of sessions that do the same; "" if no other does."""

    @property
    def memory(self) -> Hashable:
        """What it knows by now, that its next steps may depend on."""

    @property
    def pid(self) -> int:
        """Its backend."""

    @property
    def pids(self) -> frozenset[int]:
        """All its backends: an application may have several."""

    @property
    def socket(self) -> int:
        """What to wait for; negative if there is nothing."""

    @property
    def sends(self) -> tuple[Statement, ...]:
        """The step it would take next, to know it again by."""

    def literal(self) -> str:
        """What it would send next, with the values in it; as it is, if they are not known."""

    def start(self, tenant: int, run: int) -> None:
        """Begin again, on another tenant."""

    def advance(self) -> None:
        """Send what is next, or read what has arrived, and go on until the next gate, wait or end."""

    def abandon(self) -> None:
        """End whatever it is in the middle of; it is READY or DONE."""

    def close(self) -> None:
        """Close the connection."""


class Stepping:
    """A generator of gates, waits and pauses, driven to the next gate or wait."""

    def __init__(self) -> None:
        self.state = State.DONE
        self.gate: tuple[Statement, ...] = ()
        self.begun = False
        self.result: Any = None
        self.where = ""
        self._steps: Steps | None = None

    @property
    def pid(self) -> int:
        raise NotImplementedError

    @property
    def pids(self) -> frozenset[int]:
        return frozenset({self.pid})

    @property
    def sends(self) -> tuple[Statement, ...]:
        return self.gate

    def literal(self) -> str:
        return describe(self.gate)

    def begin(self, steps: Steps) -> None:
        self._steps = steps
        self.result = None
        self.state = State.READY
        self.advance()
        self.begun = False

    def advance(self) -> None:
        assert self._steps is not None
        self.begun = True
        try:
            while True:
                met = next(self._steps)
                if met is None:
                    self.state = State.WAITING
                    return
                if isinstance(met, tuple):
                    self.state, self.gate = State.READY, met
                    return
        except StopIteration as done:
            self.state, self.result = State.DONE, done.value


class Writer(Stepping):
    """A strategy's session: runs its script once, again if its retry rule says so."""

    def __init__(self, number: int, strategy: Strategy, open_session: Callable[[See], Session]) -> None:
        super().__init__()
        self.number = number
        self.name = f"s{number}"
        #: What the server answered since somebody looked, in words.
        self.answers: list[str] = []
        self.session = open_session(self._see)
        self._retry = strategy.retry
        self._tries = Tries(None)
        self.operation = self.deadlocks = 0
        self.sqlstate = self.swallowed = ""
        self._variables: Variables = {}

    @property
    def pid(self) -> int:
        return self.session.connection.info.backend_pid

    @property
    def socket(self) -> int:
        return self.session.socket

    @property
    def outcome(self) -> Outcome:
        outcome: Outcome = self.result
        return outcome

    @property
    def tries(self) -> int:
        """How often the script has been begun."""
        return self._tries.number

    @property
    def refused(self) -> bool:
        """Whether it failed only because another session was at work."""
        return self.outcome is Outcome.FAIL and is_refusal(self.sqlstate)

    @property
    def like(self) -> str:
        return "writer"

    @property
    def memory(self) -> Hashable:
        # In the order in which the script has set them.
        return (self.tries, *[each for each in self._variables.items() if each[0] not in _OF_THE_SESSION])

    def configure(self, name: str, value: str) -> None:
        """Change a setting of the session."""
        self.session.configure(name, value)

    def start(self, tenant: int, run: int) -> None:
        self.operation = (self.number << 32) + run
        self.answers.clear()
        self._tries = Tries(self._retry, _MOST_TRIES)
        self.deadlocks, self.sqlstate = 0, ""
        self.session.reseed("")  # the same for all, so that they meet
        variables: Variables = {
            "think": b"0",
            "hold": b"0",
            "tenants": b"1",
            "tenant": b"%d" % tenant,
            "client_id": b"%d" % (self.number - 1),
            "random_seed": b"0",
            "operation": b"%d" % self.operation,
            "version": None,
        }
        self._variables = variables
        self.begin(self._operation(variables))

    def literal(self) -> str:
        return with_values(self.gate, self._variables)

    def _operation(self, variables: Variables) -> Steps:
        session = self.session
        while True:
            outcome = yield from session.steps(variables)
            if not session.alive:
                raise DatabaseProblem(f"{self.name}: '{describe(self.gate)}' ended the connection: {session.message}")
            self.sqlstate = session.sqlstate
            self.deadlocks += self.sqlstate == _DEADLOCK
            if self.sqlstate:
                self.answers.append(f"ERROR {self.sqlstate}: {session.message}")
            if outcome is not Outcome.OK:
                yield from session.rolling_back()
            if not self._tries.again(outcome, self.sqlstate):
                return outcome
            variables["version"] = None

    def _see(self, _statements: Sequence[Statement], prepared: Sequence[Prepared], reply: Reply) -> None:
        for mine, result in zip(prepared, reply.results, strict=False):
            if result.rows and mine.columns:
                values = ("NULL" if value is None else value.decode(errors="replace") for value in result.last)
                pairs = (f"{name} = {value}" for name, value in zip(mine.columns, values, strict=False))
                self.answers.append(", ".join(pairs) + (f" ({result.rows} rows)" if result.rows > 1 else ""))
            else:
                self.answers.append(result.tag.decode())

    def abandon(self) -> None:
        if self.state is State.READY and self._steps is not None:
            self._steps.close()
            self.session.start_afresh()
        self.state = State.DONE

    def close(self) -> None:
        self.session.close()


class Poller(Stepping):
    """A consumer's session: so many polls, each one step."""

    def __init__(
        self, number: int, consumer: Consumer, query: Query, connection: psycopg.Connection[Any], zero: str
    ) -> None:
        super().__init__()
        self.number = number
        self.name = f"s{number}"
        self.consumer = consumer
        self._query = query
        self.connection = connection
        self._pgconn = connection.pgconn
        self._zero = zero
        self.delivered: list[int] = []
        self.answers: list[str] = []
        self._cursor = self._first_cursor(0)
        self.polls = 0

    @property
    def like(self) -> str:
        return ""

    @property
    def memory(self) -> Hashable:
        return None

    @property
    def pid(self) -> int:
        return self._pgconn.backend_pid

    @property
    def socket(self) -> int:
        return self._pgconn.socket

    @property
    def cursor(self) -> Mapping[str, str]:
        """Where it stands."""
        return {name: value.decode(errors="replace") for name, value in self._cursor.position.items()}

    def start(self, tenant: int, run: int) -> None:  # noqa: ARG002 - a consumer has no operations
        self.answers.clear()
        self.delivered = []
        self._cursor = self._first_cursor(tenant)
        self.begin(self._poll_often(self.polls))

    def _first_cursor(self, tenant: int) -> Cursor:
        return Cursor(self.consumer, tenant=tenant, zero=self._zero, batch=_BATCH, seen=Seen())

    def literal(self) -> str:
        return with_values(self.gate, self._cursor.variables)

    def _poll_often(self, polls: int) -> Steps:
        for _ in range(polls):
            yield (self._query.statement,)
            yield from self.poll()

    def poll(self) -> Generator[None, None, int]:
        """Poll once, waiting by yielding; return how many rows came."""
        try:
            return (yield from self._poll())
        except psycopg.Error as problem:
            what = describe((self._query.statement,))
            raise DatabaseProblem(f"{self.name}: '{what}' ended the connection: {one_line(str(problem))}") from None

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
        stands = ", ".join(f"{name} = {value}" for name, value in self.cursor.items())
        self.answers.append(f"{new} new" + (f"; cursor at {stands}" if stands else ""))
        return new

    def abandon(self) -> None:
        if self.state is State.READY and self._steps is not None:
            self._steps.close()
        self.state = State.DONE

    def close(self) -> None:
        self.connection.close()


def drain(poller: Poller, wait: Callable[[Any], Any], draining: Draining, complete: Callable[[], bool]) -> None:
    """Have a consumer poll until it has read to the end; raises DatabaseProblem if each poll brings new rows."""
    productive = 0
    while productive < _MOST_PRODUCTIVE:
        draining.begin_round(time.monotonic())
        new = wait(poller.poll())
        if draining.end_round(new, time.monotonic(), complete=complete()):
            return
        productive += new > 0
    raise DatabaseProblem(one_line(f"consumer '{poller.consumer.name}' does not come to an end"))


def with_values(statements: Sequence[Statement], variables: Mapping[str, bytes | None]) -> str:
    """Statements as text that any client can send."""
    texts = [
        Text(each)([variables[name] for name in each.slots]).decode(errors="replace").strip().rstrip(";") + ";"
        for each in statements
    ]
    return " ".join(texts)


def describe(statements: Sequence[Statement]) -> str:
    """A step as one line."""
    return "; ".join(" ".join(statement.text.split()) for statement in statements)
