"""Checks a history file without its database, by the rules for a run, or converts it to another format.

It does the work of `racebench check`; reports.terminal.check_table prints the result.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from racebench.analysis.checkers import check
from racebench.analysis.index import Index
from racebench.analysis.overlap import Overlap
from racebench.analysis.verdicts import Lateness, Tally, complete, count, decide, undecided, witnesses
from racebench.core.anomalies import ANOMALIES
from racebench.core.atomic_write import replacing
from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.results import Anomaly
from racebench.core.verdict import Verdict
from racebench.history import Chunk, History, Operations, archive, jepsen, jsonl
from racebench.history.recorded import About, Recorded
from racebench.history.records import NO_VERSION
from racebench.history.spill import Scratch, pieces

Array = npt.NDArray[Any]

#: The formats that can be read, by the ending of a file's name, and those that can be written.
READERS: Mapping[str, Callable[[Path, Scratch], Recorded]] = {
    "npz": archive.read,
    "jsonl": jsonl.read,
    "edn": jepsen.read,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogResult:
    """The result of one consumer, as in core.results.ConsumerResult."""

    name: str
    counts: Mapping[str, int]
    late_us: Mapping[str, float | None]
    drained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of checking one history: counts, verdict and witnesses, as for a run.

    The count of an anomaly that the history cannot show is None. `overlapped` is as in core.results.Pace, `undecided`
    as in RunResult.
    """

    file: str
    about: About
    verdict: Verdict
    overlapped: bool
    counts: Mapping[str, int | None]
    errors: Mapping[str, int]
    consumers: tuple[LogResult, ...]
    seconds: float
    throughput_per_s: float
    latency_us: Mapping[str, float | None]
    witnesses: tuple[Anomaly, ...]
    undecided: Mapping[str, int] = field(default_factory=dict)


def check_file(path: Path, format_: str | None) -> CheckResult:
    """Check a history; raises UsageProblem if the file is not one."""
    with Scratch() as scratch:
        recorded = _read(path, format_, scratch)
        return _examined(str(path), recorded, scratch)


def _examined(name: str, recorded: Recorded, scratch: Scratch) -> CheckResult:
    history, about = recorded.history, recorded.about
    tally = Tally(history.start + about.warmup_ns)
    late = [Lateness(scratch, number, history.slack_ns(log.name)) for number, log in enumerate(history.logs)]
    overlap = Overlap(history.slack_ns())
    checked = check(history, scratch, also=[tally, overlap, *late])
    counts = count(history, checked, tally)
    shown: dict[str, int | None] = dict(counts)
    if about.applicable is not None:
        shown |= {kind: None for kind in ANOMALIES if kind not in about.applicable}
    return CheckResult(
        file=name,
        about=about,
        verdict=decide(
            about.forbidden,
            {kind: number or 0 for kind, number in shown.items()},
            complete=about.complete and complete(history, counts, overlap),
        ),
        overlapped=overlap.found,
        counts=shown,
        errors=tally.errors,
        consumers=tuple(
            LogResult(
                name=log.name,
                counts={
                    "delivered": checked.delivered[number],
                    **{kind: finding.count for kind, finding in checked.logs[number].items()},
                },
                late_us=late[number].late_us(),
                drained=log.drained,
            )
            for number, log in enumerate(history.logs)
        ),
        seconds=tally.seconds,
        throughput_per_s=tally.measured / tally.seconds if tally.seconds > 0 else 0.0,
        latency_us=tally.latency_us(history, scratch),
        witnesses=tuple(witness for witness in witnesses(checked) if shown[witness.kind]),
        undecided=undecided(checked, late),
    )


def export(path: Path, format_: str, output: Path | None, *, read_as: str | None = None) -> None:
    """Write a history in another format, to a file (whole or not at all) or to stdout.

    `read_as`: the format of the history; None: the ending of its name decides.
    """
    with Scratch() as scratch:
        recorded = _read(path, read_as, scratch)
        with _opened(output) as file:
            if format_ == "edn":
                _write_edn(file, recorded, scratch)
            else:
                jsonl.write(file, recorded)


def _write_edn(file: TextIO, recorded: Recorded, scratch: Scratch) -> None:
    """Each operation with the version and tenant of its row; without a numbered row, those of its script.

    EDN has one clock. Operations of several machines are made longer by the bounds of theirs, so that the order of any
    two in the file is certain.
    """
    if recorded.history.clocks:
        recorded = replace(recorded, history=_widened(recorded.history, scratch))
    index = Index(recorded.history, scratch)
    for _ in index.chunks():
        pass
    tenants, written = index.survey.tenants, index.written

    def numbers(chunk: Chunk) -> tuple[Array, Array]:
        version = written.version(chunk)
        said = version == NO_VERSION
        if not len(tenants):
            return chunk.version, chunk.tenant
        tenant = np.where(said, chunk.tenant, tenants.values[written.rank(chunk)])
        return np.where(said, chunk.version, version), tenant

    jepsen.write(file, recorded, numbers, many=len(tenants) > 1)


def _widened(history: History, scratch: Scratch) -> History:
    """A history whose operations begin earlier and end later, by the bound of their machine's clock."""
    bounds = {session: clock.bound_ns for clock in history.clocks for session in clock.sessions}
    sessions = {}
    for number, records in history.operations.sessions.items():
        column = scratch.column(records.dtype)
        for part in pieces(records, scratch.piece):
            wide = part.copy()
            wide["start"] -= bounds.get(number, 0)
            wide["end"] += np.where(wide["end"] != 0, bounds.get(number, 0), 0)
            column.append(wide)
        sessions[number] = column.array()
    return replace(history, operations=Operations(sessions, history.operations.bits), clocks=())


def _read(path: Path, format_: str | None, scratch: Scratch) -> Recorded:
    ending = format_ or path.suffix.removeprefix(".")
    if ending not in READERS:
        raise UsageProblem(f"the ending of {path} names no format; give --format {', '.join(READERS)}")
    if not path.exists():
        raise UsageProblem(f"{path} cannot be read: No such file or directory")
    return READERS[ending](path, scratch)


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    try:
        if output.exists() and not output.is_file():  # a device or a pipe
            with output.open("w", encoding="utf-8") as file:
                yield file
            return
        with replacing(output) as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8")
            try:
                yield text
            finally:
                text.detach()  # which writes what is left
    except OSError as problem:
        raise RacebenchError(
            f"cannot write {output}: {problem.strerror}; free some space or name another place"
        ) from None
