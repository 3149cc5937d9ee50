"""A thread that runs an application's calls and stops at every round trip, until the scheduler answers it.

What a round trip says is round_trips.py's; how the thread comes to stop there is interception.py's.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import psycopg

from racebench.core.errors import UsageProblem
from racebench.exploration.sessions import round_trips
from racebench.exploration.sessions.introspection import Introspection
from racebench.exploration.sessions.randomness import Generators, Randomness
from racebench.workloads import callables

#: The time limit for application code between two round trips, in seconds.
PYTHON_LIMIT_S = 10.0


class Abandoned(BaseException):
    """The schedule is abandoned: unwind. Not an Exception, so that no handler of failures swallows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    """A round trip that a session is about to make. `text`: "" if it only continues the one before.

    `work` is psycopg's generator, `cursor` what will have its result, `where` the application's line.
    """

    connection: psycopg.Connection[Any]
    work: Generator[Any, Any, Any]
    text: str
    cursor: Any
    where: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The call has ended; with an error, unless that is None."""

    error: BaseException | None


@dataclass(frozen=True, slots=True)
class _Answer:
    value: Any = None
    error: BaseException | None = None


class SessionThread:
    """A thread that runs calls, one after the other, and stops at every round trip.

    It is in `threads`, by its identity, for as long as it runs.
    """

    def __init__(self, number: int, threads: dict[int, SessionThread], generators: Generators) -> None:
        self.name = f"s{number}"
        self.randomness = Randomness(number, generators)
        #: Round trips pass without a stop.
        self.free = False
        #: The number of round trips that passed since the call began.
        self.passed = 0
        #: Watches the application's code while round trips pass.
        self.introspection = Introspection(self.randomness)
        #: The texts of the statements that passed, and the connections that they passed over.
        self.texts: set[str] = set()
        self.connections: weakref.WeakSet[psycopg.Connection[Any]] = weakref.WeakSet()
        self._threads = threads
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._outbox: SimpleQueue[RoundTrip | Finished] = SimpleQueue()
        self._abandoning = False
        self._draw = 0
        self._thread = threading.Thread(target=self._live, name=f"racebench {self.name}", daemon=True)
        self._thread.start()

    # Called by the thread that schedules

    def call(self, function: Callable[[], Any], draw: int = 0) -> None:
        """Begin a call, with the random numbers of a draw."""
        self._abandoning = False
        self._draw = draw
        self._inbox.put(function)

    def next(self) -> RoundTrip | Finished:
        """Return the call's next round trip, or its end. Raises UsageProblem if it comes to neither in time."""
        try:
            return self._outbox.get(timeout=PYTHON_LIMIT_S)
        except Empty:
            raise UsageProblem(
                f"{self.name} did not come to its next statement in {PYTHON_LIMIT_S:g} s: it is in Python at "
                f"{self.position()}; do two sessions share a connection or a lock?"
            ) from None

    def answer(self, value: Any = None, error: BaseException | None = None) -> None:
        """Let the call continue with the result of its round trip."""
        self._inbox.put(_Answer(value, error))

    def abandon(self) -> None:
        """Unwind a call that stopped at a round trip; the statements of its clean-up pass. Raises UsageProblem."""
        self._abandoning = True
        self.answer(error=Abandoned())
        try:
            while not isinstance(self._outbox.get(timeout=PYTHON_LIMIT_S), Finished):
                self.answer(error=Abandoned())
        except Empty:
            raise UsageProblem(
                f"{self.name} cannot be stopped at {self.position()}: it swallows every exception, BaseException too"
            ) from None

    def close(self) -> None:
        """End the thread, if it can be ended; the statements of a call's clean-up pass."""
        self._abandoning = True
        self._inbox.put(None)
        self._thread.join(PYTHON_LIMIT_S)

    def position(self) -> str:
        """The application's line that the thread is in, and the function."""
        return callables.position(sys._current_frames().get(self._thread.ident or 0))

    # Called by the thread itself

    def _live(self) -> None:
        self._threads[threading.get_ident()] = self
        try:
            while (function := self._inbox.get()) is not None:
                if isinstance(function, _Answer):
                    continue  # to a call that has ended
                try:
                    self.randomness.begin(self._draw)
                    if self.free:
                        sys.setprofile(self.introspection)
                    try:
                        function()
                    finally:
                        sys.setprofile(None)
                        self.randomness.end()
                except BaseException as problem:  # noqa: BLE001 - whatever the application raises is its outcome
                    self._outbox.put(Finished(problem))
                else:
                    self._outbox.put(Finished(None))
        finally:
            self._threads.pop(threading.get_ident(), None)

    def meet(self, connection: psycopg.Connection[Any], work: Generator[Any, Any, Any], wait: Callable[[], Any]) -> Any:
        """Stop at a round trip until it is this session's turn."""
        said = round_trips.said(connection, work)
        if said is None or self.free:
            self.passed += said is not None
            self.texts.update(said[:1] if said is not None else ())
            self.connections.add(connection)
            return wait()
        text, cursor = said
        if self._abandoning:
            if text.startswith(("ROLLBACK", "RELEASE", "CLOSE")):
                return wait()
            why = Abandoned()
            self._leave(work, why)
            raise why
        where = round_trips.line(sys._getframe(2))
        self.randomness.leave()
        self._outbox.put(RoundTrip(connection=connection, work=work, text=text, cursor=cursor, where=where))
        answer = self._inbox.get()
        self.randomness.resume()
        if answer is None:
            self._inbox.put(None)
            answer = _Answer(error=Abandoned())
        if isinstance(answer.error, Abandoned):
            self._leave(work, answer.error)
        if answer.error is not None:
            raise answer.error
        return answer.value

    def _leave(self, work: Any, why: BaseException) -> None:
        """Keep psycopg's own account right: a `with connection.transaction()` is entered, or left by rolling back."""
        frame = getattr(work, "gi_frame", None)
        owner = frame.f_locals.get("self") if frame is not None else None
        if not isinstance(owner, psycopg.Transaction):
            return
        self.free = True
        try:
            if work.gi_code.co_name == "_enter_gen":
                owner._conn.wait(work)
            else:
                owner._conn.wait(owner._exit_gen(type(why), why, None))
        finally:
            self.free = False
