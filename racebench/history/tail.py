"""Follows the operations of one session while its worker records them: what has ended since the last look, once each.

A look costs one read of memory where nothing has ended. Only the part of the file that was not read yet is mapped, so
memory does not grow with the run. What the records say is the worker's: a row is judged by the table.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.core.model import Outcome
from racebench.history.records import OPERATION, encode_status

Array = npt.NDArray[Any]

#: An operation that has ended has at least this status. Its outcome is the last byte of a record that is written.
_ENDED = np.uint32(encode_status(Outcome.OK, ""))
_NONE = np.empty(0, OPERATION)["status"]
#: How many records are looked at first; twice as many each time that all of them have ended.
_WINDOW = 64


class Tail:
    """One session's file, from its beginning on. The file may appear later. Use as a context manager, or close it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._map: mmap.mmap | None = None
        self._statuses = _NONE
        self._at = 0
        #: The number of records in front of the mapped part.
        self._before = 0

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self) -> bytes:
        """The OPERATION records that have ended since the last call, up to the end of the mapped part."""
        if self._at >= len(self._statuses) and not self._extend():
            return b""
        assert self._map is not None  # there are records in it
        begin = self._at
        self._at += _ended(self._statuses[begin:])
        return self._map[begin * OPERATION.itemsize : self._at * OPERATION.itemsize]

    def close(self) -> None:
        """Unmap and close the file."""
        self._unmap()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _extend(self) -> bool:
        """Map what is behind the records that were read; whether there is any."""
        if self._file < 0:
            try:
                self._file = os.open(self._path, os.O_RDONLY)
            except FileNotFoundError:
                return False
        done = self._before + self._at
        size = os.fstat(self._file).st_size
        if size // OPERATION.itemsize <= done:
            return False
        self._unmap()
        offset = done * OPERATION.itemsize // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        self._map = mmap.mmap(self._file, size - offset, access=mmap.ACCESS_READ, offset=offset)
        self._statuses = np.frombuffer(self._map, OPERATION, (size - offset) // OPERATION.itemsize)["status"]
        self._before = offset // OPERATION.itemsize
        self._at = done - self._before
        return True

    def _unmap(self) -> None:
        self._before, self._at = self._before + self._at, 0
        self._statuses = _NONE
        if self._map is not None:
            self._map.close()
            self._map = None


def _ended(statuses: Array) -> int:
    """How many of the first operations have ended: a session's end in order. No page far behind them is touched."""
    count, size = 0, _WINDOW
    while count < len(statuses):
        window = statuses[count : count + size]
        pending = window < _ENDED
        first = int(pending.argmax())
        if pending[first]:
            return count + first
        count += len(window)
        size *= 2
    return count
