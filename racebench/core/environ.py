"""Changes of this process's environment variables, each for the length of a block.

libpq and applications read them; they are one for all threads. `hidden` may be used by several threads at once.
`exported` may not: its blocks are entered by the thread that runs a command, while no other thread changes the same
variables.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping

# The environment is one for the whole process, and so is this lock. Without it, of two threads that connect at once
# the first to be done restores what the other still hides, or the second takes what is hidden for what was there.
_HIDING = threading.RLock()


@contextlib.contextmanager
def exported(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and restore what they were."""
    with _changed(values):
        yield


@contextlib.contextmanager
def hidden(prefix: str) -> Iterator[None]:
    """Remove the environment variables whose names begin with a prefix, and restore them.

    One thread at a time is in such a block; the others wait.
    """
    with _HIDING, _changed({name: None for name in os.environ if name.startswith(prefix)}):
        yield


@contextlib.contextmanager
def _changed(values: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    try:
        _set(values)
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
