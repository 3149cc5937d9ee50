"""Waits for what libpq sends and receives, so that other threads run meanwhile and signals are handled.

PQgetResult and PQgetCopyData wait too, but psycopg calls them without letting other threads run. The connections of
psycopg do not block: of what is longer than the socket's buffer, libpq keeps a part until it is told to go on.
"""

from __future__ import annotations

import contextlib
import select
from typing import Any


def receive(pgconn: Any, limit_s: float | None = None) -> None:
    """Wait until more has arrived, and take it; or until more can be sent, if not all is, and send it.

    Raises TimeoutError after a limit in seconds, and psycopg.OperationalError if the connection is lost.
    """
    poll = select.poll()  # not select, which takes no descriptor above 1,023
    poll.register(pgconn.socket, select.POLLIN | (select.POLLOUT if pgconn.flush() else 0))
    if not poll.poll(None if limit_s is None else 1000 * limit_s):
        raise TimeoutError
    pgconn.consume_input()


def send_all(pgconn: Any) -> None:
    """Wait until libpq has sent everything. Raises psycopg.OperationalError if the connection is lost."""
    while pgconn.flush():
        receive(pgconn)


def next_result(pgconn: Any) -> Any:
    """The next result of a statement that was sent; None if there is no other."""
    with contextlib.suppress(Exception):  # psycopg's: the result says what happened
        while pgconn.is_busy():
            receive(pgconn)
    return pgconn.get_result()
