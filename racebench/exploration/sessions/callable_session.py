"""A session that runs a Python callable: the round trips that the application's code makes are the steps.

The code runs in a thread of its own, which stops at each round trip (interception.py). The thread that schedules sends
it, so that waiting is recognized as it is with a script's session. A statement that the connection would commit by
itself is sent as BEGIN, statement, COMMIT: two steps, the second of them the COMMIT.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import pq

from racebench.core.errors import UsageProblem
from racebench.core.faults import CONNECTION_LOST, EXPIRED, stops_a_schedule
from racebench.core.model import Call, Outcome, Statement
from racebench.core.plain_text import message_of
from racebench.exploration import batches
from racebench.exploration.choices import Cut
from racebench.exploration.draws import Draws, united
from racebench.exploration.faults import Fault
from racebench.exploration.independence import Footprint
from racebench.exploration.leftovers import Leftover
from racebench.exploration.sessions import parameters
from racebench.exploration.sessions.connections import Connections, cancel, carry_out, commit, is_open
from racebench.exploration.sessions.division import MAY_BE_WRAPPED, divided, is_batch
from racebench.exploration.sessions.drivers import OtherDriver
from racebench.exploration.sessions.failures import Failure, expected, failure
from racebench.exploration.sessions.interception import Interception
from racebench.exploration.sessions.residue import Residue
from racebench.exploration.sessions.round_trips import AnyConnection
from racebench.exploration.sessions.session import GeneratorSession, Steps
from racebench.exploration.sessions.threads import Finished, RoundTrip
from racebench.exploration.sessions.touches import Touches
from racebench.exploration.steps import CUT_ANSWERS, as_sent, describe, identity, without_values
from racebench.exploration.told import Answers, Told, columns_of, rows_of, shown
from racebench.postgres.compiler.transactions import begins, ends
from racebench.workloads.callables import called, handed, left_open, no_outcome, signature, where
from racebench.workloads.faults import fault

#: What follows a refused statement without making up for it; COMMIT keeps what came before, or before a savepoint.
_CLEANING = frozenset({"ROLLBACK", "RELEASE", "COMMIT", "ABORT", "END", ""})
#: What ends a transaction without keeping what was done in it.
_UNDOING = frozenset({"ROLLBACK", "ABORT"})
_DEADLOCK = "40P01"


class PythonSession(GeneratorSession):
    """Runs its call once in each schedule.

    `runs`: what it runs, equal for sessions that run the same function. `failures_alone`: those that it raises also
    when the calls run one after the other. `begin_is_seen`: some statement asks when its transaction began, so that
    BEGIN is a step.
    """

    tries = 1
    statements: tuple[Statement, ...] = ()

    def __init__(
        self,
        number: int,
        call: Call,
        interception: Interception,
        connections: Connections,
        connect: Callable[[], psycopg.Connection[Any]],
        *,
        cached: bool = False,
        compares_answers: bool = False,
    ) -> None:
        super().__init__(number)
        self.call = call
        self.runs = str(call)
        self.operation = self.deadlocks = self.draw = self._starts = 0
        self.sqlstate = self.swallowed = ""
        self.told = Answers(wanted=compares_answers)
        self.returned: Any = None
        self.failures_alone: set[Failure] = set()
        self._failure: Failure = ()
        #: The line of the application that the exception passed with which the call ended, in parentheses.
        self.failed_at = ""
        self.batches: set[str] = set()
        self.begin_is_seen = False
        self._changes_catalog = False
        self._interception = interception
        self._connections = connections
        self._connect = connect
        self._settings: dict[str, str] = {}
        self._footprint = Footprint.ANYTHING
        self._given: psycopg.Connection[Any] | None = connect() if call.takes_connection else None
        #: What the call is given: that connection, or an asynchronous one over the same backend.
        self._handed: AnyConnection | None = None
        self._thread = interception.thread(number)  # last: it runs until it is closed
        self._connection: AnyConnection | None = None
        self._used: list[AnyConnection] = []
        self._touches = Touches(connections)
        self._leaves: dict[Leftover, str] = {}
        self._residue = Residue(connections, cached=cached)
        #: What the next step sends, if it is a statement of the application's.
        self._work: Generator[Any, Any, Any] | None = None
        #: How the connection may be cut at the next step, and the connections that were cut in this schedule.
        self._cuttable: tuple[Cut, ...] = ()
        self._lost_connections: list[AnyConnection] = []

    @property
    def pid(self) -> int:
        if self._connection is None or self._connection.closed:
            return 0
        return self._connection.pgconn.backend_pid

    @property
    def pids(self) -> frozenset[int]:
        return frozenset(connection.pgconn.backend_pid for connection in self._used if not connection.closed)

    @property
    def socket(self) -> int:
        if self._connection is None or self._connection.closed:
            return -1
        return self._connection.pgconn.socket

    @property
    def outcome(self) -> Outcome:
        outcome: Outcome = self.result
        return outcome

    @property
    def refused(self) -> bool:
        return self.outcome is Outcome.FAIL and not expected(self._failure, self.failures_alone)

    @property
    def likeness(self) -> str:
        return "" if self.told_apart else self.runs

    @property
    def told_apart(self) -> bool:
        drawn = self._connections.draws.differ or self._thread.randomness.draws.differ
        return self._connections.told_apart or drawn

    @property
    def functions(self) -> Set[str]:
        return self._connections.functions

    @property
    def drawn(self) -> int:
        randomness = self._thread.randomness
        # What only a pause gets changes nothing, and identifiers are labels.
        return randomness.drawn if randomness.draws.decide or randomness.draws.values else 0

    @property
    def draws(self) -> Draws:
        return united((self._thread.randomness.draws, self._connections.draws))

    def note_what_ran(self) -> None:
        """Note whether what it ran alone may ask which session it is."""
        for text in self.texts:
            self._connections.read(text)
        self._connections.told_apart |= self._thread.introspection.asked

    @property
    def sent_alone(self) -> bool:
        """Whether statements of it were seen when it last ran alone."""
        return bool(self._thread.passed)

    @property
    def was_watched(self) -> bool:
        """Whether its code was watched all the time when it ran alone."""
        return self._thread.watched

    def tell_apart(self) -> None:
        """Have no session count as like another."""
        self._connections.told_apart = True

    @property
    def texts(self) -> set[str]:
        """The texts of the statements that were sent when it ran alone."""
        return self._thread.texts

    @property
    def memory(self) -> Hashable:
        return tuple(self.answers)

    @property
    def footprint(self) -> Footprint:
        return self._footprint

    @property
    def step_identity(self) -> tuple[Statement, ...]:
        return identity(self.next_step)

    def sql(self) -> str:
        return "" if self._connection is None else parameters.in_sql(self._work, self._connection)

    def values(self) -> tuple[str, ...]:
        return parameters.sent_by(self._work)

    def cuts(self, *, reduce: bool) -> Sequence[Cut]:  # noqa: ARG002 - what the code makes of each is its own
        return () if self.cutter is None else self._cuttable

    def configure(self, name: str, value: str) -> None:
        self._settings[name] = value

    def run_alone(self, *, seen_before: bool = False) -> Failure:
        """Run the call to its end without a stop; return the failure it ended with, empty for none.

        `seen_before`: statements of the same function were seen. Raises UsageProblem for what cannot be explored.
        """
        unseen = self._connections.unseen()
        self._thread.free = True
        try:
            self._begin_call()
            while not isinstance(met := self._thread.next(), Finished):
                self._thread.answer(error=UsageProblem("a call stopped although its session runs alone"))
        finally:
            self._thread.free = False
        self._end(met)
        self._connections.learn(self._thread.texts)
        for connection in self._thread.connections:
            for text in self._thread.texts:
                self._note_left(connection, text)
        if not self.sqlstate:
            known = self._interception.pids()
            unseen.refuse(self.call, seen=self.sent_alone, seen_before=seen_before, known=known)
        return self._failure

    def start(self, tenant: int, run: int) -> None:  # noqa: ARG002 - the application knows no tenants of ours
        self.operation = (self.number << 32) + run
        self._starts += 1
        self.deadlocks, self.sqlstate, self.swallowed = 0, "", ""
        self.answers.clear()
        self.told.begin()
        self.returned = None
        self.begin(self._operation())

    def _begin_call(self) -> None:
        self._thread.passed = 0
        self._used = []
        self._lost_connections = []
        if self._given is not None and self._given.closed:
            self._given, self._handed = self._connect(), None
        if self._given is not None and self._handed is None:
            self._handed = handed(self.call, self._given)
        given = self._handed
        if given is not None:
            self._used.append(given)
        self._thread.call(lambda: called(self.call, given), self.draw)

    def _note_left(self, connection: AnyConnection, text: str) -> None:
        """Note what a statement may leave behind, before it is sent or after it has passed."""
        left = self._connections.leaves(text)
        self._changes_catalog = Leftover.CATALOG in left
        for leftover in left:
            self._leaves.setdefault(leftover, " ".join(text.split()))
        self._residue.note(connection, text, left)

    @property
    def serializable(self) -> bool:
        return self._touches.serializable or self._connections.serializable

    @property
    def changes_catalog(self) -> bool:
        return self._changes_catalog

    @property
    def leaves(self) -> Mapping[Leftover, str]:
        return self._leaves

    def clean(self) -> None:
        self._leaves = {}
        self._residue.remove(self._handed)

    def kept(self) -> Sequence[str]:
        return self._residue.kept(self._handed, self._settings)

    def _operation(self) -> Steps:
        self._begin_call()
        while isinstance(trip := self._thread.next(), RoundTrip):
            connection = trip.connection
            if connection not in self._used:
                self._used.append(connection)
            self._connection, self.where = connection, trip.where
            if connection in self._lost_connections:
                yield from self._in_vain(trip)
                continue
            status = connection.pgconn.transaction_status
            if status == pq.TransactionStatus.IDLE:
                level = self._connections.level(self.call, connection)
                self._connections.configure(connection, self._settings)
                self._connections.seed(connection, (self._starts, self.draw, self.number))
            else:
                level = ""
            statement, parts = as_sent(trip.text), _parts(trip.text)
            self._connections.read(trip.text)
            self._note_left(connection, trip.text)
            alone = connection.autocommit and status == pq.TransactionStatus.IDLE
            self._footprint = self._touches.of(statement, parts, connection, level, begin_is_seen=self.begin_is_seen)
            wrapped = (
                alone
                and connection.pgconn.pipeline_status == pq.PipelineStatus.OFF
                and bool(parts)
                and all(part.keyword in MAY_BE_WRAPPED for part in parts)
                and self._footprint not in (Footprint.READ, Footprint.SERIALIZABLE_READ)
            )
            if alone and len(parts) > 1 and not wrapped and self._footprint is Footprint.WRITE:
                self._footprint = Footprint.ANYTHING  # the string's own transaction is committed at its end
            value: Any = None
            error: BaseException | None = None
            try:
                if self.begin_is_seen and _begins_unasked(connection, statement, status):
                    touches, self._footprint = self._footprint, Footprint.WRITE
                    self._cuttable = (Cut.BEFORE,)
                    yield (as_sent("BEGIN"),)
                    if not self._cut_here:
                        connection.pgconn.exec_(connection._get_tx_start_command())
                    self._footprint = touches
                for place, (part, work) in enumerate(self._divided(trip, statement, parts, level, wrapped=wrapped)):
                    if part is not statement:
                        self._footprint = self._touches.of(
                            part, (part,), connection, "", begin_is_seen=self.begin_is_seen
                        )
                    if trip.text:
                        # What a string without a transaction holds is sent at once, and committed at its end.
                        self._cuttable = (*Cut,) if not wrapped else () if place else (Cut.BEFORE,)
                        self._work = work
                        yield (part,)
                        self._work = None
                    if wrapped and not place and not self._cut_here:
                        connection.pgconn.exec_(b"BEGIN")
                    value = yield from carry_out(work, connection, self._unread)
                    self._note(trip)
                if any(part.keyword not in _CLEANING for part in parts or (statement,)):
                    self.swallowed = ""
                if wrapped:
                    self._footprint = Footprint.ANYTHING
                    self._cuttable = (Cut.AFTER,)
                    yield (as_sent("COMMIT"),)
                    yield from commit(connection, self._unread)
            except Exception as problem:  # noqa: BLE001 - psycopg's, and the application's to handle
                error = problem
                if self.cut_now is not None and self.is_cut:
                    self._lost_connections.append(connection)
                    self.swallowed = CONNECTION_LOST
                    self.answers.append(CUT_ANSWERS[self.cut_now])
                elif (lost := self._lost(problem)) is not None:
                    self._thread.answer(error=problem)  # the application hears of it, and is then stopped
                    raise lost from None
                else:
                    if wrapped and not connection.closed:
                        connection.pgconn.exec_(b"ROLLBACK")
                    state = str(getattr(problem, "sqlstate", "") or "")
                    self.deadlocks += state == _DEADLOCK
                    self.swallowed = state
                    self.answers.append(f"ERROR {state or type(problem).__name__}: {message_of(problem)}")
            if connection.closed or connection.pgconn.transaction_status == pq.TransactionStatus.IDLE:
                self.told.settle(connection, undone=error is not None or statement.keyword in _UNDOING)
            self._thread.answer(value, error)
        self._end(trip)
        self.swallowed = self.swallowed if not self.sqlstate else ""
        if self.sqlstate and self._lost_connections:
            return Outcome.UNKNOWN
        return Outcome.FAIL if self.sqlstate else Outcome.OK

    @property
    def _cut_here(self) -> bool:
        """Whether the connection was cut at the step under way."""
        return self.cut_now is not None and self.is_cut

    def _unread(self) -> bool:
        return self.cut_now is Cut.AFTER and not self.is_cut

    def _in_vain(self, trip: RoundTrip) -> Steps:
        """Have a round trip over a connection that was cut fail, which is no step."""
        try:
            value = yield from carry_out(trip.work, trip.connection, self._unread)
        except Exception as problem:  # noqa: BLE001 - psycopg's
            self._thread.answer(error=problem)
        else:
            self._thread.answer(value)

    def _divided(
        self, trip: RoundTrip, statement: Statement, parts: Sequence[Statement], level: str, *, wrapped: bool
    ) -> Iterable[tuple[Statement, Generator[Any, Any, Any]]]:
        """The statements of a round trip, each with its own; all in one, and noted, if they cannot be divided."""
        if not trip.text or not is_batch(trip.work, parts):
            return ((statement, trip.work),)
        connection = trip.connection
        # Under READ COMMITTED each read has a snapshot of its own, with or without a transaction.
        snapshots = self._footprint is Footprint.READ and level.startswith("read ")
        idle = connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
        open_before = wrapped or snapshots or not (connection.autocommit and idle)
        pieces = divided(trip.work, parts, open_before=open_before)
        if pieces is None:
            self.batches.add(" ".join(trip.text.split()))
            return ((statement, trip.work),)
        return pieces

    def _note(self, trip: RoundTrip) -> None:
        """Add what the server answered to the answers."""
        result = getattr(trip.cursor, "pgresult", None)
        if result is not None and self.told.wanted:
            self.told.add(_told(trip.text, result), trip.connection)
        if result is None or not trip.text:
            self.answers.append(trip.text or "…")
        elif result.nfields and result.ntuples:
            values = (result.get_value(result.ntuples - 1, column) for column in range(result.nfields))
            last = tuple(None if value is None else _legible(value) for value in values)
            self.answers.append(shown(columns_of(result), last, result.ntuples))
        else:
            self.answers.append((result.command_status or b"").decode())

    def _end(self, finished: Finished) -> None:
        """Note how a call ended, and end what it left open.

        Raises Fault, and UsageProblem for what no call may do.
        """
        error = finished.error
        if self._thread.driver:
            raise OtherDriver(f"{self.call} connects over {self._thread.driver}")
        if (lost := self._lost(error, expired=True)) is not None:
            raise lost
        left = self._roll_back()
        self.returned = finished.value
        self.sqlstate = "" if error is None else signature(error)
        if error is not None and self._lost_connections and fault(error, stops_a_schedule):
            self.sqlstate = CONNECTION_LOST
        self._failure = () if error is None else failure(error)
        self.failed_at = "" if error is None else where(error)
        if line := self._interception.unscheduled():
            raise UsageProblem(
                f"{line} sends statements from a thread that racebench cannot schedule; have the call send them in "
                "its own thread, or with asyncio.to_thread or an executor, and wait for them"
            )
        if self._thread.problem is not None:
            raise self._thread.problem
        if isinstance(error, UsageProblem):
            raise error
        if error is not None and (problem := no_outcome(self.call, error)) is not None:
            raise problem
        if error is not None and self.sqlstate:
            said = f"raises {type(error).__name__}: {message_of(error)}"
            if not self.answers or not self.answers[-1].startswith("ERROR"):
                self.answers.append(said)
        if left and error is None:
            raise UsageProblem(left_open(self.call))

    def _lost(self, error: BaseException | None, *, expired: bool = False) -> Fault | None:
        """The fault that an exception stands for, or a connection that was lost; None if there is none.

        `expired`: expired time-outs count too. An application may handle them; at the end of its call it has not.
        """
        # After a cut, what a call raises comes from that, as far as one can tell.
        sqlstate = "" if error is None or self._lost_connections else fault(error, stops_a_schedule)
        if sqlstate in EXPIRED and not expired:
            sqlstate = ""
        if not sqlstate and any(one.broken for one in self._used if one not in self._lost_connections):
            sqlstate = CONNECTION_LOST  # whatever the application made of it
        if not sqlstate:
            return None
        at = f" at '{describe(self.next_step)}'" if self.next_step and not self._thread.free else ""
        said = "a connection was lost" if error is None else f"{type(error).__name__}: {message_of(error)}"
        return Fault(f"{self.name} ({self.call}) met a fault{at}: {said}", sqlstate)

    def _roll_back(self) -> bool:
        """Roll back what the call left open; return whether it left anything."""
        left = [connection for connection in self._used if is_open(connection)]
        for connection in left:
            connection.pgconn.exec_(b"ROLLBACK")
        return bool(left)

    def close(self) -> None:
        for connection in self._used:
            # A backend that waits would not notice that its client has gone.
            active = is_open(connection) and connection.pgconn.transaction_status == pq.TransactionStatus.ACTIVE
            if active and not cancel(connection):
                connection.pgconn.finish()
        self._thread.close()
        for connection in self._used:
            if is_open(connection):
                connection.pgconn.finish()  # in the middle of something that the call will not end any more
        if self._given is not None:
            self._given.close()


def _begins_unasked(connection: AnyConnection, statement: Statement, status: int) -> bool:
    """Whether psycopg sends a BEGIN of its own before a statement."""
    return (
        bool(statement.text)
        and not connection.autocommit
        and status == pq.TransactionStatus.IDLE
        and connection.pgconn.pipeline_status == pq.PipelineStatus.OFF
        and not begins(statement)
        and not ends(statement)
    )


@lru_cache(maxsize=512)
def _parts(text: str) -> tuple[Statement, ...]:
    """The statements of a text, without comments; none if it is not certain which they are."""
    parts = batches.split(text)
    return () if parts is None else tuple(map(as_sent, parts or ("",)))


def _told(text: str, result: pq.abc.PGresult) -> Told:
    return Told(
        statement=without_values(text),
        columns=columns_of(result),
        rows=rows_of(result),
        tag=(result.command_status or b"").decode(),
    )


def _legible(value: bytes) -> str:
    text = value.decode(errors="replace")
    return text if text.isprintable() else f"{len(value)} bytes"
