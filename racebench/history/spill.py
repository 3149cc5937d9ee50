"""Scratch space for data that grows with a history: in memory while it is small, else in mapped files.

Space is reserved before it is mapped, so a full disk raises an error and never causes a SIGBUS. Mapped memory is
released after each piece of work (`release`), so that memory does not grow with the history; the pages stay in the
system's cache.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from racebench.core.errors import RacebenchError
from racebench.core.temporary import temporary_folder
from racebench.history.records import reserve

Array = npt.NDArray[Any]

#: The number of records that are processed at a time.
PIECE = 1 << 18

_SMALL = 8 << 20
_MOST_KEYS = 1 << 26
_BLOCK = 1 << 16  # the kernel maps a missing page with its neighbors, in blocks of this many bytes
_TOUCHED = 32 << 20


class Scratch:
    """A temporary folder, made at its first use; a context manager that deletes it at the end.

    `piece`: the number of records that are processed at a time. `small`: the number of bytes that may stay in memory.
    `keys`: the size up to which a table with a place for each number is always used, even if few places are filled.
    Tests make them tiny.
    """

    def __init__(self, *, piece: int = PIECE, small: int = _SMALL, keys: int = _MOST_KEYS) -> None:
        self.piece = piece
        self.small = small
        self._keys = keys
        self._stack = contextlib.ExitStack()
        self._folder: Path | None = None
        self._files = 0

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete the files; arrays that are still mapped stay readable."""
        self._folder = None
        self._stack.close()

    def dense(self, places: int, records: int) -> bool:
        """Whether a table with that many places is small enough: it is not larger than the records are."""
        return places <= max(self._keys, 32 * records if self._keys else 0)

    def zeros(self, count: int, dtype: Any) -> Array:
        """An array of zeros to write to."""
        dtype = np.dtype(dtype)
        size = count * dtype.itemsize
        if size <= self.small or not count:
            return np.zeros(count, dtype)
        path = self.path()
        with path.open("w+b") as file:
            try:
                reserve(file.fileno(), 0, size)
                mapped = mmap.mmap(file.fileno(), size)
            except OSError as problem:
                raise out_of_space(path.parent, problem) from None
        return np.frombuffer(mapped, dtype, count)

    def column(self, dtype: Any) -> Column:
        """A new column to append to."""
        return Column(self, np.dtype(dtype))

    def path(self) -> Path:
        """The path of a new file."""
        try:
            if self._folder is None:
                self._folder = self._stack.enter_context(temporary_folder("scratch"))
        except OSError as problem:
            raise out_of_space(Path(tempfile.gettempdir()), problem) from None
        self._files += 1
        return self._folder / str(self._files)


class Column:
    """Records of one dtype, appended; `array` is all of them, mapped if they are many."""

    def __init__(self, scratch: Scratch, dtype: np.dtype[Any]) -> None:
        self._scratch = scratch
        self._dtype = dtype
        self._parts: list[Array] = []
        self._bytes = 0
        self._file: BinaryIO | None = None
        self._path = Path()
        self.count = 0

    def append(self, records: Array) -> None:
        """Add records; raises RacebenchError if the disk is full."""
        if not len(records):
            return
        part = np.array(records, self._dtype)  # a copy, because `records` may be mapped
        self.count += len(part)
        self._bytes += part.nbytes
        if self._file is None:
            self._parts.append(part)
            if self._bytes > self._scratch.small:
                self._path = self._scratch.path()
                self._file = self._path.open("wb", buffering=0)
                for waiting in self._parts:
                    self._write(waiting)
                self._parts = []
        else:
            self._write(part)

    def array(self) -> Array:
        """All appended records; nothing may be appended afterwards."""
        if self._file is None:
            return np.concatenate(self._parts) if self._parts else np.empty(0, self._dtype)
        self._file.close()
        return mapped(self._path, self._dtype)

    def _write(self, part: Array) -> None:
        assert self._file is not None
        view = memoryview(part.view(np.uint8))  # type: ignore[arg-type]  # an array is a buffer
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as problem:
            self._file.close()
            raise out_of_space(self._path.parent, problem) from None


def mapped(path: Path, dtype: Any) -> Array:
    """A file's complete records, mapped for reading; an empty file has none."""
    dtype = np.dtype(dtype)
    with path.open("rb") as file:
        count = os.fstat(file.fileno()).st_size // dtype.itemsize
        if not count:
            return np.empty(0, dtype)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype, count)


def release(array: Array) -> None:
    """Release the memory of a mapped array; reading it again loads it again. A plain array is not changed."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def pieces(array: Array, size: int) -> Iterator[Array]:
    """An array in pieces of at most `size` records; the memory of each is released when the next is requested."""
    for at in range(0, len(array), size):
        yield array[at : at + size]
        release(array)


def gather(array: Array, where: Array) -> Array:
    """`array[where]`, with only a small part of a mapped array in memory at a time."""
    order = _scattered(array, where)
    if order is None:
        values: Array = array[where]
        release(array)
        return values
    values = np.empty(len(where), array.dtype)
    for part in order:
        values[part] = array[where[part]]
        release(array)
    return values


def scatter(array: Array, where: Array, values: Any) -> None:
    """`array[where] = values`, in the same way; if a place is given twice, the last value stays."""
    order = _scattered(array, where)
    if order is None:
        array[where] = values
        release(array)
        return
    values = np.broadcast_to(values, len(where))
    for part in order:
        array[where[part]] = values[part]
        release(array)


def _scattered(array: Array, where: Array) -> list[Array] | None:
    """The order, in parts, in which to visit places that are scattered over a mapped array; None if they are not."""
    size = array.itemsize * len(array)
    if size <= _TOUCHED or not len(where):
        return None
    blocks = where * array.itemsize // _BLOCK
    touched = np.bincount(blocks, minlength=0)
    if np.count_nonzero(touched) * _BLOCK <= _TOUCHED:
        return None
    order = np.argsort(where, kind="stable")
    most = _TOUCHED // _BLOCK
    new = np.flatnonzero(np.diff(blocks[order], prepend=-1))[::most]
    return [part for part in np.split(order, new) if len(part)]


def out_of_space(place: Path, problem: OSError) -> RacebenchError:
    """The error for a folder that has no space for temporary files."""
    return RacebenchError(
        f"cannot keep temporary files in {place}: {problem.strerror}; free some space, or set TMPDIR to another folder"
    )
