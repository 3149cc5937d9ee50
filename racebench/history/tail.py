"""Follows the operations of one session while its worker records them: what has ended since the last look, once each.

A look opens the file and reads only what was not read yet. No file stays open, and memory does not grow with the run:
there may be a thousand sessions. What the records say is the worker's: a row is judged by the table.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from racebench.core.model import Outcome
from racebench.history.records import OPERATION, encode_status

#: An operation that has ended has at least this status. Its outcome is the last byte of a record that is written.
_ENDED = np.uint32(encode_status(Outcome.OK, ""))
_SIZE = OPERATION.itemsize
#: How many records are looked at first; twice as many each time that all of them have ended.
_WINDOW = 64


class Tail:
    """One session's file, from its beginning on. The file may appear later."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def read(self) -> bytes:
        """The OPERATION records that have ended since the last call; none if the file cannot be opened."""
        try:
            file = os.open(self._path, os.O_RDONLY)
        except OSError:
            return b""
        try:
            count = self._ended(file)
            # Read again: in what was read first, a record that was being written may have its end and not its middle.
            records = os.pread(file, count * _SIZE, self._at * _SIZE) if count else b""
        finally:
            os.close(file)
        self._at += count
        return records

    def _ended(self, file: int) -> int:
        """How many of the records that were not read have ended: a session's end in order."""
        count, size = 0, _WINDOW
        while True:
            window = os.pread(file, size * _SIZE, (self._at + count) * _SIZE)
            statuses = np.frombuffer(window, OPERATION, len(window) // _SIZE)["status"]
            pending = np.flatnonzero(statuses < _ENDED)
            if len(pending) or len(statuses) < size:
                return count + (int(pending[0]) if len(pending) else len(statuses))
            count += size
            size *= 2
