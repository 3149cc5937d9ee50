"""Records operations and deliveries during a run: fixed-size records in one memory-mapped file per process.

A mapped page survives `kill -9` of the process, needs no system call a record, and no memory that grows.
Space is reserved in chunks before it is mapped, so a full disk raises DiskFull and never causes a SIGBUS.
An operation is written twice: when it begins (PENDING) and when it ends. One that stays PENDING is UNKNOWN.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.core.errors import DiskFull
from racebench.core.model import Outcome

#: Operation ids are session << OPERATION_BITS | index, so a row names the operation that wrote it.
OPERATION_BITS = 32
#: NULL in a version column of 64-bit integers.
NO_VERSION = -(2**63)

#: Operations of a worker, in its order. Times are perf_counter_ns; `status` is outcome << 26 | SQLSTATE in base 36.
OPERATION = np.dtype(
    [("start", "<i8"), ("end", "<i8"), ("version", "<i8"), ("tenant", "<u2"), ("tries", "<u2"), ("status", "<u4")]
)
#: Rows delivered to a consumer, in delivery order; `poll` indexes the polls.
DELIVERY = np.dtype([("at", "<i8"), ("id", "<i8"), ("poll", "<u4"), ("tenant", "<u4")])
#: Polls that returned rows: the times, the number of rows, and the id of the last row, which sets the cursor.
POLL = np.dtype([("start", "<i8"), ("end", "<i8"), ("last", "<i8"), ("rows", "<u4"), ("tenant", "<u4")])

#: The number of records that get space at a time. Their size is a multiple of every page size in use.
CHUNK_RECORDS = 1 << 16
_FORMATS = {"<i8": "q", "<u4": "I", "<u2": "H"}
_SQLSTATE_BITS = 26
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def encode_status(outcome: Outcome, sqlstate: str) -> int:
    """Pack an outcome and a five-character SQLSTATE ("" for none) into 28 bits."""
    return outcome << _SQLSTATE_BITS | (int(sqlstate, 36) + 1 if sqlstate else 0)


def decode_status(status: int) -> tuple[Outcome, str]:
    """The inverse of encode_status; PENDING becomes UNKNOWN."""
    outcome = Outcome(status >> _SQLSTATE_BITS)
    code = (status & ((1 << _SQLSTATE_BITS) - 1)) - 1
    sqlstate = ""
    if code >= 0:
        for _ in range(5):
            code, digit = divmod(code, 36)
            sqlstate = _DIGITS[digit] + sqlstate
    return (Outcome.UNKNOWN if outcome is Outcome.PENDING else outcome), sqlstate


def outcomes(status: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """The outcome of each status; PENDING becomes UNKNOWN."""
    recorded = status >> _SQLSTATE_BITS
    return np.where(recorded == Outcome.PENDING, np.uint32(Outcome.UNKNOWN), recorded)


class RecordFile:
    """An append-only file of records of one dtype, written through a memory map of `chunk` records at a time.

    Raises DiskFull if the disk is full; the earlier records stay readable.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], chunk: int = CHUNK_RECORDS) -> None:
        self.path = path
        self._struct = struct.Struct("<" + "".join(_FORMATS[str(field[1])] for field in dtype.descr))
        self._size = dtype.itemsize
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


def read_records(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The records of a file as a structured array; a record that begins with 0 was never written.

    The process may have been killed. A file that does not exist has no records.
    """
    if not path.exists() or path.stat().st_size == 0:
        return np.empty(0, dtype)
    records = np.asarray(np.memmap(path, dtype, mode="r"))  # a plain view: a memmap's own slices are slow to make
    return records[: count_records(records)]


def count_records(records: npt.NDArray[Any]) -> int:
    """Count the leading records whose first field is not 0, by bisection: they are written in order."""
    first = records[records.dtype.names[0]]  # type: ignore[index]  # every dtype here has names
    low, high = 0, len(records)
    while low < high:
        middle = (low + high) // 2
        if first[middle] != 0:
            low = middle + 1
        else:
            high = middle
    return low
