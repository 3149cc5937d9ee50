"""What psycopg logs of connections that cannot be rolled back. racebench says in its own words what became of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def unprinted() -> Iterator[None]:
    """Do not print what psycopg logs, where no handler is set up for it."""
    import logging  # a tenth of the time of `racebench --help`

    quiet = logging.NullHandler()
    logging.getLogger("psycopg").addHandler(quiet)
    try:
        yield
    finally:
        logging.getLogger("psycopg").removeHandler(quiet)
