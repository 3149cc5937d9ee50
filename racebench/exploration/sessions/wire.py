"""The kind of sessions that run a program, or send a request to a service, whose statements are held at the wire gate.

The application runs as it is, outside this process. Here its services are started, reset and ended, and its operations
run alone; what a session does in a schedule is wire_session.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import ClassVar

from racebench.core.errors import UsageProblem
from racebench.core.model import Call, HttpRequest, Instances, Program, Service, Strategy
from racebench.core.target import Target
from racebench.exploration.result import Unseen
from racebench.exploration.sessions.alone import Alone, refuse_broken
from racebench.exploration.sessions.connections import Connections
from racebench.exploration.sessions.session import Surroundings
from racebench.exploration.sessions.strand import Strand
from racebench.exploration.sessions.wire_session import WireSession
from racebench.exploration.symmetry import begin_is_seen
from racebench.exploration.wire.actors import Actor, ProgramActor, RequestActor
from racebench.exploration.wire.application import HOST, Application
from racebench.exploration.wire.policy import Policy
from racebench.exploration.wire.rest import ApplicationRest, available
from racebench.workloads import addresses
from racebench.workloads.callables import advice
from racebench.workloads.http import HttpClient, NoAnswer, Response, is_expected
from racebench.workloads.services import RunningService

#: The time limit for the application between two steps, and for a whole request, in seconds.
LIMIT_S, _REQUEST_S = 10.0, 600.0
_SHARED = (
    "all requests went to one instance of the service: what has no race within one process (behind a pool of one, or a "
    "lock of the process) may have one between two; --instances each explores that"
)


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
        alone = Alone(sessions)
        # Where all run the same, each is to be the first once, and the application to be warm once.
        for order in alone.orders if len(alone.orders) > 1 else [*alone.orders, sessions]:
            renew()
            self.renew()
            for place, session in enumerate(order):
                failure = session.run_alone()
                if failure and not place:
                    raise UsageProblem(
                        f"{session.work} fails when it runs alone, right after the setup: {session.answers[-1]}"
                        + advice(session.sqlstate, session.answers[-1])
                    )
                alone.failed(session, failure)
            refuse_broken(violations(), "the operations", "the application")
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
            session.failures_alone = alone.failures(session)
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
        every_row=True,  # a schedule may be run again to compare the answers
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
