"""Reads what a run has recorded (recording.py), as numpy's structured arrays."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.core.model import Outcome
from racebench.history import recording
from racebench.history.recording import NO_VERSION, OPERATION_BITS, SQLSTATE_BITS, RecordFile, encode_status, reserve

__all__ = [
    "DELIVERY",
    "NO_VERSION",
    "OPERATION",
    "OPERATION_BITS",
    "POLL",
    "QUIET",
    "RecordFile",
    "count_records",
    "decode_status",
    "encode_status",
    "outcomes",
    "read_records",
    "reserve",
]

#: What recording.py describes, for numpy.
OPERATION, DELIVERY, POLL, QUIET = (
    np.dtype(layout.descr) for layout in (recording.OPERATION, recording.DELIVERY, recording.POLL, recording.QUIET)
)

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def decode_status(status: int) -> tuple[Outcome, str]:
    """The inverse of encode_status; PENDING becomes UNKNOWN."""
    outcome = Outcome(status >> SQLSTATE_BITS)
    code = (status & ((1 << SQLSTATE_BITS) - 1)) - 1
    sqlstate = ""
    if code >= 0:
        for _ in range(5):
            code, digit = divmod(code, 36)
            sqlstate = _DIGITS[digit] + sqlstate
    return (Outcome.UNKNOWN if outcome is Outcome.PENDING else outcome), sqlstate


def outcomes(status: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """The outcome of each status; PENDING becomes UNKNOWN."""
    recorded = status >> SQLSTATE_BITS
    return np.where(recorded == Outcome.PENDING, np.uint32(Outcome.UNKNOWN), recorded)


def read_records(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The records of a file as a structured array; a record that begins with 0 was never written.

    The process may have been killed. A file that does not exist has no records.
    """
    if not path.exists() or path.stat().st_size == 0:
        return np.empty(0, dtype)
    with path.open("rb") as file:  # not np.memmap, which takes 0.1 ms to make, and its slices more
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    records = np.frombuffer(whole, dtype, len(whole) // dtype.itemsize)
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


def distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The distinct values of an array, ascending.

    np.unique of the values alone imports numpy.ma, which nothing else of a run needs and which takes 11 ms; with their
    counts it does not.
    """
    return np.unique(values, return_counts=True)[0]
