"""Writes and reads columns of integers in a zip of .npy files, piece by piece; numpy.load reads them too.

A column has the narrowest type that holds its values. Source: numpy's documentation, "numpy.lib.format".
"""

from __future__ import annotations

import contextlib
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from racebench.core.errors import UsageProblem

Array = npt.NDArray[Any]

#: What zipfile, zlib and numpy raise for a file that is no zip of arrays: RuntimeError if it is encrypted, the rest for
#: a header that is no literal of Python, or is nested too deeply.
_DAMAGED = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, TypeError,
    LookupError, OverflowError, SyntaxError, RuntimeError,
)  # fmt: skip
_LEVEL = 1  # the fastest level: three times faster than zip's default, and a tenth larger
_TOO_LARGE = 1 << 20  # the longest text that is read; racebench writes none that is longer
_SIGNED = tuple(np.dtype(code) for code in ("<i1", "<i2", "<i4", "<i8"))
_UNSIGNED = tuple(np.dtype(code) for code in ("|u1", "<u2", "<u4", "<u8"))


class Span:
    """The least and the greatest value of a column, without the value `nothing`, which means that there is none."""

    def __init__(self, nothing: int | None = None) -> None:
        self.nothing = nothing
        self.low: int | None = None
        self.high: int | None = None

    def widen(self, values: Array) -> None:
        if self.nothing is not None:
            values = values[values != self.nothing]
        if len(values):
            low, high = int(values.min()), int(values.max())
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)

    def dtype(self) -> np.dtype[Any]:
        """The narrowest type; with `nothing`, one whose least number is not used, so that it can mean that."""
        low, high = self.low or 0, self.high or 0
        if self.nothing is None and low >= 0:
            return next(dtype for dtype in _UNSIGNED if high <= np.iinfo(dtype).max)
        free = 0 if self.nothing is None else 1
        return next(
            (dtype for dtype in _SIGNED if np.iinfo(dtype).min + free <= low and high <= np.iinfo(dtype).max),
            _SIGNED[-1],
        )


class Writer:
    """Writes columns into a zip file; a context manager that completes the file, or gives it up after an exception."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)

    def column(self, name: str, count: int, span: Span, pieces: Iterable[Array]) -> None:
        """Write a column of `count` values from an iterator of pieces."""
        dtype = span.dtype()
        with self._zip.open(f"{name}.npy", "w", force_zip64=True) as member:
            npy.write_array_header_1_0(
                member, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
            )
            for piece in pieces:
                values = piece
                if span.nothing is not None:
                    values = np.where(piece == span.nothing, np.iinfo(dtype).min, piece)
                member.write(values.astype(dtype).tobytes())

    def text(self, name: str, text: str) -> None:
        """Write one text."""
        with self._zip.open(f"{name}.npy", "w") as member:
            npy.write_array(member, np.array(text), allow_pickle=False)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # A zip file that is left open is closed by the interpreter, which prints that it cannot (a full disk).
        with contextlib.suppress(OSError, ValueError) if kind is not None else contextlib.nullcontext():
            self._zip.close()


class Reader:
    """Reads columns from a zip file; raises UsageProblem, in one line, if something in the file is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._guarded("the file"):
            self._zip = zipfile.ZipFile(path)
            self._names = set(self._zip.namelist())

    def close(self) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self._names

    def text(self, name: str) -> str:
        """Read one text."""
        with self._guarded(name), self._open(name) as member:
            shape, dtype = _header(member)
            if shape != () or dtype.kind != "U" or dtype.itemsize > 4 * _TOO_LARGE:
                raise self.damaged(f"'{name}' is not a text")
            raw = member.read(dtype.itemsize)
            if member.read(1) or len(raw) != dtype.itemsize:
                raise self.damaged(f"'{name}' is cut short")
            return str(np.frombuffer(raw, dtype)[0])

    def pieces(self, names: tuple[str, ...], size: int) -> Iterator[tuple[Array, ...]]:
        """Read columns of equal length side by side, in the types they have.

        They are read to the end, where their checksums are compared.
        """
        with contextlib.ExitStack() as stack:
            columns = []
            for name in names:
                with self._guarded(name):
                    member = stack.enter_context(self._open(name))
                    shape, dtype = _header(member)
                if len(shape) != 1 or dtype.kind not in "iu":
                    raise self.damaged(f"'{name}' is not a column of integers: {dtype} {shape}")
                columns.append((name, member, shape[0], dtype))
            counts = {count for _, _, count, _ in columns}
            if len(counts) > 1:
                lengths = ", ".join(f"'{name}' {count}" for name, _, count, _ in columns)
                raise self.damaged(f"columns differ in length: {lengths}")
            count = counts.pop()
            for at in range(0, count, size):
                here = min(size, count - at)
                yield tuple(self._values(name, member, here, dtype) for name, member, _, dtype in columns)
            for name, member, _, _ in columns:
                with self._guarded(name):
                    if member.read(1):
                        raise self.damaged(f"'{name}' is longer than its header says")

    def count(self, name: str) -> int:
        """The number of values of a column, from its header."""
        with self._guarded(name), self._open(name) as member:
            shape, _ = _header(member)
            return int(np.prod(shape))

    def damaged(self, what: str) -> UsageProblem:
        """The error for a damaged file."""
        return UsageProblem(f"{self.path} is damaged: {what}; copy it again, or check another file")

    def _values(self, name: str, member: IO[bytes], count: int, dtype: np.dtype[Any]) -> Array:
        with self._guarded(name):
            raw = member.read(count * dtype.itemsize)
        if len(raw) != count * dtype.itemsize:
            raise self.damaged(f"'{name}' is cut short")
        values = np.frombuffer(raw, dtype)
        if dtype.kind == "u" and dtype.itemsize == 8 and len(values) and int(values.max()) > np.iinfo(np.int64).max:
            raise self.damaged(f"'{name}' has a number of more than 63 bits")
        return values

    def _open(self, name: str) -> IO[bytes]:
        if name not in self:
            raise self.damaged(f"it has no '{name}'")
        return self._zip.open(f"{name}.npy")

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except _DAMAGED as why:
            raise self.damaged(f"{what} cannot be read ({why})") from None
        except OSError as problem:
            raise UsageProblem(f"{self.path} cannot be read: {problem.strerror or problem}") from None


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(member)
    read: Callable[..., Any] = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(member)
    if dtype.hasobject or (fortran and len(shape) > 1):
        raise ValueError("objects are not read")
    return tuple(shape), dtype
