"""Plain text, one block for each step: printed where there is no terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from racebench.demo.frames import Frame, State

_WIDTH = 78


def block(frame: Frame, before: Frame | None, *, notes: bool) -> list[str]:
    """A frame's lines: its sentence, what was sent and answered, and the tables if they have changed since `before`."""
    lines: list[str] = []
    if before is None or before.part != frame.part:
        lines += ["", frame.heading, "=" * len(frame.heading)]
        before = None
    label = "the end" if frame.ended else f"step {frame.number}" if frame.step else ""
    lines += ["", *_wrap(f"{label}: {frame.sentence}" if label else frame.sentence, "")]
    lines += _sent(frame)
    if before is None or (before.tables, before.consumer) != (frame.tables, frame.consumer):
        lines += _state(frame)
    if frame.ended:
        lines += [f"    {'ANOMALY: ' if frame.anomalies else ''}{frame.verdict}"]
        lines += [
            line
            for anomaly in frame.anomalies or ()
            for line in _wrap(f"{anomaly.kind}: {anomaly.description}", "    ")
        ]
    if notes and frame.note:
        lines += _wrap(f"(Notes: {frame.note})", "    ")
    return lines


def _sent(frame: Frame) -> Iterator[str]:
    step = frame.step
    if step is None:
        return
    yield from _wrap(f"s{step.session} > {step.sent}", "    ")
    if step.waits_for:
        yield f"    s{step.session} WAITS for {' and '.join(step.waits_for)}"
    elif step.answer:
        yield from _wrap(f"-> {step.answer}", "    ")
    for resumed in step.resumed:
        answer = f" -> {resumed.answer}" if resumed.answer else ""
        yield from _wrap(f"s{resumed.session} goes on{answer}", "    ")
    for lane in frame.lanes:
        if lane.waits and not (lane.active and step.waits_for):
            waiting = next(line.text for line in lane.lines if line.state is State.WAITS)
            yield from _wrap(f"({lane.name} {lane.status}: {waiting})", "    ")


def _state(frame: Frame) -> Iterator[str]:
    for table in frame.tables:
        yield f"    {table.title}"
        for row in table.rows:
            cells = ", ".join(f"{column} {cell}" for column, cell in zip(table.columns, row.cells, strict=True))
            yield f"      {cells}" + "".join(f" [{mark.value}]" for mark in row.marks)
    if frame.consumer is not None:
        yield from _wrap(
            f"consumer {frame.consumer.name}: cursor {frame.consumer.cursor}; {frame.consumer.summary}", "    "
        )


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
