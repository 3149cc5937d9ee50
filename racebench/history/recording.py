"""Records operations and deliveries during a run: fixed-size records in one memory-mapped file per process.

A mapped page survives `kill -9` of the process, needs no system call a record, and no memory that grows.
Space is reserved in chunks before it is mapped, so a full disk raises DiskFull and never causes a SIGBUS.
An operation is written twice: when it begins (PENDING) and when it ends. One that stays PENDING is UNKNOWN.

Processes that only write need no numpy, which takes longer to import than they take to start; records.py reads.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from pathlib import Path
from typing import NamedTuple, Protocol

from racebench.core.errors import DiskFull
from racebench.core.model import Outcome

#: Operation ids are session << OPERATION_BITS | index, so a row names the operation that wrote it.
OPERATION_BITS = 32
#: NULL in a version column of 64-bit integers.
NO_VERSION = -(2**63)

#: The number of records that get space at a time. Their size is a multiple of every page size in use.
CHUNK_RECORDS = 1 << 16
_FORMATS = {"<i8": "q", "<u4": "I", "<u2": "H"}
SQLSTATE_BITS = 26


class Described(Protocol):
    """The fields of a record as numpy describes them, and its size in bytes: a Layout, or numpy's dtype of one."""

    @property
    def descr(self) -> list[tuple[str, str]]: ...

    @property
    def itemsize(self) -> int: ...


class Layout(NamedTuple):
    """The fields of a record, each with its type as numpy writes it."""

    descr: list[tuple[str, str]]

    @property
    def itemsize(self) -> int:
        return sum(int(kind[-1]) for _, kind in self.descr)


#: Operations of a worker, in its order. Times are perf_counter_ns; `status` is outcome << 26 | SQLSTATE in base 36.
OPERATION = Layout(
    [("start", "<i8"), ("end", "<i8"), ("version", "<i8"), ("tenant", "<u2"), ("tries", "<u2"), ("status", "<u4")]
)
#: Rows delivered to a consumer, in delivery order; `poll` indexes the polls.
DELIVERY = Layout([("at", "<i8"), ("id", "<i8"), ("poll", "<u4"), ("tenant", "<u4")])
#: Polls that returned rows: the times, the number of rows, and the id of the last row, which sets the cursor.
POLL = Layout([("start", "<i8"), ("end", "<i8"), ("last", "<i8"), ("rows", "<u4"), ("tenant", "<u4")])
#: Polls of a tenant, one after the other, that brought no new row: the first one's start, the last one's start and end,
#: and how many there were.
QUIET = Layout([("start", "<i8"), ("last", "<i8"), ("end", "<i8"), ("polls", "<u4"), ("tenant", "<u4")])


def encode_status(outcome: Outcome, sqlstate: str) -> int:
    """Pack an outcome and a five-character SQLSTATE ("" for none) into 28 bits."""
    return outcome << SQLSTATE_BITS | (int(sqlstate, 36) + 1 if sqlstate else 0)


def packed(layout: Described, *values: int) -> bytes:
    """A record as it is in a file."""
    return _struct(layout).pack(*values)


def _struct(layout: Described) -> struct.Struct:
    return struct.Struct("<" + "".join(_FORMATS[str(field[1])] for field in layout.descr))


class RecordFile:
    """An append-only file of records of one layout, written through a memory map of `chunk` records at a time.

    Raises DiskFull if the disk is full; the earlier records stay readable.
    """

    def __init__(self, path: Path, layout: Described, chunk: int = CHUNK_RECORDS) -> None:
        self.path = path
        self._struct = _struct(layout)
        self._size = layout.itemsize
        self._chunk = chunk * self._size
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._base = -self._chunk
        self._at = self._chunk
        self._map: mmap.mmap | None = None
        self.count = 0

    def reserve(self) -> None:
        """Reserve space for the first records before the first one is written."""
        if self._map is None:
            self._extend()
            assert self._map is not None
            self._map[0] = 0  # the first write to a page costs a transaction of the file system

    def write(self, *values: int) -> None:
        """Append a record."""
        self.begin(*values)
        self.count += 1
        self._at += self._size

    def begin(self, *values: int) -> None:
        """Write a record at the end without counting it; `finish` overwrites it."""
        if self._at >= self._chunk:
            self._extend()
        self._struct.pack_into(self._map, self._at, *values)  # type: ignore[arg-type]  # mapped by _extend

    finish = write

    def room(self) -> tuple[mmap.mmap | None, int, int]:
        """Where the next record goes: the map, the offset in it in bytes, and for how many records it has room."""
        return self._map, self._at, (self._chunk - self._at) // self._size

    def skip(self, count: int) -> None:
        """Count so many records that something else has written where `room` said."""
        self.count += count
        self._at += count * self._size

    def close(self) -> None:
        """Unmap the file; all records stay in it, also one that was begun and never finished."""
        if self._map is not None:
            self._map.close()
            self._map = None
        os.close(self._file)

    def _extend(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None
        self._base += self._chunk
        try:
            reserve(self._file, self._base, self._chunk)
            self._map = mmap.mmap(self._file, self._chunk, offset=self._base)
        except OSError as problem:
            raise DiskFull(f"cannot record to {self.path}: {problem.strerror}; free some space") from None
        self._at = 0


def reserve(file: int, offset: int, size: int) -> None:
    """Reserve disk space, so that writing to the map cannot fail later."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, offset, size)
        except OSError as problem:
            if problem.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
        else:
            return
    written = 0
    zeros = bytes(size)
    while written < size:
        written += os.pwrite(file, zeros[written:], offset + written)
