"""Ctrl-C, SIGTERM and SIGHUP: one exception, and never in the middle of cleaning up.

The first signal raises Interrupted (or another exception) in the main thread or, inside `shielded()`, when that block
ends. Later signals are ignored until the process ends: cleaning up takes a limited time, and an interrupted cleanup
leaves things behind. A signal that is ignored from the start (nohup, a background job of a shell) stays ignored.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator
from types import FrameType
from typing import Any

from racebench.core.driver_log import unprinted
from racebench.core.errors import Interrupted

SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
#: How soon after an exception that could not be raised its signal is sent again, in seconds.
_AGAIN_S = 0.01


class _Handler:
    """The handler of the signals for the length of a `handled()` block, and what it has to remember of them.

    `raised`: the exception has been raised. `pending`: a signal came while a shield was up. `patience_s`: how long
    after the first signal later ones are ignored.
    """

    def __init__(self, error: type[BaseException], patience_s: float) -> None:
        self.raised = self.pending = False
        self._error, self._patience_s = error, patience_s
        self._number, self._raised_s = 0, 0.0
        self._shields = 0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.raised and time.monotonic() - self._raised_s < self._patience_s:
            return
        self._number = number
        if self._shields:
            self.pending = True
            return
        self._raise()

    def _raise(self) -> None:
        self.pending, self.raised, self._raised_s = False, True, time.monotonic()
        raise self._error(signal.Signals(self._number).name)

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold an interruption back until the outermost of these blocks is done."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
            if self.pending and not self._shields:
                self._raise()

    @contextlib.contextmanager
    def not_lost(self) -> Iterator[None]:
        """Send the signal again if Python discards the exception: it came in a finalizer or in a callback of one."""
        before = sys.unraisablehook

        def hook(unraisable: Any) -> None:
            if not (self.raised and isinstance(unraisable.exc_value, self._error)):
                before(unraisable)
                return
            self.raised = False
            threading.Timer(_AGAIN_S, signal.raise_signal, (self._number,)).start()

        sys.unraisablehook = hook
        try:
            yield
        finally:
            sys.unraisablehook = before


def _installed() -> _Handler | None:
    """The handler that is installed now: it is the signals' own, so it is asked of them and kept nowhere else."""
    handlers = (signal.getsignal(number) for number in SIGNALS)
    return next((handler for handler in handlers if isinstance(handler, _Handler)), None)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Hold an interruption back until the block is done; where no `handled()` block is open, there is none to hold.

    Nor is there in another thread than the main one, in which the exception is raised.
    """
    handler = _installed() if threading.current_thread() is threading.main_thread() else None
    with contextlib.nullcontext() if handler is None else handler.shielded():
        yield


@contextlib.contextmanager
def handled(
    error: type[BaseException] = Interrupted,
    *,
    signals: Collection[signal.Signals] = SIGNALS,
    patience_s: float = float("inf"),
) -> Iterator[None]:
    """Turn the signals into an exception for the length of the block; the earlier handlers return if none came.

    `patience_s`: how long later signals are ignored; if it is limited, the earlier handlers return in any case.
    """
    handler = _installed() or _Handler(error, patience_s)
    handlers = {number: signal.getsignal(number) for number in signals}
    before = {number: earlier for number, earlier in handlers.items() if earlier not in (signal.SIG_IGN, None)}
    with handler.not_lost():
        try:
            for number in before:
                signal.signal(number, handler)
            yield
        finally:
            ignored = handler.raised and patience_s == float("inf")
            for number, earlier in before.items():
                signal.signal(number, signal.SIG_IGN if ignored else earlier)


def ignore() -> None:
    """Ignore the signals from now on: the process is about to end, with the exit code of what it has done."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # Python's end would put the default in place of any other handler


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Handle the signals while a database is in use, and do not print what psycopg logs.

    A connection that was interrupted in the middle of a statement, or whose server has ended, cannot be rolled back;
    racebench reports in its own message what became of it.
    """
    with unprinted(), handled():
        yield
