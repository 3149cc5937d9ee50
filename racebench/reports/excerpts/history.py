"""An excerpt from a history: windows around a result's witnesses, and all anomalies in these windows.

The anomalies of the operations shown are found here, by the checkers' definitions. The counts of the whole run are in
the result.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.index import Index
from racebench.core.refusals import is_refusal
from racebench.core.results import Anomaly, RunResult
from racebench.history import History, Log
from racebench.history.logs import is_one_of
from racebench.history.records import NO_VERSION
from racebench.history.rows import Row, described
from racebench.history.spill import Scratch, pieces
from racebench.reports.excerpts import Bar, Excerpt, Mark, Poll, Window
from racebench.reports.excerpts.windows import Cut, Span, cut

Array = npt.NDArray[Any]
Number = tuple[int, int]  # tenant, version

_LANES = 40
_LISTED = 6


def of_history(history: History, result: RunResult, scratch: Scratch, *, most: int) -> Excerpt | None:
    """At most about `most` operations around the result's witnesses, and as many polls; None if there are none."""
    witnesses = _spread([witness for witness in result.witnesses if witness.kind in result.forbidden])
    anchors = [_anchors(witness, history.start) for witness in witnesses]
    near = anchors[0][0][0] if anchors and anchors[0] else history.start
    cuts = cut(history.operations, anchors, sessions=_sessions(history, witnesses, near), most=most)
    identities = sorted({identity for window in cuts for identity in window.chosen})
    if not identities:
        return None
    return _Cutting(history, result, scratch, identities, cuts, most).excerpt()


def _spread(witnesses: Sequence[Anomaly]) -> list[Anomaly]:
    """The first of each kind and consumer, then the second of each, and so on."""
    seen: dict[tuple[str, str | None], int] = {}
    ranked = []
    for witness in witnesses:
        rank = seen.get((witness.kind, witness.consumer), 0)
        seen[witness.kind, witness.consumer] = rank + 1
        ranked.append((rank, witness))
    return [witness for _, witness in sorted(ranked, key=lambda pair: pair[0])]


def _anchors(witness: Anomaly, start: int) -> list[Span]:
    """The times of each operation and each poll of a witness; if they are far apart, the time between matters less."""
    times = [(shown["start_us"], shown["end_us"]) for shown in (*witness.operations, *witness.polls)]
    return [(start + round(begin * 1e3), start + round((begin if end is None else end) * 1e3)) for begin, end in times]


def _sessions(history: History, witnesses: Sequence[Anomaly], near: int) -> list[int]:
    """The sessions that have a lane: those of the witnesses first, then those active at the nearest time."""
    there = history.operations.sessions
    named = [operation["worker"] for witness in witnesses for operation in witness.operations]

    def away(number: int) -> int:
        starts = there[number]["start"]
        at = bisect_left(starts, near)
        return min((abs(int(starts[place]) - near) for place in (at - 1, at) if 0 <= place < len(starts)), default=near)

    others = sorted(there, key=away) if len(there) > _LANES else list(there)
    return sorted(list(dict.fromkeys([*(number for number in named if number in there), *others]))[:_LANES])


@dataclass(slots=True)
class _Known:
    """The rows that the chosen operations wrote, and the polls that delivered them."""

    rows: dict[int, list[Row]] = field(default_factory=dict)  # by operation
    sharing: dict[Number, list[int]] = field(default_factory=dict)  # ids of all rows with a number
    polls: list[dict[int, list[int]]] = field(default_factory=list)  # a log: row id -> polls


class _Cutting:
    """Makes one excerpt."""

    def __init__(
        self, history: History, result: RunResult, scratch: Scratch, identities: list[int], cuts: list[Cut], most: int
    ) -> None:
        self.history, self.result, self.cuts, self.most = history, result, cuts, most
        self.index = Index(history, scratch)
        self.logs = [self.index.log(log) for log in history.logs]
        self.known = self._look_up(np.array(identities, np.int64), scratch)
        bars = [self._bar(identity) for identity in identities]
        self.bars = sorted(bars, key=lambda bar: (bar.start_us, bar.operation))
        self.at = {bar.operation: at for at, bar in enumerate(self.bars)}
        self.polls, self.polls_left_out = self._choose_polls()
        self.poll_at = {(poll.consumer, poll.number): at for at, poll in enumerate(self.polls)}

    def excerpt(self) -> Excerpt:
        history = self.history
        marks = [mark for mark in self._marks() if mark.kind in self.result.forbidden]
        return Excerpt(
            bars=tuple(self.bars),
            polls=tuple(self.polls),
            marks=tuple(sorted(marks, key=lambda mark: self.bars[mark.bars[0]].start_us)),
            windows=tuple(
                Window(
                    start_us=history.microseconds(window.span[0]),
                    end_us=history.microseconds(window.span[1]),
                    shown=len(window.chosen),
                    total=window.total,
                )
                for window in self.cuts
            ),
            consumers=tuple(log.name for log in self.logs),
            operations=len(history.operations),
            sessions=len(history.operations.sessions),
            polls_left_out=self.polls_left_out,
        )

    def _look_up(self, identities: Array, scratch: Scratch) -> _Known:
        known = _Known()
        for records in pieces(self.history.table, scratch.piece):
            for row in described(records[np.flatnonzero(is_one_of(records["operation"], identities))]):
                known.rows.setdefault(row.operation, []).append(row)
        rows = [row for mine in known.rows.values() for row in mine]
        numbers = {(row.tenant, row.version) for row in rows if row.version != NO_VERSION}
        versions = np.array(sorted({version for _, version in numbers}), np.int64)
        for records in pieces(self.history.table, scratch.piece) if numbers else ():
            for row in described(records[np.flatnonzero(is_one_of(records["version"], versions))]):
                if (row.tenant, row.version) in numbers:
                    known.sharing.setdefault((row.tenant, row.version), []).append(row.id)
        known.polls = [log.polls_that_delivered(row.id for row in rows) for log in self.logs]
        return known

    def _bar(self, identity: int) -> Bar:
        operation = self.history.operations.find(identity)
        assert operation is not None
        row = next(iter(self.known.rows.get(identity, ())), None)
        said = self.history.describe_operation(operation, row)
        first = {place: polls[row.id] for place, polls in enumerate(self.known.polls)} if row is not None else {}
        return Bar(
            worker=operation.worker,
            operation=identity,
            start_us=said["start_us"],
            end_us=said["end_us"],
            outcome=said["outcome"],
            sqlstate=said["sqlstate"] or "",
            tries=operation.tries,
            tenant=operation.tenant if row is None else row.tenant,
            version=said["version"],
            row=None if row is None else row.id,
            delivered={place: polls[0] for place, polls in first.items() if polls},
        )

    def _choose_polls(self) -> tuple[list[Poll], int]:
        """The polls in the windows; if there are too many, those that delivered rows shown, then some of each log."""
        named = {(place, number) for bar in self.bars for place, number in bar.delivered.items()}
        inside: list[tuple[int, int, int]] = []
        for place, log in enumerate(self.logs):
            start, end = np.ascontiguousarray(log.polls["start"]), np.ascontiguousarray(log.polls["end"])
            within = np.zeros(len(start), bool)
            for window in self.cuts:
                within |= (end >= window.span[0]) & (start <= window.span[1])
            inside += [(rank, place, int(number)) for rank, number in enumerate(np.flatnonzero(within))]
        chosen = sorted(inside, key=lambda poll: (poll[1:] not in named, poll))[: self.most]
        polls = [self._poll(place, number) for _, place, number in chosen]
        return sorted(polls, key=lambda poll: (poll.start_us, poll.consumer)), len(inside) - len(chosen)

    def _poll(self, place: int, number: int) -> Poll:
        said = self.history.describe_poll(self.logs[place], number)
        return Poll(
            consumer=place,
            number=number,
            start_us=said["start_us"],
            end_us=said["end_us"],
            rows=said["rows"],
            before=said["cursor_before"],
            after=said["cursor_after"],
        )

    def _marks(self) -> Iterator[Mark]:
        yield from self._duplicates()
        for place in range(len(self.logs)):
            yield from self._missed(place)
            yield from self._redelivered(place)
        for at, bar in enumerate(self.bars):
            if bar.outcome == "FAIL" and is_refusal(bar.sqlstate):
                wanted = "" if bar.version is None else f"; it wanted version {bar.version}"
                yield Mark(
                    kind="refused", text=f"worker {bar.worker} was refused with {bar.sqlstate}{wanted}", bars=(at,)
                )
        looked_up = ("duplicates", "missed", "redelivered", "refused")
        for witness in self.result.witnesses:
            bars = tuple(
                self.at[operation["operation"]] for operation in witness.operations if operation["operation"] in self.at
            )
            if bars and witness.kind not in looked_up:
                yield Mark(kind=witness.kind, text=witness.explanation, bars=bars)

    def _duplicates(self) -> Iterator[Mark]:
        by_row = {bar.row: at for at, bar in enumerate(self.bars) if bar.row is not None}
        for (tenant, version), ids in sorted(self.known.sharing.items()):
            if len(ids) < 2:
                continue
            bars = tuple(sorted(by_row[identity] for identity in ids if identity in by_row))
            delivered = {place: number for at in bars for place, number in self.bars[at].delivered.items()}
            if bars:
                number = f"version {self.history.version(version)} of tenant {tenant}"
                yield Mark(
                    kind="duplicates",
                    text=f"rows {_listing(sorted(ids))} have {number}",
                    bars=bars,
                    polls=tuple(self.poll_at[poll] for poll in delivered.items() if poll in self.poll_at),
                )

    def _missed(self, place: int) -> Iterator[Mark]:
        log = self.logs[place]
        for at, bar in enumerate(self.bars):
            for row in self.known.rows.get(bar.operation, ()):
                if row.version == NO_VERSION or self.known.polls[place][row.id]:
                    continue
                passed = log.poll_that_passed(row.tenant, row.version)
                if passed is None and not log.drained:
                    continue
                yield Mark(
                    kind="missed",
                    text=f"row {row.id} (version {bar.version}) was never delivered to '{log.name}': "
                    f"{self._how(log, passed)}",
                    bars=(at,),
                    polls=()
                    if passed is None or (place, passed) not in self.poll_at
                    else (self.poll_at[place, passed],),
                )

    def _how(self, log: Log, passed: int | None) -> str:
        if passed is None:
            return "it read to the end without it"
        return f"poll {passed} moved its cursor to {self.history.version(log.cursor(passed))} without it"

    def _redelivered(self, place: int) -> Iterator[Mark]:
        for at, bar in enumerate(self.bars):
            for row in self.known.rows.get(bar.operation, ()):
                polls = self.known.polls[place][row.id]
                if len(polls) > 1:
                    yield Mark(
                        kind="redelivered",
                        text=f"row {row.id} was delivered {len(polls)} times to '{self.logs[place].name}'",
                        bars=(at,),
                        polls=tuple(
                            self.poll_at[place, poll] for poll in dict.fromkeys(polls) if (place, poll) in self.poll_at
                        ),
                    )


def _listing(ids: list[int]) -> str:
    """The ids as text: "3 and 5", or "1, 2, 3, 4, 5, 6 and 2 more"."""
    shown = [str(identity) for identity in ids[:_LISTED]]
    last = f"{len(ids) - _LISTED} more" if len(ids) > _LISTED else shown.pop()
    return f"{', '.join(shown)} and {last}"
