"""Waits for what libpq receives, so that other threads run meanwhile and signals are handled.

PQgetResult and PQgetCopyData wait too, but psycopg calls them without letting other threads run.
"""

from __future__ import annotations

import contextlib
import select
from typing import Any


def receive(pgconn: Any, limit_s: float | None = None) -> None:
    """Wait until more has arrived, and take it.

    Raises TimeoutError after a limit in seconds, and psycopg.OperationalError if the connection is lost.
    """
    poll = select.poll()  # not select, which takes no descriptor above 1,023
    poll.register(pgconn.socket, select.POLLIN)
    if not poll.poll(None if limit_s is None else 1000 * limit_s):
        raise TimeoutError
    pgconn.consume_input()


def next_result(pgconn: Any) -> Any:
    """The next result of a statement that was sent; None if there is no other."""
    with contextlib.suppress(Exception):  # psycopg's: the result says what happened
        while pgconn.is_busy():
            receive(pgconn)
    return pgconn.get_result()
