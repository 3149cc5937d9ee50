"""A thread that runs an application's calls and stops at every round trip, until the scheduler answers it.

Threads and asynchronous tasks that work for a call (ownership.py) stop in its place, one at a time. If two of them send
statements at once, only chance decides which comes first, and no search of schedules would be complete: that is a
problem of the call, and so is a statement that comes when the call has ended. What a round trip says is
round_trips.py's; how a thread comes to stop there is interception.py's.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Generator, Sized
from concurrent import futures
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

import psycopg
from psycopg import waiting

from racebench.core.errors import UsageProblem
from racebench.exploration.sessions import round_trips
from racebench.exploration.sessions.introspection import Introspection
from racebench.exploration.sessions.ownership import CallInProgress, Ownership
from racebench.exploration.sessions.randomness import Generators, Randomness
from racebench.exploration.sessions.rest import Rest
from racebench.exploration.sessions.round_trips import AnyConnection
from racebench.workloads import callables

#: The time limit for application code between two round trips, in seconds.
PYTHON_LIMIT_S = 10.0
#: How long work that a call has not waited for is awaited when the call runs alone, in seconds.
_HELPER_LIMIT_S = 1.0
#: How often an event loop is looked at before a task of it counts as the only one that goes on.
_TURNS = 2_000
#: How long a task sleeps while another one connects, in seconds.
_CONNECTING_S = 0.0005
#: In place of the application's line where there is none.
_ELSEWHERE = "a library"


class Abandoned(BaseException):
    """The schedule is abandoned: unwind. Not an Exception, so that no handler of failures swallows it."""


class _Withdrawn(psycopg.OperationalError):
    """As Abandoned, in a thread that a framework made: it would not survive another kind of exception."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    """A round trip that a session is about to make. `text`: "" if it only continues the one before.

    `work` is psycopg's generator, `cursor` what will have its result, `where` the application's line.
    """

    connection: AnyConnection
    work: Generator[Any, Any, Any]
    text: str
    cursor: Any
    where: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The call has ended; with an error, unless that is None, or else with the value that it returned."""

    error: BaseException | None
    value: Any = None


@dataclass(frozen=True, slots=True)
class _Answer:
    value: Any = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Stop:
    """A thread or a task that is stopped: at which line, and what gives it its answer."""

    where: str
    give: Callable[[_Answer], object]


class SessionThread:
    """A thread that runs calls, one after the other, and stops at every round trip.

    `ownership` knows it for as long as it runs. `notify`: called when a call has ended. Made by the thread that
    schedules.
    """

    def __init__(
        self,
        number: int,
        ownership: Ownership[SessionThread],
        generators: Generators,
        rest: Rest,
        notify: Callable[[], object] = bool,
    ) -> None:
        self.name = f"s{number}"
        self.scheduling = threading.get_ident()
        self.randomness = Randomness(number, generators)
        #: Round trips pass without a stop.
        self.free = False
        #: The number of round trips that passed since the call began.
        self.passed = 0
        #: Watches the application's code while round trips pass; `watched`: it saw all that did.
        self.introspection = Introspection(self.randomness)
        self.watched = True
        #: The texts of the statements that passed, and the connections that they passed over.
        self.texts: set[str] = set()
        self.connections: weakref.WeakSet[AnyConnection] = weakref.WeakSet()
        self.call_in_progress: CallInProgress[SessionThread] | None = None
        #: What the call did that no call may do.
        self.problem: UsageProblem | None = None
        #: The event loops in which the call has connected.
        self.loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        #: The driver over which the call was about to connect, if it was another than psycopg 3.
        self.driver = ""
        #: The number of connections that the call is making.
        self.connecting = 0
        self._ownership, self._rest, self._notify = ownership, rest, notify
        self._helped = False
        self._inbox: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._outbox: SimpleQueue[RoundTrip | Finished] = SimpleQueue()
        self._stop: _Stop | None = None
        self._stopping = threading.Lock()
        self._abandoning = False
        self._draw = 0
        self._thread = threading.Thread(target=self._live, name=f"racebench {self.name}", daemon=True)
        self._thread.start()

    def is_of(self, ownership: Ownership[Any]) -> bool:
        """Whether the session is one of this exploration."""
        return self._ownership is ownership

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

    def finished(self) -> Finished | None:
        """How the call has ended, told once; None if it has not. Of a session whose round trips are not stopped at."""
        try:
            met = self._outbox.get_nowait()
        except Empty:
            return None
        assert isinstance(met, Finished)  # it stops nowhere
        return met

    def answer(self, value: Any = None, error: BaseException | None = None) -> None:
        """Let the call continue with the result of its round trip; nothing if it is not stopped at one."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop.give(_Answer(value, error))

    def close(self) -> None:
        """End the thread, if it can be ended; the statements of a call's clean-up pass."""
        self._abandoning = True
        self.answer(error=Abandoned())
        self._inbox.put(None)
        self._thread.join(PYTHON_LIMIT_S)

    def position(self) -> str:
        """The application's line that the thread is in, and the function."""
        return callables.position(self._frame)

    def line(self) -> str:
        """The application's line at which its call waits, as `file:line`; "" if it is not known."""
        return round_trips.line_of_a_task(self.loops) or round_trips.line(self._frame)

    @property
    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._thread.ident or 0)

    # Called by the thread itself

    def _live(self) -> None:
        self._ownership.add(self)
        try:
            while (function := self._inbox.get()) is not None:
                call = self.call_in_progress = CallInProgress(self)
                try:
                    value = self._run(function, call)
                except BaseException as problem:  # noqa: BLE001 - whatever the application raises is its outcome
                    self._outbox.put(Finished(problem))
                else:
                    self._outbox.put(Finished(None, value))
                self._notify()
        finally:
            self._ownership.remove()

    def _run(self, function: Callable[[], Any], call: CallInProgress[SessionThread]) -> Any:
        self.randomness.begin(self._draw)
        before = threading.getprofile()
        if self.free:
            self.watched = True
            threading.setprofile(self._ownership.watch)
            sys.setprofile(self.introspection)
        try:
            with self._ownership.called(call):
                return function()
        finally:
            if self.free:
                sys.setprofile(None)
                threading.setprofile(before)
            self.randomness.end()
            with self._stopping:
                if self._stop is not None:
                    self.outlived(self._stop.where)
            if self.free:
                futures.wait([work for work in call.submitted if not work.done()], timeout=_HELPER_LIMIT_S)

    # Called by the thread or the task that comes to a round trip, and belongs to the call

    def outlived(self, where: str) -> UsageProblem:
        """Note that a statement belongs to a call that has ended."""
        return self._noted(
            f"{where or _ELSEWHERE} sends statements in a thread or a task that its call does not wait for, so that "
            "they are no part of the call; have the call wait for it"
        )

    def _noted(self, problem: str) -> UsageProblem:
        """Note a problem of the call, and return the first one."""
        if self.problem is None:
            self.problem = UsageProblem(problem)
        return self.problem

    def meet(self, connection: AnyConnection, work: Generator[Any, Any, Any], wait: Callable[[], Any]) -> Any:
        """Stop at a round trip until it is this session's turn; only until the call's threads rest, if trips pass."""
        said = self._stops_at(connection, work)
        if said is None:
            return wait()
        where = round_trips.line(sys._getframe(2))
        replies: SimpleQueue[_Answer] = SimpleQueue()
        stopped, this = self._ownership.stopped, threading.get_ident()
        self._stop_here(_Stop(where, replies.put), work)
        stopped.add(this)
        try:
            if self._helped or (self.call_in_progress is not None and self.call_in_progress.submitted):
                self._rest.awaited(self._ownership.helpers)
                self._refuse_rivals(where)
            self._stay(connection, work, said, where)
            if self.free:
                try:
                    return wait()
                finally:
                    self._stop = None
            answer = replies.get()
        finally:
            stopped.discard(this)
        return self._go_on(work, answer)

    async def meet_async(
        self, connection: AnyConnection, work: Generator[Any, Any, Any], wait: Callable[[], Awaitable[Any]]
    ) -> Any:
        """As `meet`; the event loop runs on, so that another task that sends something is noticed."""
        said = self._stops_at(connection, work)
        if said is None:
            return await wait()
        where = round_trips.line(sys._getframe(2))
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[_Answer] = loop.create_future()
        self._stop_here(_Stop(where, lambda answer: loop.call_soon_threadsafe(answered.set_result, answer)), work)
        try:
            await self._alone(loop)
        except asyncio.CancelledError:
            self._cancelled(where)
            self._stop = None
            raise
        self._stay(connection, work, said, where)
        if self.free:
            try:
                return await wait()
            finally:
                self._stop = None
        cancelled: asyncio.CancelledError | None = None
        while not answered.done():
            try:
                await asyncio.shield(answered)
            except asyncio.CancelledError as problem:  # the statement is sent all the same
                self._cancelled(where)
                cancelled = problem
        value = self._go_on(work, answered.result())
        if cancelled is not None:
            raise cancelled
        return value

    def _cancelled(self, where: str) -> None:
        self._noted(
            f"{where or _ELSEWHERE}: the statement was cancelled while it waited for its turn (by a time limit, or "
            "because another task of the call ended); give the call no time limit, and have it await its tasks"
        )

    def _stops_at(self, connection: AnyConnection, work: Generator[Any, Any, Any]) -> tuple[str, Any] | None:
        """What a round trip says; None if it is not stopped at. Raises what unwinds the call."""
        said = round_trips.said(connection, work)
        elsewhere = threading.get_ident() != self._thread.ident
        self._helped |= elsewhere
        if self.free:
            self.connections.add(connection)
            if elsewhere and not self._is_watched():
                self.watched = False
                sys.setprofile(self._ownership.watch)
        if said is None:
            return None
        if self.free:
            self.passed += 1
            self.texts.add(said[0])
        if not self._abandoning and self.problem is None:
            return said
        if said[0].startswith(round_trips.CLEANING):
            return None
        raise self._leave(work, self.problem or Abandoned())

    def _is_watched(self) -> bool:
        return sys.getprofile() in (self._ownership.watch, self.introspection)

    def _stop_here(self, stop: _Stop, work: Any) -> None:
        """Stop, unless another thread or task of the call has stopped."""
        with self._stopping:
            call = self.call_in_progress
            if self._stop is not None:
                problem = self._rivalry(self._stop.where, stop.where)
            elif call is None or call.ended:
                problem = self.outlived(stop.where)
            else:
                self._stop = stop
                return
        raise self._leave(work, problem)

    def _rivalry(self, where: str, also: str) -> UsageProblem:
        lines = " and ".join(dict.fromkeys((where or _ELSEWHERE, also or _ELSEWHERE)))
        return self._noted(
            f"two threads or tasks of one call send statements at once ({lines}): only chance decides which comes "
            "first; have the call send them one after the other"
        )

    def _refuse_rivals(self, where: str) -> None:
        """Note it if another thread of the call waits for a connection that this one uses."""
        frames = sys._current_frames()
        for thread in self._ownership.helpers():
            line = round_trips.line_that_waits(frames.get(thread.ident or 0))
            if line is not None:
                self._rivalry(where, line)

    async def _alone(self, loop: Any) -> None:
        """Return when nothing else of the call goes on: no other task of the loop is ready, and no thread runs."""
        quiet = 0
        ready: Sized = getattr(loop, "_ready", ())  # asyncio's own has it
        for _ in range(_TURNS):
            await asyncio.sleep(_CONNECTING_S if self.connecting else 0)
            if self.connecting or ready:
                quiet = 0
                continue
            self._rest.awaited(self._ownership.helpers)
            quiet += not ready
            if quiet > 1:
                return

    def _stay(self, connection: AnyConnection, work: Any, said: tuple[str, Any], where: str) -> None:
        """Hand the round trip to the thread that schedules, unless trips pass. Raises what unwinds the call."""
        text, cursor = said
        trip = RoundTrip(connection=connection, work=work, text=text, cursor=cursor, where=where)
        with self._stopping:
            if (problem := self.problem) is None:
                if not self.free:
                    self.randomness.leave()
                    self._outbox.put(trip)
                return
            self._stop = None
        raise self._leave(work, problem)

    def _go_on(self, work: Any, answer: _Answer) -> Any:
        self.randomness.resume()
        if isinstance(answer.error, Abandoned):
            raise self._leave(work, answer.error)
        if answer.error is not None:
            raise answer.error
        return answer.value

    def _leave(self, work: Any, why: BaseException) -> BaseException:
        """Keep psycopg's own account right: a `with connection.transaction()` is entered, or left by rolling back.

        Returns what to raise.
        """
        frame = getattr(work, "gi_frame", None)
        owner = frame.f_locals.get("self") if frame is not None else None
        if isinstance(owner, psycopg.Transaction | psycopg.AsyncTransaction):
            entered = work.gi_code.co_name == "_enter_gen"
            waiting.wait(work if entered else owner._exit_gen(type(why), why, None), owner._conn.pgconn.socket, 0.1)
        if isinstance(why, Abandoned) and threading.get_ident() != self._thread.ident:
            return _Withdrawn("the schedule is abandoned")
        return why
