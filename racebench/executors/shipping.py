"""Records on their way from the machine where they are written to the driver's files, in pieces.

On the machine a `Stream` reads what is complete from the file that a process writes. At the driver the pieces are
appended to the file that the run reads, and their times are converted to the server's clock at the end.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

from racebench.core.model import Outcome
from racebench.executors import RecordedFile
from racebench.history.conversion import Conversion
from racebench.history.recording import DELIVERY, NO_VERSION, OPERATION, POLL, QUIET, Layout, packed
from racebench.history.records import count_records, encode_status

#: The most that is read at a time.
PIECE_BYTES = 1 << 18
_ENDED = np.uint32(encode_status(Outcome.OK, ""))
_TIMES = (
    (OPERATION, ("start", "end")),
    (DELIVERY, ("at",)),
    (POLL, ("start", "end")),
    (QUIET, ("start", "last", "end")),
)
_BLOCK = 1 << 16


class Stream:
    """What is complete in a file that another process writes, from its beginning on, once each."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._path, self.layout = path, layout
        self._dtype = np.dtype(layout.descr)
        self._at = 0

    def read(self, *, final: bool = False) -> bytes:
        """The next records, at most PIECE_BYTES; none if there are no more so far.

        `final`: nothing is written any more, and an operation that has not ended never does.
        """
        try:
            file = os.open(self._path, os.O_RDONLY)
        except OSError:
            return b""
        size = self._dtype.itemsize
        try:
            seen = os.pread(file, PIECE_BYTES // size * size, self._at * size)
            records = np.frombuffer(seen, self._dtype, len(seen) // size)
            count = count_records(records)
            if not final and self.layout == OPERATION:
                pending = np.flatnonzero(records["status"][:count] < _ENDED)
                count = int(pending[0]) if len(pending) else count
            elif not final:
                count = max(0, count - 1)  # the last one may be incomplete
            # Read again: in what was read first, a record that was being written may have its end and not its middle.
            piece = os.pread(file, count * size, self._at * size) if count else b""
        finally:
            os.close(file)
        self._at += count
        return piece


def append(path: Path, piece: bytes) -> None:
    """Append a piece to a file of the driver; raises OSError."""
    with path.open("ab") as file:
        file.write(piece)


def append_unknown(path: Path, count: int, since_ns: int) -> None:
    """Append operations of which is known only that they began: at `since_ns`, or since the last one of the file."""
    dtype = np.dtype(OPERATION.descr)
    size = dtype.itemsize
    if path.exists() and path.stat().st_size >= size:
        with path.open("rb") as file:
            file.seek(-size, os.SEEK_END)
            last = np.frombuffer(file.read(size), dtype)[0]
        since_ns = int(last["start"])
    append(path, packed(OPERATION, since_ns, 0, NO_VERSION, 1, 1, 0) * count)


def convert(file: RecordedFile, conversion: Conversion) -> tuple[int, int] | None:
    """Convert the times of a file in place; its first and last time before that, None if it has no records."""
    dtype = np.dtype(file.layout.descr)
    if not file.path.exists() or file.path.stat().st_size < dtype.itemsize:
        return None
    fields = next(fields for layout, fields in _TIMES if layout == file.layout)
    first, last = 2**63 - 1, 0
    with file.path.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        records = np.frombuffer(mapped, dtype, len(mapped) // dtype.itemsize)
        for at in range(0, len(records), _BLOCK):
            block = records[at : at + _BLOCK]
            for field in fields:
                times = block[field].copy()
                there = times != 0
                if there.any():
                    first, last = min(first, int(times[there].min())), max(last, int(times[there].max()))
                block[field] = np.where(there, conversion.to_server(times), 0)
            del block, times, there
        del records
    return first, last
