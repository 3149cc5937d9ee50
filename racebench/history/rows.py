"""The rows of the numbered table after the run, and the texts of versions that are not integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.history.records import NO_VERSION
from racebench.history.spill import PIECE, pieces

Array = npt.NDArray[Any]

#: A row of the numbered table; `version` is NO_VERSION for NULL.
ROW = np.dtype([("id", "<i8"), ("tenant", "<i8"), ("version", "<i8"), ("operation", "<i8")])

_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Row:
    """One row; `version` is NO_VERSION for NULL."""

    id: int
    tenant: int
    version: int
    operation: int


def numbered(rows: Array) -> int:
    """The number of ROW records that have a version."""
    return sum(int(np.count_nonzero(part["version"] != NO_VERSION)) for part in pieces(rows, PIECE))


def described(records: Array) -> list[Row]:
    """ROW records as Row values."""
    return [
        Row(id=id_, tenant=tenant, version=version, operation=operation)
        for id_, tenant, version, operation in records.tolist()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The texts of versions that are not integers, in the server's order; a row's version is then a rank, from 1.

    `text` is UTF-8 (uint8) as COPY's text format writes it, one version a line; `ends` has the newlines' positions.
    """

    text: Array
    ends: Array

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, at: int) -> str:
        if not 0 <= at < len(self.ends):
            raise IndexError(at)
        first = int(self.ends[at - 1]) + 1 if at else 0
        return _unescaped(self.text[first : int(self.ends[at])].tobytes().decode("utf-8", "replace"))


def labels(texts: list[str]) -> Labels:
    """The Labels of a few texts."""
    lines = [text.replace("\\", "\\\\").replace("\n", "\\n") for text in texts]
    whole = np.frombuffer("".join(f"{line}\n" for line in lines).encode(), np.uint8)
    return Labels(text=whole, ends=np.flatnonzero(whole == ord("\n")))


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    parts, at = [], 0
    while at < len(text):
        if text[at] == "\\" and at + 1 < len(text):
            at += 1
            parts.append(_ESCAPES.get(text[at], text[at]))
        else:
            parts.append(text[at])
        at += 1
    return "".join(parts)
