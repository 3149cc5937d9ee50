"""Ctrl-C, SIGTERM and SIGHUP: one Interrupted, and never in the middle of cleaning up.

The first signal raises Interrupted in the main thread or, inside `shielded()`, when that block ends. Later signals
are ignored until the process ends: cleaning up takes a limited time, and an interrupted cleanup leaves things behind.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from racebench.core.errors import Interrupted

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class _Handler:
    """The handler of the signals for the length of a `handled()` block, and what it has to remember of them.

    `raised`: Interrupted has been raised. `pending`: a signal came while a shield was up.
    """

    def __init__(self) -> None:
        self.raised = self.pending = False
        self._shields = 0

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if self.raised:
            return
        if self._shields:
            self.pending = True
            return
        self.raised = True
        raise Interrupted

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold an interruption back until the outermost of these blocks is done."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
            if self.pending and not self._shields and not self.raised:
                self.pending, self.raised = False, True
                raise Interrupted


def _installed() -> _Handler | None:
    """The handler that is installed now: it is the signals' own, so it is asked of them and kept nowhere else."""
    handlers = (signal.getsignal(number) for number in _SIGNALS)
    return next((handler for handler in handlers if isinstance(handler, _Handler)), None)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Hold an interruption back until the block is done; where no `handled()` block is open, there is none to hold."""
    handler = _installed()
    with contextlib.nullcontext() if handler is None else handler.shielded():
        yield


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Turn the signals into Interrupted for the length of the block; the earlier handlers return if none came."""
    handler = _installed() or _Handler()
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_IGN if handler.raised else earlier)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Handle the signals while a database is in use, and do not print what psycopg logs.

    A connection that was interrupted in the middle of a statement, or whose server has ended, cannot be rolled back;
    racebench reports in its own message what became of it.
    """
    import logging  # a tenth of the time of `racebench --help`

    quiet = logging.NullHandler()
    logging.getLogger("psycopg").addHandler(quiet)
    try:
        with handled():
            yield
    finally:
        logging.getLogger("psycopg").removeHandler(quiet)
