"""Sessions that run a program, or send a request to a service: what they send to the server is held at a gate.

The application runs as it is, outside this process. A step begins when a piece of what it sends (wire/stream.py) is let
go, and ends when the application is at rest again (wire/application.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from itertools import permutations
from typing import Any, ClassVar

from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.faults import CONNECTION_LOST, EXPIRED, stops_a_schedule
from racebench.core.model import Call, HttpRequest, Instances, Outcome, Program, Service, Statement, Strategy
from racebench.core.quantity import quantity
from racebench.core.target import Target
from racebench.exploration import choices
from racebench.exploration.choices import Cut
from racebench.exploration.draws import Draws
from racebench.exploration.faults import Fault
from racebench.exploration.independence import Footprint
from racebench.exploration.leftovers import Leftover
from racebench.exploration.result import Unseen
from racebench.exploration.sessions.connections import Connections
from racebench.exploration.sessions.division import MAY_BE_WRAPPED
from racebench.exploration.sessions.residue import Residue
from racebench.exploration.sessions.session import State, Surroundings
from racebench.exploration.sessions.touches import Touches
from racebench.exploration.steps import CUT_ANSWERS, as_sent, describe, identity, without_values
from racebench.exploration.symmetry import begin_is_seen
from racebench.exploration.told import Answers
from racebench.exploration.wire import actors, answers
from racebench.exploration.wire.actors import Actor, ProgramActor, RequestActor
from racebench.exploration.wire.application import HOST, Application
from racebench.exploration.wire.connection import WireConnection
from racebench.exploration.wire.policy import Policy
from racebench.exploration.wire.rest import ApplicationRest, available
from racebench.exploration.wire.stream import Kind, Piece
from racebench.postgres.compiler.transactions import begins
from racebench.workloads import addresses
from racebench.workloads.callables import advice
from racebench.workloads.http import HttpClient, NoAnswer, Response, is_expected
from racebench.workloads.services import RunningService

#: The time limit for the application between two steps, and for a whole request, in seconds.
LIMIT_S, _REQUEST_S = 10.0, 600.0
_DEADLOCK = "40P01"
#: The most sessions whose operations are run alone in every order.
_MOST_PERMUTED = 3
#: What ends a transaction without keeping what was done in it.
_UNDOING = frozenset({"ROLLBACK", "ABORT"})
#: What follows a refused statement without making up for it.
_CLEANING = frozenset({"ROLLBACK", "RELEASE", "COMMIT", "ABORT", "END", ""})
_SHARED = (
    "all requests went to one instance of the service: what has no race within one process (behind a pool of one, or a "
    "lock of the process) may have one between two; --instances each explores that"
)
#: The most statements that an operation may have under way at once.
_STRANDS = 4
_ONE_SNAPSHOT = ("repeatable read", "serializable")


class WireSessions:
    """The kind of a strategy that is a program, or a request to a service; the sessions take turns with several."""

    #: Only the application knows what it has to undo.
    may_be_abandoned: ClassVar[bool] = False

    def __init__(self) -> None:
        self._sessions: list[WireSession] = []
        self._application: Application | None = None
        self._services: dict[int, RunningService] = {}
        self._environments: dict[int, addresses.Environment] = {}
        self._actors: list[Actor] = []
        self._is_used = False
        #: A connection was cut in an earlier schedule, since the services were started.
        self._lost_before = False

    @staticmethod
    def runs(strategy: Strategy) -> bool:
        return bool(strategy.programs or strategy.requests)

    def environment(self, target: Target, schema: str) -> AbstractContextManager[None]:  # noqa: ARG002 - it has its own
        return nullcontext()

    def open(self, surroundings: Surroundings, stack: ExitStack) -> Sequence[WireSession]:
        strategy, target = surroundings.strategy, surroundings.target
        application, connections, policy = gate_of(surroundings, stack)
        self._application = application
        service = strategy.service
        shared = service is not None and (service.instances is Instances.SHARED or bool(service.url))
        stack.callback(self._stop)
        if service is not None and shared:
            application.note(_SHARED)
        listen = _port(service.listen) if service is not None and service.url else 0
        for number in range(1, surroundings.sessions + 1):
            port = application.listen(listen if number == 1 else 0)
            environment = addresses.through(HOST, port, target, surroundings.schema)
            runs: tuple[Program | HttpRequest, ...] = strategy.programs or strategy.requests
            place = (number - 1) % len(runs)
            actor: Actor
            if strategy.service is None:
                actor = ProgramActor(strategy.programs[place], environment)
            else:
                if number == 1 or not shared:
                    self._environments[number] = environment
                    self._start(strategy.service, number)
                request = RequestActor(strategy.requests[place], strategy.service, self._of(number), _REQUEST_S)
                application.gate.watch(request.arrived)
                actor = request
            self._actors.append(actor)
            session = WireSession(number, runs[place], actor, application, connections, policy, surroundings)
            if not shared:
                application.belongs(port, session)
            application.sessions.append(session)
            self._sessions.append(session)
        return self._sessions

    @property
    def strands(self) -> Sequence[Strand]:
        """What else the sessions may have under way besides their first strands."""
        return [strand for session in self._sessions for strand in session.strands[1:]]

    @property
    def notes(self) -> Sequence[str]:
        """What was noticed of the application, as sentences."""
        return () if self._application is None else self._application.notes

    @property
    def spoiled(self) -> bool:
        """Whether a session failed that was not cut, perhaps over a connection that was cut in an earlier schedule."""
        was_cut = self._application is not None and self._application.was_cut
        return self._lost_before and not was_cut and any(session.refused for session in self._sessions)

    @property
    def unseen(self) -> Unseen | None:
        """Why the schedules so far prove nothing."""
        unsure = self._application is not None and self._application.unsure
        return Unseen.ATTRIBUTION if unsure else None

    def _start(self, service: Service, number: int) -> None:
        """Start an instance of the service, whose connections pass until it is ready."""
        application = self._application
        assert application is not None  # it was opened

        def carry(seconds: float) -> None:
            application.gate.pump(seconds)

        # What is sent at the first start is compared with what the operations send.
        with application.preparing() if self._is_used else nullcontext():
            self._services[number] = RunningService.start(service, self._environments[number], meanwhile=carry)

    def _stop(self) -> None:
        """End the services, then the sessions' threads and programs: one may wait for an answer of a service's."""
        with ExitStack() as stack:
            for actor in self._actors:
                stack.callback(actor.close)
            for running in self._services.values():
                stack.callback(running.stop)

    def _of(self, number: int) -> Callable[[], RunningService]:
        """The instance of the service that a session sends its requests to."""
        return lambda: self._services[number if number in self._services else 1]

    def renew(self) -> None:
        application = self._application
        assert application is not None  # it was opened
        again = bool(self._services) and (self.spoiled or application.has_ended)
        self._lost_before = (self._lost_before or application.was_cut) and not again
        application.was_cut = application.has_ended = False
        if again and any(running.service.url for running in self._services.values()):
            raise UsageProblem(
                "a request failed after a connection was cut in an earlier schedule, and the service cannot be started "
                "again from here: have it replace connections that are lost, or start it with --serve"
            )
        for number, running in list(self._services.items()):
            if again or (running.service.restart and self._is_used):
                running.stop()
                self._start(running.service, number)
        for running in self._services.values():
            if running.service.reset is not None:
                self._reset(running, running.service.reset)
        self._is_used = True

    def _reset(self, running: RunningService, request: HttpRequest) -> None:
        """Send the request that prepares an instance for another schedule."""

        def send() -> Response:
            with HttpClient(running.host, running.port) as client:
                return client.send(request, LIMIT_S)

        assert self._application is not None  # it was opened
        try:
            response = self._application.while_idle(send)
        except NoAnswer as problem:
            running.check()
            raise UsageProblem(f"--reset '{request}' has no answer: {problem}{running.said()}") from None
        if not is_expected(response.status, running.service.expect):
            raise UsageProblem(f"--reset '{request}' answers {response.text}; correct the request, or the service")

    def _send_together(self) -> None:
        """Send all requests at once to one instance: that fills its pool, and shows a connection that they share."""
        running = self._services[1]

        def send(request: Call | Program | HttpRequest) -> None:
            assert isinstance(request, HttpRequest)  # there is a service
            with suppress(NoAnswer), HttpClient(running.host, running.port) as client:
                client.send(request, LIMIT_S)

        def send_all() -> None:
            with ThreadPoolExecutor(len(self._sessions)) as threads:
                for session in self._sessions:
                    threads.submit(send, session.work)

        assert self._application is not None  # it was opened
        self._application.while_idle(send_all)
        running.check()

    def run_alone(self, renew: Callable[[], object], violations: Callable[[], int]) -> None:
        """Run the operations one after the other, in every order: what fails or breaks then is no race.

        This also fills the application's pools and caches, so that every schedule begins alike.
        """
        sessions = self._sessions
        if self._services and self._application is not None:
            self._application.observe()
        every = permutations(sessions) if len(sessions) <= _MOST_PERMUTED else (sessions, sessions[::-1])
        orders = list({tuple(session.runs for session in order): order for order in every}.values())
        if len(orders) == 1:
            orders.append(tuple(sessions))  # the first found an application that was not warm
        failures: set[Hashable] = set()
        for order in orders:
            renew()
            self.renew()
            for place, session in enumerate(order):
                failure = session.run_alone()
                if failure and not place:
                    raise UsageProblem(
                        f"{session.work} fails when it runs alone, right after the setup: {session.answers[-1]}"
                        + advice(session.sqlstate, session.answers[-1])
                    )
                failures |= {failure} if failure else set()
            if broken := violations():
                raise UsageProblem(
                    f"{quantity(broken, 'row breaks', 'rows break')} the invariant when the operations run one after "
                    "the other: that is no race; look at the application, or at the invariant"
                )
        if len(sessions) > 1 and self._services:
            renew()
            self._send_together()
        for session in sessions:
            if not session.texts and not self.unseen:
                raise self._unreached(session)
        texts = set().union(*(session.texts for session in sessions))
        seen = begin_is_seen(texts)
        for session in sessions:
            session.note_what_ran()
            session.failures_alone = failures
            session.policy.begin_is_seen |= seen

    def _unreached(self, session: WireSession) -> UsageProblem:
        return UsageProblem(
            f"{session.work} sent no statement to the server: does it reach the database at all? Have it "
            "connect to DATABASE_URL, or to PGHOST and PGPORT"
        )

    def callables(self, strategy: Strategy, sessions: int) -> Mapping[str, str]:
        runs = [str(one) for one in strategy.subjects]
        return {f"s{number}": runs[(number - 1) % len(runs)] for number in range(1, sessions + 1)}

    def stuck(self, waiting: Sequence[str], holders: Sequence[str]) -> UsageProblem:
        inside = [session for session in self._sessions if session.inside]
        where = "".join(session.actor.stuck() for session in inside[:1])
        if len(inside) == 1 and not holders:
            return UsageProblem(f"{inside[0].name} ({inside[0].work}) did not come to its end{where}")
        return UsageProblem(
            f"{' and '.join(waiting)} wait for each other inside the application, which the server does not see (a "
            f"pool of too few connections, or a lock of the application's){where}"
        )


def gate_of(
    surroundings: Surroundings,
    stack: ExitStack,
    rest: Callable[[], ApplicationRest | None] = lambda: None,
    *,
    pools: bool = False,
) -> tuple[Application, Connections, Policy]:
    """An application with its gate, which `stack` closes, and what is known of its connections and statements.

    Raises UsageProblem if the kernel does not say when an application is at rest.
    """
    if not available():
        raise UsageProblem(
            "programs, services, and calls over another driver than psycopg 3 are explored on Linux only, where the "
            "kernel says when an application is at rest (/proc); racebench run measures them"
        )
    target = surroundings.target
    application = Application(
        target,
        {"search_path": surroundings.schema, "application_name": surroundings.application_name},
        stack,
        limit_s=LIMIT_S,
        beside=surroundings.monitor.pgconn,
        every_row=surroundings.compares_answers,
        rest=rest(),
        pools=pools,
    )
    connections = Connections(surroundings.monitor, surroundings.schema, target.label, surroundings.facts.volatile)
    policy = Policy(surroundings.monitor, connections)
    policy.begin_is_seen = surroundings.facts.begin_is_seen
    return application, connections, policy


def _port(address: str) -> int:
    """The port of host:port; any one if there is none."""
    return int(address.rpartition(":")[2] or 0)


class Strand:
    """One of the statements that an operation may have under way at once, over one of its connections.

    `inside`: it waits for another session inside the application, where the server does not see it.
    """

    rolled_back = joins_next = False
    where = ""

    def __init__(self, session: WireSession, strand: int) -> None:
        self.number = choices.choice(session.operator, strand=strand)
        self.name = choices.text_of(self.number)
        self.state = State.DONE
        self.inside = False
        self.next_step: tuple[Statement, ...] = ()
        self.answers: list[str] = []
        self.session = session
        self.at_gate: Waiting | None = None
        self.sent: Waiting | None = None
        self._cut: Cut | None = None

    @property
    def is_free(self) -> bool:
        """Whether it has nothing under way."""
        return self.at_gate is None and self.sent is None

    @property
    def pid(self) -> int:
        current = self.sent or self.at_gate
        return 0 if current is None or current.connection.closed else current.connection.link.pid

    @property
    def pids(self) -> frozenset[int]:
        return self.session.backends

    @property
    def socket(self) -> int:
        return self.session.application.gate.fileno()

    @property
    def likeness(self) -> str:
        return ""

    @property
    def memory(self) -> Hashable:
        return self.session.history

    @property
    def step_identity(self) -> tuple[Statement, ...]:
        return identity(self.next_step)

    @property
    def footprint(self) -> Footprint:
        return self.at_gate.touches if self.at_gate is not None else Footprint.ANYTHING

    @property
    def changes_catalog(self) -> bool:
        return self.at_gate is not None and self.at_gate.changes_catalog

    @property
    def serializable(self) -> bool:
        return self.session.may_be_serializable

    @property
    def leaves(self) -> Mapping[Leftover, str]:
        return {}

    def literal(self) -> str:
        return describe(self.next_step) if self.at_gate is None else answers.literal(self.at_gate.piece)

    def sql(self) -> str:
        return "" if self.at_gate is None or len(self.at_gate.piece.parts) != 1 else self.literal()

    def values(self) -> tuple[str, ...]:
        return () if self.at_gate is None else answers.short_parameters(self.at_gate.piece)

    def cuts(self, *, reduce: bool) -> Sequence[Cut]:  # noqa: ARG002 - what the application makes of each is its own
        if self.at_gate is None or not self.session.may_be_cut:
            return ()
        if self.at_gate.piece.kind is Kind.SYNC:  # the server does not wait for its client before it commits by itself
            return (Cut.AFTER,)
        return (Cut.BEFORE,) if self.at_gate.divided else (*Cut,)

    def cut(self, cut: Cut) -> None:
        self._cut = cut

    def mend(self) -> None:
        """An application connects by itself."""

    def configure(self, name: str, value: str) -> None:
        """The settings of the application's connections are the session's."""

    def take_numbers(self, sequences: Sequence[str]) -> None:
        """A session whose connections are the application's holds no numbers."""

    def clean(self) -> None:
        """What is left is the session's."""

    def prepare_again(self) -> None:
        """What its application has prepared is the application's."""

    def kept(self) -> Sequence[str]:
        return ()

    def start(self, tenant: int, run: int) -> None:
        """The session begins its operation."""

    def abandon(self) -> None:
        """An application is run to its end instead (`may_be_abandoned`)."""

    def close(self) -> None:
        """The session closes what is to be closed."""

    def advance(self) -> None:
        if self.state is State.READY:
            if self._cut is Cut.BEFORE and self.at_gate is not None:
                waiting, self.at_gate = self.at_gate, None
                self._cut_off(waiting, Cut.BEFORE)
            else:
                self._release()
            return
        self.session.application.gate.pump()
        self.session.application.announce()
        sent = self.sent
        if sent is not None and sent.piece.answered:
            self.sent = None
            if self._cut is not None:
                self._cut_off(sent, self._cut)
            else:
                self.session.take_answer(self, sent)
        elif self.session.lost is not None:
            raise self.session.lost

    def _cut_off(self, waiting: Waiting, cut: Cut) -> None:
        self._cut = None
        self.answers.append(CUT_ANSWERS[cut])
        self.session.lose(waiting)

    def _release(self) -> None:
        waiting = self.sent = self.at_gate
        assert waiting is not None  # it is ready
        self.at_gate = None
        self.state = State.WAITING
        self.session.note_sent(waiting.piece)
        waiting.connection.stream.release(divided=waiting.divided)

    def decide(self) -> None:
        """Note where it is, now that the application is at rest."""
        self.inside = False
        if self.sent is not None:
            self.state = State.WAITING
        elif self.at_gate is not None:
            self.state = State.READY
            self.next_step = (as_sent(self.at_gate.piece.text),)
        else:
            self.state = State.DONE


class WireSession(Strand):
    """Runs its operation once in each schedule. `work`: what it runs; `runs`: equal for sessions that run the same.

    It is its own first strand; `strands`: all of them. `trace`: the statements that were held, or would have been, when
    it ran alone; `texts`: of all that it sent then. `reached`: how many of the trace it has sent in this schedule.
    """

    tries = 1
    statements: tuple[Statement, ...] = ()

    def __init__(
        self,
        number: int,
        work: Call | Program | HttpRequest,
        actor: Actor,
        application: Application,
        connections: Connections,
        policy: Policy,
        surroundings: Surroundings,
    ) -> None:
        self.operator = number
        super().__init__(self, 0)
        self.work, self.actor, self.policy = work, actor, policy
        self.runs = str(work)
        self.strands: list[Strand] = [self, *(Strand(self, strand) for strand in range(1, _STRANDS))]
        self.operation = self.deadlocks = self.draw = 0
        self.sqlstate = self.swallowed = ""
        self.told = Answers(wanted=surroundings.compares_answers)
        self.returned: Any = None
        self.outcome = Outcome.OK
        self.failures_alone: Set[Any] = frozenset()
        self.batches: set[str] = set()
        self.texts: set[str] = set()
        self.firsts: set[str] = set()
        self.trace: list[str] = []
        self.reached = 0
        self.under_way = False
        self.lost: Fault | None = None
        self.may_be_cut = surroundings.crash > 0
        #: A connection of it was cut in this schedule.
        self.was_cut = False
        self.application, self._connections = application, connections
        self._settings: dict[str, str] = {}
        self._used: dict[WireConnection, None] = {}
        self._arrived: list[Waiting] = []
        self._touches = Touches(connections)
        self._residue = Residue(connections, cached=bool(surroundings.facts.cached_sequences))
        self._leaves: dict[Leftover, str] = {}
        self._history = hashlib.blake2b(digest_size=16)

    # What the scheduler and the world ask

    @property
    def backends(self) -> frozenset[int]:
        """Those of all its connections in this schedule."""
        return frozenset(connection.link.pid for connection in self._used if not connection.closed)

    @property
    def draws(self) -> Draws:
        return self._connections.draws

    @property
    def drawn(self) -> int:
        return 0

    @property
    def likeness(self) -> str:
        return "" if self.told_apart else self.runs

    @property
    def told_apart(self) -> bool:
        return self._connections.told_apart or self._connections.draws.differ or self.application.interwoven

    @property
    def functions(self) -> Set[str]:
        return self._connections.functions

    @property
    def history(self) -> bytes:
        """What it was told and has sent, all bytes of it, as a digest."""
        return self._history.digest()

    @property
    def memory(self) -> Hashable:
        return self.history, b"" if self.at_gate is None else b"".join(self.at_gate.piece.packets)

    @property
    def refused(self) -> bool:
        return self.outcome is Outcome.FAIL and self.sqlstate not in self.failures_alone

    @property
    def may_be_serializable(self) -> bool:
        """Whether a transaction of it may be serializable, as far as is known by now."""
        return self._touches.serializable or self._connections.serializable

    @property
    def leaves(self) -> Mapping[Leftover, str]:
        return self._leaves

    def configure(self, name: str, value: str) -> None:
        self._settings[name] = value

    def clean(self) -> None:
        self._leaves = {}
        self._residue.remove(None)

    def kept(self) -> Sequence[str]:
        return self._residue.kept(None, self._settings)

    # A schedule

    def start(self, tenant: int, run: int) -> None:  # noqa: ARG002 - the application knows no tenants of ours
        self.operation = (self.number << 32) + run
        self.application.run(self, self._begin)

    def _begin(self) -> None:
        self.deadlocks, self.sqlstate, self.swallowed = 0, "", ""
        self.answers.clear()
        self.told.begin()
        self.returned = None
        self.outcome = Outcome.OK
        for strand in self.strands:
            strand.at_gate = strand.sent = strand._cut = None
        self._used, self._arrived, self.lost, self.was_cut = {}, [], None, False
        self._history = hashlib.blake2b(digest_size=16)
        self.reached = 0
        self.under_way = True
        self.actor.begin()

    def run_alone(self) -> Hashable:
        """Run the operation to its end without a stop; return what identifies its failure, something empty for none."""
        self.trace = []
        self.application.run_alone(self, self._begin)
        self.decide_all()
        return self.sqlstate

    def note_what_ran(self) -> None:
        """Note whether what it ran alone may ask which session it is."""
        for text in self.texts:
            self._connections.read(text)

    def close(self) -> None:
        self.actor.close()

    def note_sent(self, piece: Piece) -> None:
        """Note a piece of it that is let go."""
        for packet in piece.packets:
            self._history.update(packet)

    def take_answer(self, strand: Strand, waiting: Waiting) -> None:
        """Give the application the answer to what was sent, and let it run until it is at rest again."""
        piece, connection = waiting.piece, waiting.connection
        self._note_answer(strand, piece)
        if not connection.stream.in_transaction:
            self.told.settle(connection, undone=bool(piece.sqlstate) or _keyword(piece) in _UNDOING)
        self.application.run(self, lambda: self._deliver(connection))

    def lose(self, waiting: Waiting) -> None:
        """Cut the connection of a piece, at both ends, and let the application run until it is at rest again."""
        connection = waiting.connection
        self.was_cut = self.application.was_cut = True
        self.swallowed = CONNECTION_LOST
        self.deadlocks += waiting.piece.sqlstate == _DEADLOCK
        self.told.settle(connection, undone=True)
        self._history.update(b"cut")

        def cut() -> None:
            connection.cut = True
            connection.link.cut()

        self.application.run(self, cut)

    def _deliver(self, connection: WireConnection) -> None:
        if not connection.stream.withholds:  # else the commit is next, which has arrived
            self.application.gate.deliver(connection)
        connection.stream.proceed()

    def _note_answer(self, strand: Strand, piece: Piece) -> None:
        strand.answers.append(answers.summary(piece))
        if piece.sqlstate:
            self.deadlocks += piece.sqlstate == _DEADLOCK
            self.swallowed = piece.sqlstate
            if stops_a_schedule(piece.sqlstate) and piece.sqlstate not in EXPIRED:
                at = describe(strand.next_step)
                raise Fault(f"{self.name} ({self.work}) met a fault at '{at}': {piece.message}", piece.sqlstate)
            return
        if piece.kind is not Kind.SYNC and any(part.keyword not in _CLEANING for part in piece.parts):
            self.swallowed = ""
        if self.told.wanted and piece.kind is not Kind.SYNC:
            self.told.add(answers.told(piece, without_values(piece.text)), piece.stream)

    # What the application tells (wire.application.Operating)

    @property
    def has_answer(self) -> bool:
        return any(strand.sent is not None and strand.sent.piece.answered for strand in self.strands)

    @property
    def can_go_on(self) -> bool:
        return bool(self._arrived) or not all(strand.is_free for strand in self.strands)

    @property
    def is_undecided(self) -> bool:
        return self.under_way and not self.can_go_on and not self._has_ended

    @property
    def has_responded(self) -> bool:
        return self.actor.ended

    @property
    def _has_ended(self) -> bool:
        return self.actor.ended and not any(
            connection.in_use for connection in self._used if connection.owner in (None, self)
        )

    def passes(self, connection: WireConnection, piece: Piece) -> None:
        self._used[connection] = None
        if connection.is_idle:
            self._connections.level(self.work, connection)
        for text in piece.texts:
            self.texts.add(text)
            self._note_left(connection, text)
        if piece.kind in (Kind.EXECUTE, Kind.QUERY, Kind.CALL) and self.policy.holds(piece):
            self.trace.append(piece.text)
            piece.stream.touched = True

    def holds(self, piece: Piece) -> bool:
        return self.policy.holds(piece)

    def waits(self, connection: WireConnection, piece: Piece) -> bool:
        level = ""
        if connection.is_idle:
            level = self._connections.level(self.work, connection)
            self._connections.configure(connection, self._settings)
            connection.stream.snapshots = level in _ONE_SNAPSHOT
        for text in piece.texts:
            self._connections.read(text)
            connection.stream.snapshots |= any(name in text.lower() for name in _ONE_SNAPSHOT)
            self._note_left(connection, text)
        piece.touches = self._touches.of(
            as_sent(piece.text), piece.parts, connection, level, begin_is_seen=self.policy.begin_is_seen
        )
        return self.policy.holds(piece)

    def takes(self, connection: WireConnection, piece: Piece) -> None:
        self._used[connection] = None
        connection.stream.told = self._history.update
        waiting = Waiting(connection, piece, piece.touches, Leftover.CATALOG in self._leaves)
        if piece.kind in (Kind.PARSE, Kind.CALL, Kind.SYNC):
            waiting.touches = Footprint.ANYTHING
        elif piece.alone:
            self._divide(waiting)
        if piece.kind in (Kind.EXECUTE, Kind.QUERY, Kind.CALL):
            self.reached += 1
        self._arrived.append(waiting)

    def _divide(self, waiting: Waiting) -> None:
        """Decide whether the commit of a piece without a transaction is a step of its own."""
        piece = waiting.piece
        parts = piece.parts
        reads = waiting.touches in (Footprint.READ, Footprint.SERIALIZABLE_READ)
        waiting.divided = (
            not reads and all(part.keyword in MAY_BE_WRAPPED for part in parts) and piece.stream.may_be_divided(piece)
        )
        if not waiting.divided and not reads:
            waiting.touches = Footprint.ANYTHING  # its transaction is committed at its end
            sent_at_once = [part for part in parts if not begins(part)]
            if not parts or len(sent_at_once) > 1 or (len(parts) == 1 and parts[0].keyword in MAY_BE_WRAPPED):
                self.batches.add(" ".join(piece.text.split()))

    def _note_left(self, connection: WireConnection, text: str) -> None:
        left = self._connections.leaves(text)
        for leftover in left:
            self._leaves.setdefault(leftover, " ".join(text.split()))
        if Leftover.CATALOG in left:
            self.policy.forget_names()
        self._residue.note(connection, text, left)

    def disowns(self, connection: WireConnection) -> None:
        self._used.pop(connection, None)

    def gone(self, connection: WireConnection) -> None:
        if connection in self._used and not (connection.left_by_client or connection.cut) and self.under_way:
            self.lost = Fault(f"{self.name} ({self.work}) lost its connection", CONNECTION_LOST)
        self._arrived = [waiting for waiting in self._arrived if waiting.connection is not connection]
        for strand in self.strands:
            if strand.at_gate is not None and strand.at_gate.connection is connection:
                strand.at_gate = None

    def decide_all(self) -> None:
        self._share_out()
        for strand in self.strands:
            strand.decide()
        if self.state is not State.DONE:
            return
        if self.under_way and not self.can_go_on and self._has_ended:
            self._finish()
        elif self.under_way:
            if self.actor.ended and not self.can_go_on:
                raise UsageProblem(
                    f"{self.work} leaves its transaction open: commit before it ends, or before it answers"
                )
            self.state, self.inside = State.WAITING, True

    def _share_out(self) -> None:
        """Give the strands what has arrived. Of what arrived together, the text says which comes first."""
        arrived, self._arrived = self._arrived, []
        if len(arrived) > 1:
            arrived.sort(key=lambda waiting: (waiting.piece.text, b"".join(waiting.piece.packets)))
        for waiting in arrived:
            strand = next((strand for strand in self.strands if strand.is_free), None)
            if strand is None:
                raise UsageProblem(f"{self.work} sends more than {_STRANDS} statements at once: send fewer at a time")
            strand.at_gate = waiting
            self.application.interwoven |= strand is not self

    def _finish(self) -> None:
        self.under_way = False
        if self.lost is not None:
            raise self.lost
        ending = self._ending()
        self.returned = ending.returned
        self.sqlstate = ending.code
        if ending.code:
            self.outcome = Outcome.UNKNOWN if ending.unknown or self.was_cut else Outcome.FAIL
            self.answers.append(actors.shown(ending))
            self.swallowed = ""

    def _ending(self) -> actors.Ending:
        try:
            return self.actor.ending()
        except RacebenchError as problem:
            if not self.application.was_cut:
                raise
            self.application.has_ended = True
            self.application.note("the service ended when a connection of it was cut; it was started again")
            return actors.Ending(code="no answer", said=str(problem), returned=None, unknown=True)


@dataclass(slots=True, eq=False)
class Waiting:
    """A piece at the gate, with what it may touch. `divided`: its commit is to be a step of its own."""

    connection: WireConnection
    piece: Piece
    touches: Footprint
    changes_catalog: bool
    divided: bool = False


def _keyword(piece: Piece) -> str:
    return piece.parts[0].keyword if piece.parts else ""
