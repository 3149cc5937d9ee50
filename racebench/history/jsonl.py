"""Reads and writes a history as JSON Lines, one operation, row or poll a line: docs/history.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from racebench.core import documentation, json_text
from racebench.core.anomalies import ANOMALIES, Evidence, Subject, forbidden_by_default
from racebench.core.errors import UsageProblem, suggest
from racebench.core.model import Numbering, Outcome
from racebench.core.plain_text import shown
from racebench.history import History, Log, clocks
from racebench.history.builder import HistoryBuilder, unknown
from racebench.history.operations import never_ended
from racebench.history.recorded import About, Recorded
from racebench.history.records import NO_VERSION, decode_status
from racebench.history.spill import PIECE, Scratch, pieces

VERSION = 1
#: Of a history with the clocks of several machines.
VERSION_WITH_CLOCKS = 2
_OUTCOMES = {"ok": Outcome.OK, "fail": Outcome.FAIL, "info": Outcome.UNKNOWN}
_NAMES = {outcome: name for name, outcome in _OUTCOMES.items()}
_SQLSTATE = re.compile("[0-9A-Za-z]{5}")


def read(path: Path, scratch: Scratch) -> Recorded:
    """Read a history; raises UsageProblem, with file:line, if a line is wrong."""
    builder = HistoryBuilder(scratch)
    header: Mapping[str, Any] = {}
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    header = _take(builder, number, json_text.loads(line)) or header
    except json_text.JsonProblem as problem:
        raise UsageProblem(f"{path}:{number}: is not JSON ({problem}); each line is one object") from None
    except (ValueError, TypeError) as problem:
        what = "the file is not UTF-8 text" if isinstance(problem, UnicodeDecodeError) else str(problem)
        raise UsageProblem(f"{path}:{number}: {what}; see {documentation.page('history')}") from None
    except OSError as problem:
        raise UsageProblem(f"{path} cannot be read: {problem.strerror}") from None
    if not len(builder):
        raise UsageProblem(
            f"{path} has no operations; each is a line with type 'op', see {documentation.page('history')}"
        )
    builder.rows_given |= header.get("rows", False)
    history = builder.history(numbering=header.get("numbering", Numbering.TENANT))
    if history.logs and not builder.rows_given:
        raise UsageProblem(
            f"{path} has polls and no rows; give a line with type 'row' for each row (if there are none, rows: true in "
            "the first line)"
        )
    if "clocks" in header:
        try:
            known = clocks.read(header["clocks"], history.operations.sessions, [log.name for log in history.logs])
        except ValueError as problem:
            raise UsageProblem(f"{path}:1: {problem}; see {documentation.page('history')}") from None
        history = replace(history, clocks=known)
    return Recorded(
        history=history,
        about=About(
            scenario=header.get("scenario", path.name),
            strategy=header.get("strategy", path.stem),
            forbidden=header.get("forbidden", forbidden_by_default(Subject.HISTORY)),
            applicable=applicable(history, rows_given=builder.rows_given),
            note="" if builder.rows_given else acknowledged_note(history),
        ),
    )


def applicable(history: History, *, rows_given: bool) -> tuple[str, ...]:
    """The anomalies that a history of another program can show."""
    present = {
        Evidence.NUMBERS: history.rows is not None,
        Evidence.ROWS: rows_given,
        Evidence.CONSUMER: bool(history.logs),
        Evidence.DENSE: history.numbering is not Numbering.NONE,
    }
    return tuple(kind.name for kind in ANOMALIES.values() if all(present.get(need, False) for need in kind.needs))


def acknowledged_note(history: History) -> str:
    """The note on a history without rows."""
    if history.rows is None:
        return "no operation in it has a version"
    return f"no rows given: each of its {len(history.table):,} acknowledged operations counts as the row it wrote"


def _take(builder: HistoryBuilder, number: int, line: Any) -> Mapping[str, Any] | None:
    """Add one line; returns it if it is the header. Raises ValueError, whose message says what is wrong."""
    if not isinstance(line, dict):
        raise ValueError("is not an object")
    kind = line.get("type")
    if not isinstance(kind, str):
        raise ValueError(f"'type' is a text, not {shown(kind)}")
    if kind == "op":
        _take_operation(builder, number, line)
    elif kind == "row":
        writer = (_whole(line, "process"), _whole(line, "index")) if "process" in line else None
        builder.row(
            identity=_whole(line, "id"), tenant=_whole(line, "tenant", 1), version=_version(line), writer=writer
        )
    elif kind == "consumer":
        builder.consumer(_text(line, "consumer"), ordered=_flag(line, "ordered"), drained=_flag(line, "drained"))
    elif kind == "poll":
        delivered = line.get("delivered")
        if not isinstance(delivered, list) or not all(type(identity) is int for identity in delivered):
            raise ValueError("'delivered' is a list of row ids")
        builder.poll(
            _text(line, "consumer"),
            tenant=_whole(line, "tenant", 0),
            start=_whole(line, "start_ns"),
            end=_whole(line, "end_ns"),
            delivered=delivered,
            cursor=_version(line, "cursor") if "cursor" in line else unknown,
        )
    elif kind == "history":
        return _header(number, line)
    else:
        raise ValueError(f"type '{kind}' is unknown{suggest(str(kind), ['op', 'row', 'consumer', 'poll', 'history'])}")
    return None


def _take_operation(builder: HistoryBuilder, number: int, line: Mapping[str, Any]) -> None:
    outcome = line.get("outcome")
    if not isinstance(outcome, str) or outcome not in _OUTCOMES:
        raise ValueError(f"outcome {shown(outcome)} is unknown; use ok, fail or info")
    sqlstate = line.get("sqlstate") or ""
    if sqlstate and not (isinstance(sqlstate, str) and _SQLSTATE.fullmatch(sqlstate)):
        raise ValueError(f"sqlstate {shown(sqlstate)} does not have five letters or digits")
    end = line.get("end_ns")
    builder.operation(
        number,
        process=_whole(line, "process"),
        tenant=_whole(line, "tenant", 1),
        start=_whole(line, "start_ns"),
        end=None if end is None else _whole(line, "end_ns"),
        outcome=_OUTCOMES[outcome],
        version=_version(line),
        tries=_whole(line, "tries", 1),
        sqlstate=sqlstate,
    )


def _header(number: int, line: Mapping[str, Any]) -> Mapping[str, Any]:
    if number != 1:
        raise ValueError("the line of type 'history' must be the first line")
    if line.get("version") not in (VERSION, VERSION_WITH_CLOCKS):
        version = shown(line.get("version"))
        raise ValueError(f"this is version {version}, this racebench reads {VERSION} and {VERSION_WITH_CLOCKS}")
    header: dict[str, Any] = {name: _text(line, name) for name in ("scenario", "strategy") if name in line}
    if "numbering" in line:
        known = [numbering.value for numbering in Numbering]
        if line["numbering"] not in known:
            raise ValueError(f"numbering {shown(line['numbering'])} is unknown; known: {', '.join(known)}")
        header["numbering"] = Numbering(line["numbering"])
    if "forbidden" in line:
        if not isinstance(line["forbidden"], list) or not all(isinstance(kind, str) for kind in line["forbidden"]):
            raise ValueError(f"'forbidden' is a list of anomalies, not {shown(line['forbidden'])}")
        for kind in line["forbidden"]:
            if kind not in ANOMALIES:
                raise ValueError(f"anomaly '{kind}' is unknown{suggest(str(kind), ANOMALIES)}")
        header["forbidden"] = tuple(line["forbidden"])
    header["rows"] = _flag(line, "rows", default=False)
    if line["version"] == VERSION_WITH_CLOCKS:
        header["clocks"] = line.get("clocks")
    return {"version": line["version"], **header}


def _whole(line: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = line.get(name, default)
    if type(value) is not int:  # True is an int to isinstance
        raise ValueError(f"'{name}' is a whole number, not {shown(value)}")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"'{name}' is a number of 64 bits, not {value}")
    return value


def _version(line: Mapping[str, Any], name: str = "version") -> int | str | None:
    value = line.get(name)
    if value is None or isinstance(value, str):
        return value
    return _whole(line, name)


def _text(line: Mapping[str, Any], name: str) -> str:
    value = line.get(name)
    if not isinstance(value, str):
        raise ValueError(f"'{name}' is a text, not {shown(value)}")
    return value


def _flag(line: Mapping[str, Any], name: str, *, default: bool = True) -> bool:
    value = line.get(name, default)
    if not isinstance(value, bool):
        raise ValueError(f"'{name}' is true or false, not {shown(value)}")
    return value


def write(file: TextIO, recorded: Recorded) -> None:
    """Write a history; times count from its common start."""
    for line in _lines(recorded):
        file.write(json_text.dumps(line, indent=None) + "\n")


def _lines(recorded: Recorded) -> Iterator[Mapping[str, Any]]:
    history, about = recorded.history, recorded.about
    yield {
        "type": "history",
        "version": VERSION_WITH_CLOCKS if history.clocks else VERSION,
        "scenario": about.scenario,
        "strategy": about.strategy,
        "numbering": history.numbering.value,
        "rows": history.rows is not None,
        "forbidden": list(about.forbidden),
        **({"clocks": clocks.published(history.clocks)} if history.clocks else {}),
    }
    for process, records in history.operations.sessions.items():
        for part in pieces(records, PIECE):
            pending = never_ended(part["end"], part["status"]).tolist()
            for (start, end, version, tenant, tries, status), never in zip(part.tolist(), pending, strict=True):
                outcome, sqlstate = decode_status(status)
                yield {
                    "type": "op",
                    "process": process,
                    "tenant": tenant,
                    "start_ns": start - history.start,
                    "end_ns": None if never else end - history.start,
                    "outcome": _NAMES[outcome],
                    "version": None if version == NO_VERSION or history.labels is not None else version,
                    "tries": tries,
                    **({"sqlstate": sqlstate} if sqlstate else {}),
                }
    bits = history.operations.bits
    for part in pieces(history.table, PIECE):
        known = history.operations.slots(np.ascontiguousarray(part["operation"]))[0] >= 0
        for (identity, tenant, version, operation), here in zip(part.tolist(), known.tolist(), strict=True):
            writer = {"process": operation >> bits, "index": operation & ((1 << bits) - 1)} if here else {}
            yield {"type": "row", "id": identity, "tenant": tenant, "version": history.version(version), **writer}
    for log in history.logs:
        yield {"type": "consumer", "consumer": log.name, "ordered": log.ordered, "drained": log.drained}
        yield from _polls(history, log)


def _polls(history: History, log: Log) -> Iterator[Mapping[str, Any]]:
    number = 0
    for part in pieces(log.polls, PIECE):
        for start, end, _, _, tenant in part.tolist():
            delivered = log.delivered_by(number, len(log.deliveries))
            yield {
                "type": "poll",
                "consumer": log.name,
                "tenant": tenant,
                "start_ns": start - history.start,
                "end_ns": end - history.start,
                "delivered": delivered,
                **({"cursor": history.version(int(log.after[number]))} if log.after is not None else {}),
            }
            number += 1
