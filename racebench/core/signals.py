"""Ctrl-C, SIGTERM and SIGHUP: one Interrupted, never in the middle of cleaning up.

The first signal raises Interrupted in the main thread, or, inside `shielded()`, as soon as that ends.
Later ones are ignored, to the end of the process: cleaning up is bounded, and interrupting it would leave things.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from racebench.core.errors import Interrupted

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class _State:
    shields = 0
    pending = False
    raised = False


def _handle(_number: int, _frame: FrameType | None) -> None:
    if _State.raised:
        return
    if _State.shields:
        _State.pending = True
        return
    _State.raised = True
    raise Interrupted


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Hold an interruption back until the block is done."""
    _State.shields += 1
    try:
        yield
    finally:
        _State.shields -= 1
        if _State.pending and not _State.shields and not _State.raised:
            _State.pending, _State.raised = False, True
            raise Interrupted


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Turn the signals into Interrupted for the length of the block; the handlers before come back if none came."""
    if signal.getsignal(_SIGNALS[0]) is not _handle:
        _State.pending = _State.raised = False
    before = {number: signal.signal(number, _handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if _State.raised else handler)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Handle the signals while a database is at work, and do not print what psycopg logs.

    A connection interrupted in the middle of a statement, or whose server is gone, cannot be rolled back, and racebench
    says in its own words what became of it.
    """
    import logging  # a tenth of what `racebench --help` takes

    quiet = logging.NullHandler()
    logging.getLogger("psycopg").addHandler(quiet)
    try:
        with handled():
            yield
    finally:
        logging.getLogger("psycopg").removeHandler(quiet)
