"""The history file: a zip of .npy columns, documented in docs/history.md; numpy.load reads it without racebench.

It is written piece by piece to a temporary file, which then replaces the old one. It is read into scratch space. A file
that is damaged or of another version raises UsageProblem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.core import documentation, json_schema, json_text
from racebench.core.anomalies import ANOMALIES
from racebench.core.atomic_write import replacing
from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.model import Numbering, Outcome
from racebench.core.plain_text import shown
from racebench.history import History, Labels, Log, Operations, Violation, clocks
from racebench.history.clocks import MachineClock
from racebench.history.npz import Reader, Span, Writer
from racebench.history.operations import never_ended
from racebench.history.recorded import About, Recorded
from racebench.history.records import DELIVERY, NO_VERSION, OPERATION, POLL, decode_status, distinct, encode_status
from racebench.history.rows import ROW
from racebench.history.spill import Scratch, pieces, release

Array = npt.NDArray[Any]
Pieces = Callable[[], Iterator[Array]]

FORMAT = "racebench history"
VERSION = 1
#: Of a history with the clocks of several machines, which a program for version 1 would take for one clock.
VERSION_WITH_CLOCKS = 2
SUFFIX = ".history.npz"

_META = Path(__file__).with_name("meta.schema.json")

_PIECE = 1 << 18
_NEVER = -1  # the duration of an operation that never ended
_OPERATIONS = ("start", "duration", "version", "tenant", "tries", "outcome", "sqlstate")


def write(path: Path, recorded: Recorded) -> None:
    """Write a whole history, or nothing; raises RacebenchError if it cannot be written."""
    try:
        with replacing(path) as file, Writer(file) as writer:
            _write(writer, recorded)
    except OSError as problem:
        raise RacebenchError(
            f"cannot write the history {path}: {problem.strerror}; free some space, or give --no-history"
        ) from None


def _write(writer: Writer, recorded: Recorded) -> None:
    history, about = recorded.history, recorded.about
    sessions = history.operations.sessions
    statuses = _statuses(history.operations)
    meta = {
        "format": FORMAT,
        "version": VERSION_WITH_CLOCKS if history.clocks else VERSION,
        "scenario": about.scenario,
        "strategy": about.strategy,
        "forbidden": list(about.forbidden),
        "applicable": None if about.applicable is None else list(about.applicable),
        "complete": about.complete,
        "note": about.note,
        "start": history.start,
        "warmup_ns": about.warmup_ns,
        "numbering": history.numbering.value,
        "rows": history.rows is not None,
        "labels": history.labels is not None,
        "sqlstates": statuses,
        "consumers": [
            {
                "name": log.name,
                "ordered": log.ordered,
                "drained": log.drained,
                "longest_poll_ns": log.longest_poll_ns,
                "cursors": log.after is not None,
            }
            for log in history.logs
        ],
        "violations": [
            {"invariant": violation.invariant, "count": violation.count, "rows": [dict(row) for row in violation.rows]}
            for violation in history.violations
        ],
        "measures": dict(history.measures),
        **({"clocks": clocks.published(history.clocks)} if history.clocks else {}),
        "load": dict(about.load),
        "environment": dict(about.environment),
    }
    writer.text("meta", json_text.dumps(meta, indent=None))
    numbers = np.array(list(sessions), np.int64)
    counts = np.array([len(records) for records in sessions.values()], np.int64)
    _column(writer, "session_number", len(numbers), lambda: iter([numbers]))
    _column(writer, "session_operations", len(counts), lambda: iter([counts]))
    _write_operations(writer, history, statuses)
    if history.rows is not None:
        for name in ROW.names or ():
            nothing = NO_VERSION if name == "version" else None
            _column(writer, f"row_{name}", len(history.rows), _of(history.rows, name), nothing)
    if history.labels is not None:
        _column(writer, "label_text", len(history.labels.text), lambda: _parts(history.labels.text))  # type: ignore[union-attr]
        _column(writer, "label_ends", len(history.labels.ends), lambda: _parts(history.labels.ends))  # type: ignore[union-attr]
    for number, log in enumerate(history.logs):
        _write_log(writer, f"consumer{number}", log, history.start)


def _write_operations(writer: Writer, history: History, statuses: list[str]) -> None:
    operations = history.operations
    codes = np.sort(np.array([_code(text) for text in statuses], np.int64))

    def fields(make: Callable[[Array], Array]) -> Pieces:
        return lambda: (make(records) for records in operations.pieces(_PIECE))

    count = len(operations)
    _column(writer, "start", count, fields(lambda records: records["start"] - history.start))
    _column(writer, "duration", count, fields(_duration))
    _column(writer, "version", count, fields(lambda records: records["version"]), NO_VERSION)
    _column(writer, "tenant", count, fields(lambda records: records["tenant"]))
    _column(writer, "tries", count, fields(lambda records: records["tries"]))
    _column(writer, "outcome", count, fields(lambda records: records["status"] >> 26))
    _column(writer, "sqlstate", count, fields(lambda r: np.searchsorted(codes, r["status"] & ((1 << 26) - 1))))


def _duration(records: Array) -> Array:
    return np.where(never_ended(records["end"], records["status"]), _NEVER, records["end"] - records["start"])


def _write_log(writer: Writer, name: str, log: Log, start: int) -> None:
    deliveries, polls = log.deliveries, log.polls
    _column(writer, f"{name}_delivery_at", len(deliveries), _of(deliveries, "at", start))
    _column(writer, f"{name}_delivery_id", len(deliveries), _of(deliveries, "id"))
    _column(writer, f"{name}_delivery_poll", len(deliveries), _of(deliveries, "poll"))
    _column(writer, f"{name}_poll_start", len(polls), _of(polls, "start", start))
    _column(writer, f"{name}_poll_end", len(polls), _of(polls, "end", start))
    for field in ("last", "rows", "tenant"):
        _column(writer, f"{name}_poll_{field}", len(polls), _of(polls, field))
    if log.after is not None:
        after = log.after
        _column(writer, f"{name}_poll_after", len(polls), lambda: _parts(after), NO_VERSION)


def _column(writer: Writer, name: str, count: int, values: Pieces, nothing: int | None = None) -> None:
    span = Span(nothing)
    for piece in values():
        span.widen(piece)
    writer.column(name, count, span, values())


def _of(records: Array, name: str, less: int = 0) -> Pieces:
    return lambda: (part[name].astype(np.int64) - less for part in pieces(records, _PIECE))


def _parts(array: Array) -> Iterator[Array]:
    return pieces(array, _PIECE)


def _statuses(operations: Operations) -> list[str]:
    """The SQLSTATEs that occur, in the order of their codes; "" for none."""
    codes: set[int] = set()
    for records in operations.pieces(_PIECE):
        codes.update(distinct(records["status"] & ((1 << 26) - 1)).tolist())
    return [decode_status(code | 1 << 26)[1] for code in sorted(codes)]


def _code(sqlstate: str) -> int:
    return encode_status(0, sqlstate)  # type: ignore[arg-type]  # an outcome of 0 leaves the SQLSTATE alone


def read(path: Path, scratch: Scratch) -> Recorded:
    """Read a history into scratch space; raises UsageProblem if it is damaged or of another version."""
    reader = Reader(path)
    try:
        meta = _meta(reader)
        return _Reading(reader, meta, scratch).recorded()
    except OverflowError as problem:
        raise reader.damaged(f"it has a number of more than 64 bits ({problem})") from None
    finally:
        reader.close()


def _meta(reader: Reader) -> dict[str, Any]:
    if "meta" not in reader:
        raise UsageProblem(
            f"{reader.path} is not a racebench history: it has no 'meta'; see {documentation.page('history')}"
        )
    try:
        meta = json_text.loads(reader.text("meta"))
    except json_text.JsonProblem as problem:
        raise reader.damaged(f"its 'meta' is not JSON ({problem})") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise UsageProblem(f"{reader.path} is not a racebench history: its 'meta' has no format '{FORMAT}'")
    if meta.get("version") not in (VERSION, VERSION_WITH_CLOCKS):
        raise UsageProblem(
            f"{reader.path} is a history of version {shown(meta.get('version'))}, this racebench reads {VERSION} and "
            f"{VERSION_WITH_CLOCKS}; check it with the racebench that wrote it"
        )
    if (difference := json_schema.difference(meta, _META)) is not None:
        raise reader.damaged(f"in its 'meta', {difference}")
    return dict(meta)


class _Reading:
    """Reads one file."""

    def __init__(self, reader: Reader, meta: dict[str, Any], scratch: Scratch) -> None:
        self.reader = reader
        self.meta = meta
        self.scratch = scratch
        self.start = int(meta["start"])

    def recorded(self) -> Recorded:
        meta = self.meta
        consumers = enumerate(meta["consumers"])
        history = History(
            start=self.start,
            operations=self._operations(),
            rows=self._rows() if meta["rows"] else None,
            logs=tuple(self._log(f"consumer{number}", about) for number, about in consumers),
            violations=tuple(
                Violation(
                    invariant=violation["invariant"], count=int(violation["count"]), rows=tuple(violation["rows"])
                )
                for violation in meta["violations"]
            ),
            measures=meta["measures"],
            numbering=self._numbering(),
            labels=self._labels() if meta["labels"] else None,
            clocks=self._clocks(),
        )
        return Recorded(
            history=history,
            about=About(
                scenario=str(meta["scenario"]),
                strategy=str(meta["strategy"]),
                forbidden=self._kinds("forbidden"),
                load=dict(meta["load"]),
                environment=dict(meta["environment"]),
                warmup_ns=int(meta["warmup_ns"]),
                applicable=None if meta["applicable"] is None else self._kinds("applicable"),
                complete=bool(meta.get("complete", True)),
                note=str(meta["note"]),
            ),
        )

    def _operations(self) -> Operations:
        sessions = np.concatenate(
            [np.empty((0, 2), np.int64)]
            + [np.stack(parts, 1) for parts in self._read("session_number", "session_operations")]
        )
        numbers, counts = sessions[:, 0], sessions[:, 1]
        if len(distinct(numbers)) < len(numbers) or (numbers < 0).any() or (numbers >= 1 << 31).any():
            raise self.reader.damaged("'session_number' has a number twice, or a number outside the range")
        total = self.reader.count("start")
        if (counts < 0).any() or sum(counts.tolist()) != total:
            raise self.reader.damaged(f"'session_operations' does not add up to the {total} operations in 'start'")
        codes = np.array([_code(str(text)) for text in self.meta["sqlstates"]] or [0], np.uint32)
        firsts = np.cumsum(counts) - counts
        column, last = self.scratch.column(OPERATION), np.empty(0, np.int64)
        for start, duration, version, tenant, tries, outcome, sqlstate in self._read(*_OPERATIONS):
            self._within("tenant", tenant, 0, 65_535)
            self._within("tries", tries, 0, 65_535)
            self._within("outcome", outcome, 0, 3)
            self._within("sqlstate", sqlstate, 0, len(codes) - 1)
            self._within("duration", duration, _NEVER, 2**62)
            self._within("start", start, -(2**62), 2**62)
            if ((duration == _NEVER) & ((outcome == Outcome.OK) | (outcome == Outcome.FAIL))).any():
                raise self.reader.damaged("'duration' has no end for an operation whose outcome is known")
            self._in_order(np.concatenate([last, start]), column.count - len(last), firsts)
            last = start[-1:].astype(np.int64)
            records = np.empty(len(start), OPERATION)
            records["start"] = start.astype(np.int64) + self.start
            records["end"] = np.where(duration == _NEVER, 0, records["start"] + duration)
            records["version"] = _widened(version)
            records["tenant"], records["tries"] = tenant, tries
            records["status"] = outcome.astype(np.uint32) << 26 | codes[sqlstate]
            column.append(records)
        records = column.array()
        ends = (firsts + counts).tolist()
        return Operations(
            {
                number: records[first:end]
                for number, first, end in zip(numbers.tolist(), firsts.tolist(), ends, strict=True)
            }
        )

    def _in_order(self, start: Array, first: int, sessions: Array) -> None:
        """Check that each session's operations are sorted by start."""
        back = np.flatnonzero(start[1:] < start[:-1]) + 1 + first
        if not np.isin(back, sessions).all():
            raise self.reader.damaged("'start' decreases within a session")

    def _rows(self) -> Array:
        column = self.scratch.column(ROW)
        for identity, tenant, version, operation in self._read("row_id", "row_tenant", "row_version", "row_operation"):
            records = np.empty(len(identity), ROW)
            records["id"], records["tenant"], records["operation"] = identity, tenant, operation
            records["version"] = _widened(version)
            column.append(records)
        return column.array()

    def _log(self, name: str, about: dict[str, Any]) -> Log:
        polls, after = self.scratch.column(POLL), self.scratch.column(np.int64)
        fields = ("start", "end", "last", "rows", "tenant", *(("after",) if about["cursors"] else ()))
        for parts in self._read(*(f"{name}_poll_{field}" for field in fields)):
            for field, part in zip(fields[3:5], parts[3:5], strict=True):
                self._within(f"{name}_poll_{field}", part, 0, 2**32 - 1)
            records = np.empty(len(parts[0]), POLL)
            for field, part in zip(fields[:5], parts, strict=False):
                records[field] = part
            records["start"] += self.start
            records["end"] += self.start
            polls.append(records)
            if about["cursors"]:
                after.append(_widened(parts[5]))
        deliveries = self.scratch.column(DELIVERY)
        fields, whole, before = ("at", "id", "poll"), polls.array(), 0
        for at, identity, poll in self._read(*(f"{name}_delivery_{field}" for field in fields)):
            if not len(whole) or int(poll[0]) < before or (poll[1:] < poll[:-1]).any() or int(poll[-1]) >= len(whole):
                raise self.reader.damaged(f"'{name}_delivery_poll' is not sorted or names a poll that does not exist")
            before = int(poll[-1])
            records = np.empty(len(at), DELIVERY)
            records["at"], records["id"], records["poll"] = at.astype(np.int64) + self.start, identity, poll
            if (records["at"] <= 0).any():
                raise self.reader.damaged(f"'{name}_delivery_at' is before its clock began")
            records["tenant"] = whole["tenant"][poll]
            release(whole)
            deliveries.append(records)
        longest = about["longest_poll_ns"]
        return Log(
            name=str(about["name"]),
            deliveries=deliveries.array(),
            polls=whole,
            after=after.array() if about["cursors"] else None,
            ordered=bool(about["ordered"]),
            drained=bool(about["drained"]),
            longest_poll_ns=None if longest is None else int(longest),
        )

    def _clocks(self) -> tuple[MachineClock, ...]:
        """The machines' clocks: of version 2 each session and consumer has one."""
        if self.meta["version"] == VERSION:
            return ()
        try:
            consumers = [about["name"] for about in self.meta["consumers"]]
            sessions = [number for (part,) in self._read("session_number") for number in part.tolist()]
            return clocks.read(self.meta.get("clocks"), sessions, consumers)
        except ValueError as problem:
            raise self.reader.damaged(f"in its 'meta', {problem}") from None

    def _labels(self) -> Labels:
        text, ends = self.scratch.column(np.uint8), self.scratch.column(np.int64)
        for (part,) in self._read("label_text"):
            self._within("label_text", part, 0, 255)
            text.append(part)
        for (part,) in self._read("label_ends"):
            ends.append(part)
        labels = Labels(text=text.array(), ends=ends.array())
        if len(labels.ends) and (int(labels.ends[0]) < 0 or int(labels.ends[-1]) >= len(labels.text)):
            raise self.reader.damaged("'label_ends' is not within 'label_text'")
        return labels

    def _numbering(self) -> Numbering:
        try:
            return Numbering(self.meta["numbering"])
        except ValueError as problem:
            raise self.reader.damaged(f"its 'meta' has an unknown numbering ({problem})") from None

    def _kinds(self, name: str) -> tuple[str, ...]:
        kinds = tuple(str(kind) for kind in self.meta[name])
        for kind in kinds:
            if kind not in ANOMALIES:
                raise self.reader.damaged(f"its 'meta' has an unknown anomaly '{kind}' in '{name}'")
        return kinds

    def _read(self, *names: str) -> Iterator[tuple[Array, ...]]:
        return self.reader.pieces(names, self.scratch.piece)

    def _within(self, name: str, values: Array, low: int, high: int) -> None:
        if len(values) and not (low <= int(values.min()) and int(values.max()) <= high):
            raise self.reader.damaged(f"'{name}' has a value outside {low} to {high}")


def _widened(values: Array) -> Array:
    """The values as int64; the smallest number of a signed column means no version."""
    if values.dtype.kind == "u":
        return values.astype(np.int64)
    return np.where(values == np.iinfo(values.dtype).min, NO_VERSION, values.astype(np.int64))
