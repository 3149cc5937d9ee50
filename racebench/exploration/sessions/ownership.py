"""Which call a thread or an asynchronous task works for.

A call's context (contextvars) has the call in it. `asyncio.run`, `asyncio.to_thread`, `anyio.to_thread` and anyio's
portals, which Starlette's test client uses, copy the context to the threads and tasks that they start. An executor does
not: while calls are explored, `ThreadPoolExecutor.submit` does. A `threading.Thread` begins without a context, so that
its statements belong to no call. What a session does with a statement is threads.py's.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar


class Owner(Protocol):
    """A session whose call other threads may work for."""

    free: bool
    scheduling: int

    @property
    def introspection(self) -> Callable[[FrameType, str, Any], object]:
        """What watches its code while it is `free`, that is, while its round trips pass without a stop."""

    @property
    def call_in_progress(self) -> CallInProgress[Any] | None:
        """The call that it runs, or has run."""

    def is_of(self, ownership: Ownership[Any]) -> bool:
        """Whether the session is one of this exploration."""


_Session = TypeVar("_Session", bound=Owner)


@dataclass(slots=True, eq=False)
class CallInProgress(Generic[_Session]):
    """A call that a session runs. `submitted`: the work that it gave to executors. `ended`: it has returned."""

    session: _Session
    submitted: list[futures.Future[Any]] = field(default_factory=list)
    ended: bool = False


_CALL: contextvars.ContextVar[CallInProgress[Any] | None] = contextvars.ContextVar("racebench_call", default=None)


class Ownership(Generic[_Session]):
    """The sessions' threads of one exploration, and what works for them."""

    def __init__(self) -> None:
        self._threads: dict[int, _Session] = {}
        self._over = False
        #: The threads that are stopped at a statement, by their identity.
        self.stopped: set[int] = set()

    def add(self, session: _Session) -> None:
        """Note that a session has this thread."""
        self._threads[threading.get_ident()] = session

    def remove(self) -> None:
        """Forget this thread."""
        self._threads.pop(threading.get_ident(), None)

    def end(self) -> None:
        """Have nothing watch the threads any more that go on after the exploration."""
        self._over = True

    @contextmanager
    def called(self, call: CallInProgress[_Session]) -> Iterator[None]:
        """What this thread does, and what it starts, belongs to a call."""
        token = _CALL.set(call)
        try:
            yield
        finally:
            call.ended = True
            _CALL.reset(token)

    def call(self) -> CallInProgress[_Session] | None:
        """The call that this thread or task works for, also if it has ended; None if there is none."""
        call = _CALL.get()
        if call is not None and call.session.is_of(self):
            return call
        own = self._threads.get(threading.get_ident())
        return None if own is None else own.call_in_progress

    def session(self) -> _Session | None:
        """The session that this thread or task works for; None if there is none, or its call has ended."""
        call = self.call()
        return None if call is None or call.ended else call.session

    def helpers(self) -> list[threading.Thread]:
        """The threads that may work for the call that this thread works for, but for this one.

        The threads of other sessions do not, nor does the one that schedules.
        """
        call = self.call()
        own = None if call is None else call.session
        others = {ident for ident, session in self._threads.items() if session is not own}
        others |= self.stopped | {threading.get_ident(), *(() if own is None else (own.scheduling,))}
        return [thread for thread in threading.enumerate() if thread.ident not in others]

    def submit(self, submit: Callable[..., Any]) -> Callable[..., Any]:
        """Stands in place of `ThreadPoolExecutor.submit`: the work is done in the context of the call."""

        def submitted(pool: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            call = self.call()
            if call is None:
                return submit(pool, function, *args, **kwargs)
            future = submit(pool, contextvars.copy_context().run, _watched, call.session, function, *args, **kwargs)
            call.submitted.append(future)
            return future

        return submitted

    def watch(self, frame: FrameType, event: str, argument: Any) -> None:
        """A profile function (sys.setprofile) of a thread that may work for several sessions' calls, one at a time."""
        call = _CALL.get()
        session = None if call is None or not call.session.is_of(self) else call.session
        if session is not None and session.free:
            session.introspection(frame, event, argument)
        elif (session is not None or self._over) and sys.getprofile() == self.watch:
            sys.setprofile(None)


def _watched(session: Owner, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run submitted work, which is watched as the call itself is while it runs alone."""
    if not session.free:
        return function(*args, **kwargs)
    sys.setprofile(session.introspection)
    try:
        return function(*args, **kwargs)
    finally:
        sys.setprofile(None)
