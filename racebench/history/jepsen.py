"""Reads and writes Jepsen's histories, as EDN: of unique-ids (:generate) and monotonic (:add, :inc) workloads.

Each operation is an :invoke and an :ok, :fail or :info of the same process. An operation that ends in :info, or never,
is UNKNOWN and may take effect at any later time. Sources: jepsen.checker/unique-ids and jepsen.cockroach.monotonic.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy.typing as npt

from racebench.core import documentation
from racebench.core.anomalies import Subject, forbidden_by_default
from racebench.core.errors import UsageProblem
from racebench.core.model import Numbering, Outcome
from racebench.core.plain_text import shown
from racebench.history import Chunk
from racebench.history.builder import HistoryBuilder, Version
from racebench.history.edn import EdnProblem, Keyword, values
from racebench.history.jsonl import acknowledged_note, applicable
from racebench.history.recorded import About, Recorded
from racebench.history.records import decode_status
from racebench.history.spill import Scratch

Array = npt.NDArray[Any]

_PIECE = 1 << 16
_TYPES = {"invoke": None, "ok": Outcome.OK, "fail": Outcome.FAIL, "info": Outcome.UNKNOWN}
_NAMES = {Outcome.OK: ":ok", Outcome.FAIL: ":fail", Outcome.UNKNOWN: ":info"}
_SQLSTATE = re.compile(r"(?=.*[0-9])[0-9A-Z]{5}")
_UNIQUE = frozenset({"generate"})
_MONOTONIC = frozenset({"add", "inc", "increment"})
_KEYS = {name: Keyword(name) for name in ("type", "f", "value", "process", "time", "index", "val", "tb", "error")}


@dataclass(frozen=True, slots=True)
class _Invoked:
    line: int
    name: str
    time: int
    value: Any


def read(path: Path, scratch: Scratch) -> Recorded:
    """Read a history; raises UsageProblem, with file:line, if something in it is wrong."""
    reading = _Reading(scratch)
    line = 0
    try:
        with path.open(encoding="utf-8") as file:
            for line, value in values(file):
                reading.take(line, value)
        reading.end()
    except EdnProblem as problem:
        raise UsageProblem(f"{path}:{problem.line}: {problem}") from None
    except UnicodeDecodeError:
        raise UsageProblem(f"{path}:{line + 1}: is not UTF-8 text") from None
    except ValueError as problem:
        raise UsageProblem(f"{path}:{line}: {problem}; see {documentation.page('history')}") from None
    except OSError as problem:
        raise UsageProblem(f"{path} cannot be read: {problem.strerror}") from None
    if not reading.names:
        others = f" (there are {', '.join(sorted(f':{name}' for name in reading.others))})" if reading.others else ""
        raise UsageProblem(
            f"{path} has no :generate, :add or :inc operations{others}; racebench checks unique-ids and monotonic "
            "workloads"
        )
    return reading.recorded(path)


class _Reading:
    def __init__(self, scratch: Scratch) -> None:
        self.builder = HistoryBuilder(scratch)
        self.names: set[str] = set()
        self.others: set[str] = set()
        self._open: dict[int, _Invoked] = {}
        self._found: dict[tuple[int, Version], list[tuple[int, int]]] = {}
        self._indices: dict[int, int] = {}
        self._last_read: Any = None
        self._order = 0

    def take(self, line: int, event: Any) -> None:
        """Add an event; raises ValueError, whose message says what is wrong."""
        if not isinstance(event, dict):
            raise ValueError("an event is a map, {:type :invoke, :f :generate, …}")
        self._order += 1
        kind, name, process = (event.get(_KEYS[key]) for key in ("type", "f", "process"))
        if not isinstance(kind, Keyword) or kind.name not in _TYPES:
            raise ValueError(f":type is :invoke, :ok, :fail or :info, not {shown(kind)}")
        if type(process) is not int:
            return  # the nemesis
        time = event.get(_KEYS["time"], self._order)
        if type(time) is not int:
            raise ValueError(f":time is a whole number of nanoseconds, not {shown(time)}")
        if not isinstance(name, Keyword):
            raise ValueError(f":f is a keyword, not {shown(name)}")
        value = event.get(_KEYS["value"])
        outcome = _TYPES[kind.name]
        if outcome is None:
            if process in self._open:
                raise ValueError(f"process {process} begins an operation while its last one is open")
            self._open[process] = _Invoked(line, name.name, time, value)
            return
        begun = self._open.pop(process, None)
        if begun is None or begun.name != name.name:
            raise ValueError(f"process {process} ends a {name} that it never began")
        self._complete(process, begun, time, outcome, value, sqlstate=_sqlstate(event.get(_KEYS["error"])))

    def end(self) -> None:
        """The end of the file: an open operation never ended."""
        for process, begun in sorted(self._open.items()):
            self._complete(process, begun, None, Outcome.UNKNOWN, begun.value)

    def recorded(self, path: Path) -> Recorded:
        rows_given = self._last_read is not None and bool(self.names & _MONOTONIC)
        if rows_given:
            self._take_rows()
        monotonic = bool(self.names & _MONOTONIC)
        forbidden = forbidden_by_default(Subject.HISTORY)
        history = self.builder.history(numbering=Numbering.TABLE if monotonic else Numbering.NONE)
        return Recorded(
            history=history,
            about=About(
                scenario=path.name,
                strategy=" ".join(sorted(self.names)),
                forbidden=(*forbidden, "inversions") if monotonic else forbidden,
                applicable=applicable(history, rows_given=rows_given),
                note="the rows are those of the last :read" if rows_given else acknowledged_note(history),
            ),
        )

    def _complete(
        self, process: int, begun: _Invoked, time: int | None, outcome: Outcome, value: Any, *, sqlstate: str = ""
    ) -> None:
        if begun.name == "read":
            if outcome is Outcome.OK and isinstance(value, list):
                self._last_read = value
            return
        if begun.name not in _UNIQUE | _MONOTONIC:
            self.others.add(begun.name)
            return
        self.names.add(begun.name)
        tenant, version = _number(value if value is not None or outcome is Outcome.OK else begun.value)
        self.builder.operation(
            begun.line,
            process=process,
            tenant=tenant,
            start=begun.time,
            end=None if outcome is Outcome.UNKNOWN else time,
            outcome=outcome,
            version=version,
            sqlstate=sqlstate,
        )
        index = self._indices.get(process, 0)
        self._indices[process] = index + 1
        if version is not None and begun.name in _MONOTONIC:
            self._found.setdefault((tenant, version), []).append((process, index))

    def _take_rows(self) -> None:
        """Add the last read's rows; if operations have the same number, each row belongs to a different one."""
        for identity, item in enumerate(self._last_read, 1):
            tenant, version = _number(item)
            writers = self._found.get((tenant, version))
            writer = writers.pop(0) if writers else None
            self.builder.row(identity=identity, tenant=tenant, version=version, writer=writer)


def _number(value: Any) -> tuple[int, Version]:
    """Tenant and version of a value: a number or a text, [key number], {:val number …} or {key number}."""
    if value is None:
        return 1, None
    if isinstance(value, dict):
        if _KEYS["val"] in value:
            return 1, _version(value[_KEYS["val"]])
        if len(value) == 1:
            ((key, version),) = value.items()
            return _tenant(key), _version(version)
    if isinstance(value, list) and len(value) == 2 and type(value[0]) is int:
        return _tenant(value[0]), _version(value[1])
    return 1, _version(value)


def _sqlstate(error: Any) -> str:
    """The SQLSTATE in an :error, which has five letters and digits; "" for an error of another form."""
    fits = isinstance(error, str) and _SQLSTATE.fullmatch(error)
    return error if fits else ""


def _tenant(key: Any) -> int:
    if type(key) is not int:
        raise ValueError(f"a key is a whole number, not {shown(key)}")
    return key


def _version(value: Any) -> Version:
    if value is None or type(value) is int or isinstance(value, str):
        return value
    return str(value)


def write(file: TextIO, recorded: Recorded, numbers: Callable[[Chunk], tuple[Array, Array]], *, many: bool) -> None:
    """Write a unique-ids history; `numbers` has the version and tenant of each operation's row.

    A value is the number; with `many` tenants it is [tenant number].
    """
    history = recorded.history
    waiting: list[tuple[int, int, str]] = []
    index = order = 0
    for chunk in history.operations.chunks(_PIECE):
        columns = (chunk.start, chunk.end, chunk.worker, chunk.status, chunk.pending, *numbers(chunk))
        for start, end, worker, status, pending, number, tenant in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            while waiting and waiting[0][0] <= start:
                index = _put(file, index, heapq.heappop(waiting)[2])
            outcome, sqlstate = decode_status(status)
            value = _edn(history.version(number))
            if many and value != "nil":
                value = f"[{tenant} {value}]"
            common = f":f :generate, :process {worker}"
            began = start - history.start
            index = _put(file, index, f":type :invoke, {common}, :value nil, :time {began}")
            if not pending:
                order += 1
                error = f', :error "{sqlstate}"' if sqlstate else ""
                ended = f":type {_NAMES[outcome]}, {common}, :value {value}, :time {end - history.start}{error}"
                heapq.heappush(waiting, (end, order, ended))
    while waiting:
        index = _put(file, index, heapq.heappop(waiting)[2])


def _put(file: TextIO, index: int, event: str) -> int:
    file.write(f"{{{event}, :index {index}}}\n")
    return index + 1


def _edn(version: int | str | None) -> str:
    if version is None:
        return "nil"
    if isinstance(version, int):
        return str(version)
    escaped = version.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
