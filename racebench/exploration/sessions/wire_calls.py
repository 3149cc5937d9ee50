"""Sessions that call Python callables in this process over other drivers than psycopg 3: through the wire gate.

A session's thread, and what works for it (ownership.py), is led by a port of its own (drivers.py). If the application
hands connections from one session to another, as a pool does, a statement belongs to the session that runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence, Set
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from typing import Any

import psycopg

from racebench.core.driver_log import unprinted
from racebench.core.environ import exported
from racebench.core.model import Call, Outcome
from racebench.core.target import Target
from racebench.exploration.draws import Draws, united
from racebench.exploration.sessions.connections import Connections
from racebench.exploration.sessions.drivers import Redirection
from racebench.exploration.sessions.execution import Execution
from racebench.exploration.sessions.failures import Failure, expected
from racebench.exploration.sessions.session import State, Surroundings
from racebench.exploration.sessions.strand import Strand, Waiting
from racebench.exploration.sessions.threads import SessionThread
from racebench.exploration.sessions.wire import LIMIT_S, WireSessions, gate_of
from racebench.exploration.sessions.wire_session import WireSession
from racebench.exploration.wire.application import Application
from racebench.exploration.wire.call_actor import CallActor
from racebench.exploration.wire.connection import WireConnection
from racebench.exploration.wire.own_threads import OwnThreads
from racebench.exploration.wire.policy import Policy
from racebench.exploration.wire.stream import Piece
from racebench.postgres.connection import connect
from racebench.workloads.ad_hoc import own_application_name
from racebench.workloads.addresses import variables
from racebench.workloads.callables import called, handed

_INSIDE = (
    "a call waited for another one inside this process (a pool of few connections? a lock?): in two processes it would "
    "not, so that this says nothing of them"
)
#: How often a call is called again that fails before it has sent anything.
_CLOSED_BEFORE = 10


class WireCalls(WireSessions):
    """The kind of a strategy of callables that use another driver than psycopg 3."""

    _sessions: list[CallSession]  # type: ignore[assignment]

    def environment(self, target: Target, schema: str) -> AbstractContextManager[None]:
        return exported(variables(target, schema, own_application_name()))

    def open(self, surroundings: Surroundings, stack: ExitStack) -> Sequence[WireSession]:
        execution, target = Execution(), surroundings.target
        ports: dict[SessionThread, int] = {}

        def port_of(_driver: str) -> int | None:
            call = execution.ownership.call()
            if call is None:
                return None
            with suppress(RuntimeError):  # there is none
                call.session.loops.add(asyncio.get_running_loop())
            return ports.get(call.session)

        stack.enter_context(execution.installed(Redirection(target, port_of).patches(psycopg=True)))
        actors: list[CallActor] = []
        stack.callback(_close_all, actors)  # when the gate has closed their connections
        application, connections, policy = gate_of(
            surroundings, stack, partial(OwnThreads, limit_s=LIMIT_S), pools=True
        )
        calls = surroundings.strategy.calls
        for number in range(1, surroundings.sessions + 1):
            call = calls[(number - 1) % len(calls)]
            calling = _Calling(call, surroundings)
            stack.callback(calling.close)
            actor = CallActor(call, partial(execution.thread, number), calling)
            actors.append(actor)
            port = ports[actor.thread] = application.listen()
            application.gate.watch(actor.arrived)
            session = CallSession(number, call, actor, application, connections, policy, surroundings)
            # Closures may have one name.
            session.runs = f"{call} {[one.function for one in calls].index(call.function)}"
            application.belongs(port, session)
            application.sessions.append(session)
            self._sessions.append(session)
        self._application = application
        return self._sessions

    def run_alone(self, renew: Callable[[], object], violations: Callable[[], int]) -> None:
        super().run_alone(renew, violations)
        for session in self._sessions:
            # One that was not watched may have asked which session it is.
            if not any(other.was_watched for other in self._sessions if other.runs == session.runs):
                session.tell_apart()


class _Calling:
    """Calls a callable, in its session's thread, with a connection of psycopg's if it takes one."""

    def __init__(self, call: Call, surroundings: Surroundings) -> None:
        self._call, self._surroundings = call, surroundings
        self._given: psycopg.Connection[Any] | None = None
        self._handed: Any = None

    def __call__(self) -> Any:
        if self._call.takes_connection and (self._given is None or self._given.closed):
            self._given = connect(
                self._surroundings.target,
                schema=self._surroundings.schema,
                application_name=self._surroundings.application_name,
                autocommit=False,
                own_code=True,
            )
            self._handed = handed(self._call, self._given)
        return called(self._call, self._handed)

    def close(self) -> None:
        """Close the connection; the gate has closed the other end."""
        if self._given is not None:
            self._given.close()


class CallSession(WireSession):
    """Calls its callable once in each schedule."""

    failures_alone: Set[Failure]

    def __init__(
        self,
        number: int,
        work: Call,
        actor: CallActor,
        application: Application,
        connections: Connections,
        policy: Policy,
        surroundings: Surroundings,
    ) -> None:
        super().__init__(number, work, actor, application, connections, policy, surroundings)
        self._calling = actor
        self._starts = 0
        self._passed = False
        #: The backends that it was seen to use.
        self._known: set[int] = set()

    # What its code was seen to do

    @property
    def draws(self) -> Draws:
        return united((self._thread.randomness.draws, self._connections.draws))

    @property
    def drawn(self) -> int:
        randomness = self._thread.randomness
        # What only a pause gets changes nothing, and identifiers are labels.
        return randomness.drawn if randomness.draws.decide or randomness.draws.values else 0

    @property
    def told_apart(self) -> bool:
        return super().told_apart or self._thread.randomness.draws.differ

    @property
    def refused(self) -> bool:
        return self.outcome is Outcome.FAIL and not expected(self._calling.failure, self.failures_alone)

    @property
    def _thread(self) -> SessionThread:
        return self._calling.thread

    @property
    def was_watched(self) -> bool:
        """Whether its code was watched all the time when it ran alone."""
        return self._thread.watched

    def tell_apart(self) -> None:
        """Have no session count as like another."""
        self._connections.told_apart = True

    def note_what_ran(self) -> None:
        super().note_what_ran()
        self._connections.told_apart |= self._thread.introspection.asked

    # A schedule

    def run_alone(self) -> Hashable:
        unseen = self._connections.unseen()
        self._thread.free = True
        before = len(self.texts)
        try:
            for _ in range(_CLOSED_BEFORE):
                super().run_alone()
                if self._passed or not self._calling.failure:
                    break  # else a pool has given it a connection of an earlier exploration, which is closed
        finally:
            self._thread.free = False
        if not self._calling.failure:
            seen_before, seen = bool(before), self._passed
            unseen.refuse(self._calling.call, seen=seen, seen_before=seen_before, known=self._known)
        return self._calling.failure

    def start(self, tenant: int, run: int) -> None:
        self._starts += 1
        super().start(tenant, run)
        self._thread.randomness.leave()

    def _begin(self) -> None:
        self._calling.draw = self.draw
        self._passed = False
        super()._begin()

    def take_answer(self, strand: Strand, waiting: Waiting) -> None:
        self._thread.randomness.resume()
        super().take_answer(strand, waiting)
        self._thread.randomness.leave()

    def passes(self, connection: WireConnection, piece: Piece) -> None:
        self._passed = True
        self._known.add(connection.link.pid)
        super().passes(connection, piece)

    def waits(self, connection: WireConnection, piece: Piece) -> bool:
        if connection.is_idle:
            self._connections.seed(connection, (self._starts, self.draw, self.number))
        return super().waits(connection, piece)

    def decide_all(self) -> None:
        super().decide_all()
        self.where = self._thread.line() if self.state is State.READY else ""
        if self.inside:
            self.application.note(_INSIDE)


def _close_all(actors: Sequence[CallActor]) -> None:
    """Close all threads, the first one first, also if one of them cannot be closed."""
    with unprinted(), ExitStack() as stack:
        for actor in reversed(actors):
            stack.callback(actor.close)
