"""Plain text, one block a step: what is printed where there is no terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from racebench.demo.frames import Frame, State

_WIDTH = 78


def block(frame: Frame, before: Frame | None, *, notes: bool) -> list[str]:
    """A frame's lines: what was said, sent and answered, and what has changed since the frame before."""
    lines: list[str] = []
    if before is None or before.act != frame.act:
        lines += ["", frame.heading, "=" * len(frame.heading)]
        before = None
    label = "the end" if frame.ended else f"step {frame.number}" if frame.taken else ""
    lines += ["", *_wrap(f"{label}: {frame.sentence}" if label else frame.sentence, "")]
    lines += _sent(frame)
    if before is None or (before.tables, before.reader) != (frame.tables, frame.reader):
        lines += _state(frame)
    if frame.ended:
        lines += [f"    {'LOST: ' if frame.losses else ''}{frame.verdict}"]
        lines += [line for loss in frame.losses or () for line in _wrap(f"{loss.kind}: {loss.words}", "    ")]
    if notes and frame.note:
        lines += _wrap(f"(Notes: {frame.note})", "    ")
    return lines


def _sent(frame: Frame) -> Iterator[str]:
    taken = frame.taken
    if taken is None:
        return
    yield from _wrap(f"s{taken.session} > {taken.sent}", "    ")
    if taken.waits_for:
        yield f"    s{taken.session} WAITS for {' and '.join(taken.waits_for)}"
    elif taken.answer:
        yield from _wrap(f"-> {taken.answer}", "    ")
    for each in taken.went_on:
        yield from _wrap(f"s{each.session} goes on{f' -> {each.answer}' if each.answer else ''}", "    ")
    for lane in frame.lanes:
        if lane.waits and not (lane.acts and taken.waits_for):
            waiting = next(line.text for line in lane.lines if line.state is State.WAITS)
            yield from _wrap(f"({lane.name} {lane.stands}: {waiting})", "    ")


def _state(frame: Frame) -> Iterator[str]:
    for table in frame.tables:
        yield f"    {table.title}"
        for row in table.rows:
            cells = ", ".join(f"{column} {cell}" for column, cell in zip(table.columns, row.cells, strict=True))
            yield f"      {cells}" + "".join(f" [{mark.value}]" for mark in row.marks)
    if frame.reader is not None:
        yield from _wrap(f"consumer {frame.reader.name}: cursor {frame.reader.cursor}; {frame.reader.said}", "    ")


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
