"""Builds a History from operations, rows and polls, one at a time, for example from a file recorded by another program.

If the file has no rows, every acknowledged operation counts as the row that it reports.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.core.model import Numbering, Outcome
from racebench.core.plain_text import shown
from racebench.history import History, Labels, Log, Operations
from racebench.history.external_sort import in_order
from racebench.history.records import DELIVERY, NO_VERSION, OPERATION, OPERATION_BITS, POLL, encode_status
from racebench.history.rows import ROW, labels
from racebench.history.spill import Column, Scratch, pieces

Array = npt.NDArray[Any]
Version = int | str | None

#: The start of all times, so that no time is 0.
EPOCH = 1 << 41
#: The operation of a row that no operation of the history wrote.
UNKNOWN_WRITER = -1

_SURROGATE = re.compile("[\ud800-\udfff]")
_HELD = 1 << 14
_FOUND = np.dtype([("session", "<i8"), ("line", "<i8"), *OPERATION.descr])


class _Buffer:
    """Records gathered in a list before they go to a column."""

    def __init__(self, scratch: Scratch, dtype: np.dtype[Any]) -> None:
        self._held: list[tuple[Any, ...]] = []
        self._dtype = dtype
        self._column = scratch.column(dtype)

    def add(self, record: tuple[Any, ...]) -> None:
        self._held.append(record)
        if len(self._held) >= _HELD:
            self._flush()

    def __len__(self) -> int:
        return self._column.count + len(self._held)

    def array(self) -> Array:
        self._flush()
        return self._column.array()

    def _flush(self) -> None:
        if self._held:
            self._column.append(np.array(self._held, self._dtype))
            self._held = []


class _Consumer:
    def __init__(self, scratch: Scratch, *, ordered: bool, drained: bool) -> None:
        self.ordered = ordered
        self.drained = drained
        self.deliveries = _Buffer(scratch, DELIVERY)
        self.polls = _Buffer(scratch, POLL)
        self.after = _Buffer(scratch, np.dtype([("version", "<i8")]))
        self.known = False
        self.longest = 0


class HistoryBuilder:
    """Builds a History from a file's records, in the file's order. Versions are all integers, or all texts.

    The methods raise ValueError, whose message says what is wrong.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._operations = _Buffer(scratch, _FOUND)
        self._rows = _Buffer(scratch, ROW)
        self._consumers: dict[str, _Consumer] = {}
        self._starts: dict[int, int] = {}
        self._texts: dict[str, int] = {}
        self._integers = False
        self.rows_given = False

    def operation(
        self,
        line: int,
        *,
        process: int,
        tenant: int,
        start: int,
        end: int | None,
        outcome: Outcome,
        version: Version,
        tries: int = 1,
        sqlstate: str = "",
    ) -> None:
        """Add an operation; a process' operations are sorted by start. `end` is None if it never ended."""
        _within("process", process, 0, 2**31 - 1)
        _within("tenant", tenant, 0, 65_535)
        _within("tries", tries, 1, 65_535)
        _within("start_ns", start, -EPOCH + 1, 2**62)
        if start < self._starts.get(process, start):
            raise ValueError(f"process {process} begins at {start}, before its last operation did")
        self._starts[process] = start
        if end is None and outcome is not Outcome.UNKNOWN:
            raise ValueError("an operation whose outcome is known has an end")
        if end is not None and not start <= end <= 2**62:
            raise ValueError(f"an operation that began at {start} cannot end at {end}")
        ends = 0 if end is None else end + EPOCH
        status = encode_status(outcome, sqlstate)
        number = self._number(version)
        self._operations.add((process, line, start + EPOCH, ends, number, tenant, tries, status))

    def row(self, *, identity: int, tenant: int, version: Version, writer: tuple[int, int] | None) -> None:
        """Add a row of the table; `writer` is a process and the index of one of its operations."""
        self.rows_given = True
        if writer is not None:
            _within("process", writer[0], 0, 2**31 - 1)
            _within("index", writer[1], 0, 2**OPERATION_BITS - 1)
        operation = UNKNOWN_WRITER if writer is None else (writer[0] << OPERATION_BITS) + writer[1]
        self._rows.add((identity, tenant, self._number(version), operation))

    def consumer(self, name: str, *, ordered: bool, drained: bool) -> None:
        """Add a consumer, before its polls."""
        if name in self._consumers:
            raise ValueError(f"consumer '{name}' is given twice, or after its polls")
        self._consumers[name] = _Consumer(self._scratch, ordered=ordered, drained=drained)

    def poll(
        self,
        name: str,
        *,
        tenant: int,
        start: int,
        end: int,
        delivered: Sequence[int],
        cursor: Version | Callable[[], None],
    ) -> None:
        """Add a poll that returned rows; `cursor` is its version after the poll, `unknown` if the rows determine it."""
        consumer = self._consumers.get(name) or self._consumers.setdefault(
            name, _Consumer(self._scratch, ordered=True, drained=True)
        )
        _within("tenant", tenant, 0, 2**32 - 1)
        _within("start_ns", start, -EPOCH + 1, 2**62)
        _within("end_ns", end, start, 2**62)
        known = not callable(cursor)
        if len(consumer.polls) and known != consumer.known:
            raise ValueError(f"some polls of '{name}' have a cursor and some have none")
        consumer.known = known
        consumer.longest = max(consumer.longest, end - start)
        number, last = len(consumer.polls), 0
        for last in delivered:
            _within("a delivered id", last, -(2**63), 2**63 - 1)
            consumer.deliveries.add((end + EPOCH, last, number, tenant))
        consumer.polls.add((start + EPOCH, end + EPOCH, last, max(1, len(delivered)), tenant))
        consumer.after.add((self._number(None if callable(cursor) else cursor),))

    def history(self, *, numbering: Numbering) -> History:
        """The history of everything that was added."""
        ranks, texts = self._ranks()
        operations, acknowledged = self._sessions(ranks)
        rows: Array | None = self._rows.array() if self.rows_given else acknowledged
        if not self.rows_given and not self._integers and not self._texts:
            rows = None  # nothing here is numbered
        if self.rows_given and rows is not None and ranks is not None:
            rows = self._ranked(rows, ranks)
        return History(
            start=EPOCH,
            operations=operations,
            rows=rows,
            logs=tuple(self._log(name, consumer, ranks) for name, consumer in self._consumers.items()),
            numbering=numbering if texts is None else Numbering.NONE,
            labels=texts,
        )

    def __len__(self) -> int:
        return len(self._operations)

    def _number(self, version: Version) -> int:
        """The version; for a text, its provisional number."""
        if version is None:
            return NO_VERSION
        if isinstance(version, str):
            if not version.isascii() and _SURROGATE.search(version):
                raise ValueError(f"version {shown(version)} is no text: it has half of a surrogate pair")
            if self._integers:
                raise ValueError(
                    f"version {shown(version)} is a text, but others are integers; give all versions one type"
                )
            return self._texts.setdefault(version, len(self._texts))
        if self._texts:
            raise ValueError(f"version {version} is an integer, but others are texts; give all versions one type")
        _within("version", version, NO_VERSION + 1, 2**63 - 1)
        self._integers = True
        return version

    def _ranks(self) -> tuple[Array | None, Labels | None]:
        """For texts: the rank of each, from 1, by its provisional number; and their Labels."""
        if not self._texts:
            return None, None
        ordered = sorted(self._texts)
        ranks = np.empty(len(ordered), np.int64)
        for rank, text in enumerate(ordered, 1):
            ranks[self._texts[text]] = rank
        return ranks, labels(ordered)

    def _sessions(self, ranks: Array | None) -> tuple[Operations, Array]:
        """The operations by session, and one row for each acknowledged operation; the row's id is the line number."""
        recorded = self._operations.array()
        records, rows = self._scratch.column(OPERATION), self._scratch.column(ROW)
        firsts: dict[int, int] = {}
        for block in in_order(self._scratch, pieces(recorded, self._scratch.piece), ("session", "line")):
            version = _by_rank(block["version"], ranks)
            sessions, at = np.unique(block["session"], return_index=True)
            for session, first in zip(sessions.tolist(), at.tolist(), strict=True):
                firsts.setdefault(session, records.count + first)
            base = np.array([firsts[session] for session in sessions.tolist()])
            index = np.arange(records.count, records.count + len(block))
            index -= base[np.searchsorted(sessions, block["session"])]
            operations = np.empty(len(block), OPERATION)
            for name in OPERATION.names or ():
                operations[name] = block[name]
            operations["version"] = version
            records.append(operations)
            acknowledged = (block["status"] >> 26) == Outcome.OK
            mine = np.empty(int(acknowledged.sum()), ROW)
            mine["id"], mine["tenant"] = block["line"][acknowledged], block["tenant"][acknowledged]
            mine["version"] = version[acknowledged]
            mine["operation"] = ((block["session"] << OPERATION_BITS) + index)[acknowledged]
            rows.append(mine)
        whole = records.array()
        ends = [*list(firsts.values())[1:], len(whole)]
        sessions_ = {n: whole[first:end] for (n, first), end in zip(firsts.items(), ends, strict=True)}
        return Operations(sessions_), rows.array()

    def _ranked(self, rows: Array, ranks: Array) -> Array:
        column: Column = self._scratch.column(ROW)
        for part in pieces(rows, self._scratch.piece):
            part = np.array(part)  # noqa: PLW2901 - a copy to change
            part["version"] = _by_rank(part["version"], ranks)
            column.append(part)
        return column.array()

    def _log(self, name: str, consumer: _Consumer, ranks: Array | None) -> Log:
        after = np.ascontiguousarray(consumer.after.array()["version"])
        return Log(
            name=name,
            deliveries=consumer.deliveries.array(),
            polls=consumer.polls.array(),
            after=_by_rank(after, ranks) if consumer.known else None,
            ordered=consumer.ordered,
            drained=consumer.drained,
            longest_poll_ns=consumer.longest or None,
        )


def unknown() -> None:
    """The cursor of a poll that does not state it."""


def _by_rank(versions: Array, ranks: Array | None) -> Array:
    if ranks is None:
        return versions
    none = versions == NO_VERSION
    return np.where(none, NO_VERSION, ranks[np.where(none, 0, versions)])


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is a whole number from {low} to {high}, not {shown(value)}")
