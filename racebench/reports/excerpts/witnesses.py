"""An excerpt from a result's witnesses, if there is no history. It has only what the witnesses name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from racebench.core.results import Anomaly, RunResult
from racebench.reports.excerpts import Bar, Excerpt, Mark, Poll, Window


def of_result(result: RunResult) -> Excerpt | None:
    """The operations and polls of a result's forbidden witnesses; None if no operation is among them."""
    witnesses = [witness for witness in result.witnesses if witness.kind in result.forbidden and _guilty(witness)]
    if not witnesses:
        return None
    consumers = tuple(dict.fromkeys(witness.consumer for witness in witnesses if witness.consumer is not None))
    bars = sorted(_bars(witnesses, consumers), key=lambda bar: (bar.start_us, bar.operation))
    polls = sorted(_polls(witnesses, consumers), key=lambda poll: (poll.start_us, poll.number))
    at_bar = {bar.operation: at for at, bar in enumerate(bars)}
    at_poll = {(poll.consumer, poll.number): at for at, poll in enumerate(polls)}
    marks = [
        Mark(
            kind=witness.kind,
            text=witness.explanation,
            bars=tuple(at_bar[operation["operation"]] for operation in _guilty(witness)),
            polls=tuple(at_poll[consumers.index(witness.consumer), poll["poll"]] for poll in witness.polls)
            if witness.consumer is not None
            else (),
        )
        for witness in witnesses
    ]
    times = [bar.start_us for bar in bars] + [bar.end_us for bar in bars if bar.end_us is not None]
    times += [poll.end_us for poll in polls]
    return Excerpt(
        bars=tuple(bars),
        polls=tuple(polls),
        marks=tuple(sorted(marks, key=lambda mark: bars[mark.bars[0]].start_us)),
        windows=(Window(start_us=min(times), end_us=max(times), shown=len(bars), total=result.counts["attempts"]),),
        consumers=consumers,
        operations=result.counts["attempts"],
        sessions=result.load.sessions,
        whole=False,
    )


def _guilty(witness: Anomaly) -> Sequence[Mapping[str, Any]]:
    """The operations of the anomaly, without the row delivered instead and the row that has the refused number."""
    if witness.kind == "refused":
        return [operation for operation in witness.operations if operation["outcome"] != "OK"]
    if witness.kind != "missed":
        return witness.operations
    return [operation for operation in witness.operations if operation["operation"] == witness.rows[0]["operation"]]


def _bars(witnesses: Sequence[Anomaly], consumers: Sequence[str]) -> list[Bar]:
    known: dict[int, dict[str, Any]] = {}
    rows: dict[int, int] = {}
    delivered: dict[int, dict[int, int]] = {}
    for witness in witnesses:
        for operation in witness.operations:
            known.setdefault(operation["operation"], dict(operation))
        rows |= {row["operation"]: row["id"] for row in witness.rows if "operation" in row}
        if witness.consumer is not None:
            place = consumers.index(witness.consumer)
            for poll in witness.polls:
                for row in poll["delivered"]:
                    delivered.setdefault(row, {}).setdefault(place, poll["poll"])
    return [
        Bar(
            worker=operation["worker"],
            operation=identity,
            start_us=operation["start_us"],
            end_us=operation["end_us"],
            outcome=operation["outcome"],
            sqlstate=operation["sqlstate"] or "",
            tries=operation["tries"],
            tenant=operation["tenant"],
            version=operation["version"],
            row=rows.get(identity),
            delivered=delivered.get(rows[identity], {}) if identity in rows else {},
        )
        for identity, operation in known.items()
    ]


def _polls(witnesses: Sequence[Anomaly], consumers: Sequence[str]) -> list[Poll]:
    polls: dict[tuple[int, int], Poll] = {}
    for witness in witnesses:
        if witness.consumer is None:
            continue
        place = consumers.index(witness.consumer)
        for poll in witness.polls:
            polls[place, poll["poll"]] = Poll(
                consumer=place,
                number=poll["poll"],
                start_us=poll["start_us"],
                end_us=poll["end_us"],
                rows=poll["rows"],
                before=poll["cursor_before"],
                after=poll["cursor_after"],
            )
    return list(polls.values())
