"""Sessions that run a program, or send a request to a service: what they send to the server is held at a gate.

The application runs outside this process, or in threads of it, and is not changed. A step begins when a piece of what
it sends (wire/stream.py) is let go, and ends when the application is at rest again (wire/gate.py).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence, Set
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import permutations
from typing import Any, ClassVar

from racebench.core.errors import UsageProblem
from racebench.core.faults import CONNECTION_LOST, EXPIRED, stops_a_schedule
from racebench.core.model import Instances, Outcome, Statement, Strategy
from racebench.core.plain_text import message_of
from racebench.core.quantity import quantity
from racebench.core.target import Target
from racebench.exploration.draws import Draws
from racebench.exploration.faults import Fault
from racebench.exploration.independence import Footprint
from racebench.exploration.leftovers import Leftover
from racebench.exploration.sessions.connections import Connections
from racebench.exploration.sessions.division import MAY_BE_WRAPPED
from racebench.exploration.sessions.failures import Failure, expected, reported
from racebench.exploration.sessions.residue import Residue
from racebench.exploration.sessions.session import State, Surroundings
from racebench.exploration.sessions.touches import Touches
from racebench.exploration.steps import describe, without_values
from racebench.exploration.symmetry import begin_is_seen
from racebench.exploration.told import Answers
from racebench.exploration.wire import actors, answers
from racebench.exploration.wire.actors import Actor, Ending, ProgramActor, RequestActor
from racebench.exploration.wire.connection import WireConnection
from racebench.exploration.wire.gate import Gate, Restless
from racebench.exploration.wire.policy import Policy
from racebench.exploration.wire.rest import Processes
from racebench.exploration.wire.stream import Kind, Piece, statement
from racebench.postgres.proxy.proxy import Proxy
from racebench.workloads import addresses
from racebench.workloads.services import RunningService

#: The time limit for the application between two steps, and for a whole request, in seconds.
_LIMIT_S = 10.0
_REQUEST_S = 600.0
_HOST = "127.0.0.1"
_DEADLOCK = "40P01"
#: The most sessions whose operations are run alone in every order.
_MOST_PERMUTED = 3
_UNDOING = frozenset({"ROLLBACK", "ABORT"})
_CLEANING = frozenset({"ROLLBACK", "RELEASE", "COMMIT", "ABORT", "END", ""})


class WireSessions:
    """The kind of a strategy that is a program, or a request to a service; the sessions take turns with several."""

    #: Only the application knows what it has to undo.
    may_be_abandoned: ClassVar[bool] = False

    def __init__(self) -> None:
        self._sessions: list[WireSession] = []
        self._application: _Application | None = None

    @staticmethod
    def runs(strategy: Strategy) -> bool:
        return bool(strategy.programs or strategy.requests)

    def environment(self, target: Target, schema: str) -> AbstractContextManager[None]:  # noqa: ARG002 - a gate's ports
        return nullcontext()

    def open(self, surroundings: Surroundings, stack: ExitStack) -> Sequence[WireSession]:
        application = _Application(surroundings, stack)
        self._application, self._sessions = application, application.sessions
        return application.sessions

    def run_alone(self, renew: Callable[[], object], violations: Callable[[], int]) -> None:
        """Run the operations one after the other, in every order: what fails or breaks then is no race.

        This also fills the application's pools and caches, so that every schedule begins alike.
        """
        assert self._application is not None  # it was opened
        self._application.run_alone(renew, violations)

    def callables(self, strategy: Strategy, sessions: int) -> Mapping[str, str]:
        runs = [str(one) for one in (*strategy.programs, *strategy.requests)]
        return {f"s{number}": runs[(number - 1) % len(runs)] for number in range(1, sessions + 1)}

    def stuck(self, waiting: Sequence[str], holders: Sequence[str]) -> UsageProblem:  # noqa: ARG002 - see below
        assert self._application is not None  # it was opened
        return self._application.stuck(waiting)


class _Application:
    """The application of one exploration: its processes, the gate before its connections, and its sessions."""

    def __init__(self, surroundings: Surroundings, stack: ExitStack) -> None:
        strategy = surroundings.strategy
        facts = surroundings.facts
        self.sessions: list[WireSession] = []
        self.connections = Connections(
            surroundings.monitor, surroundings.schema, surroundings.target.label, facts.volatile
        )
        self.policy = Policy(surroundings.monitor, self.connections)
        self.policy.begin_is_seen = facts.begin_is_seen
        self._step_limit_s = _LIMIT_S
        #: The session whose answer was delivered last, while the application is not at rest.
        self.runner: WireSession | None = None
        self._by_port: dict[int, WireSession] = {}
        self._services: dict[int, RunningService] = {}
        self._free: WireSession | None = None
        #: The texts of what is sent while no operation is under way.
        self.background: dict[str, None] = {}
        rest = Processes(self._pids)
        stack.callback(rest.close)
        proxy = Proxy(
            surroundings.target,
            {"search_path": surroundings.schema, "application_name": surroundings.application_name},
        )
        self.gate = Gate(
            proxy,
            rest,
            self._arrives,
            gone=self._gone,
            every_row=surroundings.compares_answers,
        )
        stack.callback(self.gate.close)
        stack.callback(self._close)
        service = strategy.service
        runs = strategy.programs or strategy.requests
        for number in range(1, surroundings.sessions + 1):
            port = proxy.listen()
            environment = addresses.through(_HOST, port, surroundings.target)
            what = runs[(number - 1) % len(runs)]
            actor: Actor
            if service is None:
                actor = ProgramActor(strategy.programs[(number - 1) % len(runs)], environment)
            else:
                if number == 1 or service.instances is Instances.EACH:
                    self._services[number] = RunningService.start(service, environment, meanwhile=self.gate.pump)
                actor = RequestActor(
                    strategy.requests[(number - 1) % len(runs)], service, self._service_of(number), _REQUEST_S
                )
                self.gate.watch(actor.arrived)
            session = WireSession(number, str(what), actor, self, surroundings)
            self._by_port[port] = session
            self.sessions.append(session)

    def _service_of(self, number: int) -> Callable[[], RunningService]:
        return lambda: self._services.get(number) or self._services[1]

    def _pids(self) -> Collection[int]:
        return {pid for session in self.sessions for pid in session.actor.pids}

    def _close(self) -> None:
        with ExitStack() as stack:
            for service in self._services.values():
                stack.callback(service.stop)
            for session in self.sessions:
                stack.callback(session.actor.close)

    # Pieces

    def _arrives(self, connection: WireConnection, piece: Piece) -> bool:
        """Note a piece that the application sends; whether it is held."""
        session = self._by_port.get(connection.link.port)
        if session is None:
            return False
        if self._free is not None:
            if self._free is session:
                session.passes(connection, piece)
            return False
        if not session.under_way or (piece.text in self.background and piece.text not in session.texts):
            self.background[piece.text] = None
            return False
        return session.arrives(connection, piece)

    def _gone(self, connection: WireConnection) -> None:
        session = self._by_port.get(connection.link.port)
        if session is not None:
            session.gone(connection)

    # Rest

    def settle(self, runner: WireSession | None) -> None:
        """Carry until the application is at rest, and note where every session is then."""
        self.runner = runner
        try:
            while True:
                self.gate.settle(self._is_undecided, self._is_full, limit_s=self._step_limit_s)
                if any(session.state is State.READY or session.sent is not None for session in self._after_settling()):
                    return
                if not any(session.under_way for session in self.sessions):
                    return
                # All wait inside the application: one may go on by itself after a longer time.
                if self._deadline_passed():
                    return
        except Restless as problem:
            raise UsageProblem(f"{problem}; {self.gate.rest_description()}") from None
        finally:
            self.runner = None

    def _is_undecided(self) -> bool:
        return any(session.is_undecided for session in self.sessions)

    def _is_full(self) -> bool:
        return False
