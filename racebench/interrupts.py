"""Ctrl-C, SIGTERM and SIGHUP: one Interrupted, never in the middle of cleaning up.

The first signal raises Interrupted in the main thread, or, inside `shielded()`, as soon as that ends.
Later ones are ignored: cleaning up is bounded, and interrupting it would leave things behind.
"""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterator
from types import FrameType

from racebench.errors import Interrupted

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
def interruptible() -> Iterator[None]:
    """Turn the signals into Interrupted for the length of a command; the handlers before come back.

    Meanwhile what psycopg logs is not printed: a connection interrupted in the middle of a statement, or whose server
    is gone, cannot be rolled back, and racebench says in its own words what became of it.
    """
    before = {number: signal.signal(number, _handle) for number in _SIGNALS}
    _State.pending = _State.raised = False
    quiet = logging.NullHandler()
    logging.getLogger("psycopg").addHandler(quiet)
    try:
        yield
    finally:
        logging.getLogger("psycopg").removeHandler(quiet)
        for number, handler in before.items():
            signal.signal(number, handler)
