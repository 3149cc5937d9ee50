"""Changes of this process's environment variables, each for the length of a block.

libpq and applications read them; they are one for all threads. So a block is entered only by the thread that opens
racebench's connections, while no application code runs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def exported(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and restore what they were."""
    with _changed(values):
        yield


@contextlib.contextmanager
def hidden(prefix: str) -> Iterator[None]:
    """Remove the environment variables whose names begin with a prefix, and restore them."""
    with _changed({name: None for name in os.environ if name.startswith(prefix)}):
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
