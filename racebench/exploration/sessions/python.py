"""The kind of a strategy that is Python callables: opens their sessions, and runs the calls alone first.

One session, with its steps, is callable_session.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, ClassVar

import psycopg

from racebench.core.driver_log import unprinted
from racebench.core.environ import exported
from racebench.core.errors import UsageProblem
from racebench.core.model import Call, Strategy
from racebench.core.target import Target
from racebench.exploration.faults import Fault
from racebench.exploration.sessions.alone import Alone, refuse_broken
from racebench.exploration.sessions.callable_session import PythonSession
from racebench.exploration.sessions.connections import Connections
from racebench.exploration.sessions.drivers import OtherDriver, Redirection
from racebench.exploration.sessions.failures import Failure
from racebench.exploration.sessions.interception import Interception
from racebench.exploration.sessions.session import Session, Surroundings
from racebench.exploration.symmetry import begin_is_seen
from racebench.postgres.connection import connect
from racebench.workloads.ad_hoc import own_application_name
from racebench.workloads.addresses import variables
from racebench.workloads.callables import advice


class PythonSessions:
    """The kind of a strategy that is one or several callables; the sessions take turns with them."""

    #: Only the application knows what it has to undo.
    may_be_abandoned: ClassVar[bool] = False
    strands: ClassVar[Sequence[Session]] = ()
    notes: ClassVar[Sequence[str]] = ()
    unseen: ClassVar[None] = None
    spoiled: ClassVar[bool] = False

    def __init__(self) -> None:
        self._sessions: list[PythonSession] = []
        self._redirection: Redirection | None = None

    def environment(self, target: Target, schema: str) -> AbstractContextManager[None]:
        return exported(variables(target, schema, own_application_name()))

    def open(self, surroundings: Surroundings, stack: ExitStack) -> Sequence[PythonSession]:
        # Closed when the interception has been removed: what a call does to clean up is sent at once.
        sessions = self._sessions
        stack.callback(_close_all, sessions)
        interception = Interception(surroundings.backends)

        def refuse(driver: str) -> None:
            if (thread := interception.session()) is not None:
                thread.driver = driver
                raise OtherDriver(f"racebench explores what is sent over {driver} in another way")

        self._redirection = Redirection(surroundings.target, refuse)
        stack.enter_context(interception.installed(self._redirection.patches(psycopg=False)))
        facts = surroundings.facts
        connections = Connections(
            surroundings.monitor,
            surroundings.schema,
            surroundings.target.label,
            facts.volatile,
            surroundings.known.names,
        )

        if (backends := surroundings.backends) is not None:

            def leave(problem: type[BaseException] | None, *_: object) -> None:
                """Keep the backends for the next exploration, if DISCARD ALL has removed all that calls have left."""
                if problem is not None or connections.may_change_names:
                    surroundings.known.forget_names()
                if problem is None and connections.leave_nothing:
                    backends.rest()
                else:
                    backends.close()

            stack.push(leave)

        def open_connection() -> psycopg.Connection[Any]:
            return connect(
                surroundings.target,
                schema=surroundings.schema,
                application_name=surroundings.application_name,
                autocommit=False,
                own_code=True,
            )

        functions = [call.function for call in surroundings.strategy.calls]
        for number, call in enumerate(_calls(surroundings.strategy, surroundings.sessions), 1):
            session = PythonSession(
                number,
                call,
                interception,
                connections,
                open_connection,
                cached=bool(facts.cached_sequences),
                compares_answers=surroundings.compares_answers,
            )
            session.cutter = surroundings.cutter
            session.runs = f"{call} {functions.index(call.function)}"  # closures may have one name
            session.begin_is_seen = facts.begin_is_seen
            sessions.append(session)
        return sessions

    def renew(self) -> None:
        """Nothing: the tables are all that a schedule begins with."""

    def run_alone(self, renew: Callable[[], object], violations: Callable[[], int]) -> None:
        """Run the calls one after the other, in every order: what fails or breaks then is no race.

        This also fills the application's pools and caches, so that every schedule begins alike.
        """
        sessions = self._sessions
        alone = Alone(sessions)
        seen: set[str] = set()
        for order in alone.orders:
            renew()
            for place, session in enumerate(order):
                failure_alone = self._run_alone(session, seen_before=session.runs in seen)
                if failure_alone and not place:
                    raise _fails(session)
                alone.failed(session, failure_alone)
                seen |= {session.runs} if session.sent_alone else set()
            refuse_broken(violations(), "the calls", "the calls")
        texts = set().union(*(session.texts for session in sessions))
        for session in sessions:
            session.note_what_ran()
        for session in sessions:
            if not any(other.was_watched for other in sessions if other.runs == session.runs):
                session.tell_apart()  # it may have asked
            session.failures_alone = alone.failures(session)
            session.begin_is_seen |= begin_is_seen(texts)

    def _run_alone(self, session: PythonSession, *, seen_before: bool) -> Failure:
        """See PythonSession.run_alone. Raises OtherDriver if the call may have used one that was not led then.

        It imports one, or fails before it has sent anything: a pool of its own has connections that were closed.
        """
        try:
            failure_alone = session.run_alone(seen_before=seen_before)
        except OtherDriver:
            raise
        except (UsageProblem, Fault) as problem:
            if self._may_use_others(session):
                raise OtherDriver(str(problem), otherwise=problem) from None
            raise
        if failure_alone and self._may_use_others(session):
            raise OtherDriver(f"{session.call} may use another driver", otherwise=_fails(session))
        return failure_alone

    def _may_use_others(self, session: PythonSession) -> bool:
        redirection = self._redirection
        return redirection is not None and (redirection.has_missed or (redirection.is_used and not session.sent_alone))

    def callables(self, strategy: Strategy, sessions: int) -> Mapping[str, str]:
        return {f"s{number}": str(call) for number, call in enumerate(_calls(strategy, sessions), 1)}

    def stuck(self, waiting: Sequence[str], holders: Sequence[str]) -> UsageProblem:  # noqa: ARG002 - none is known
        return UsageProblem(
            f"{' and '.join(waiting)} wait for each other over several connections, which the server does not "
            "see: use one connection in a call"
        )


def _calls(strategy: Strategy, sessions: int) -> list[Call]:
    """The call of each session, in the order of the sessions' numbers."""
    return [strategy.calls[number % len(strategy.calls)] for number in range(sessions)]


def _fails(session: PythonSession) -> UsageProblem:
    """The problem of a call that fails when it runs alone."""
    return UsageProblem(
        f"{session.call} fails when it runs alone, right after the setup: {session.answers[-1]}"
        + session.failed_at
        + advice(session.sqlstate, session.answers[-1])
    )


def _close_all(sessions: Sequence[PythonSession]) -> None:
    """Close all sessions, the first one first, also if one of them cannot be closed."""
    with unprinted(), ExitStack() as stack:
        for session in reversed(sessions):
            stack.callback(session.close)
