"""Export as Markdown: for each part a table with a row for each step and a column for each session, and the result."""

from __future__ import annotations

import re
from collections.abc import Iterator

from racebench import __version__
from racebench.demo.frames import Frame
from racebench.demo.recording import Recording
from racebench.reports.escape import code

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def escape(text: str) -> str:
    """Escape text so that Markdown shows it unchanged."""
    return _SPECIAL.sub(r"\\\1", text)


def render(recording: Recording) -> str:
    """The document."""
    lines = [f"# {escape(recording.title)}", ""]
    for frames, command in zip(recording.parts, recording.commands, strict=True):
        lines += _part(frames, notes=recording.notes)
        lines += ["", "Again, step by step:", "", f"    {command}", ""]
    if recording.command:
        made = escape(f"racebench {__version__}, {recording.created}")
        lines += [f"Made by {code(recording.command, in_cell=False)} ({made}).", ""]
    return "\n".join(lines)


def _part(frames: tuple[Frame, ...], *, notes: bool) -> Iterator[str]:
    opening, ending = frames[0], frames[-1]
    lanes = opening.lanes
    yield from (f"## {escape(opening.heading)}", "", escape(opening.sentence), "")
    yield f"| | {' | '.join(escape(lane.title) for lane in lanes)} | |"
    yield f"| ---: | {' | '.join('---' for _ in lanes)} | --- |"
    for frame in frames[1:-1]:
        cells = {lane.name: "" for lane in lanes}
        step = frame.step
        if step is not None:
            status = next((lane.status for lane in frame.lanes if lane.name == f"s{step.session}"), "")
            waits = escape(status).replace("WAITS", "**WAITS**", 1) if step.waits_for else ""
            answer = waits or (f"→ {code(step.answer)}" if step.answer else "")
            cells[f"s{step.session}"] = f"{code(step.sent)} {answer}".strip()
            for resumed in step.resumed:
                answer = f" → {code(resumed.answer)}" if resumed.answer else ""
                cells[f"s{resumed.session}"] = f"goes on{answer}"
        sentence = escape(frame.sentence) + (f" *{escape(frame.note)}*" if notes and frame.note else "")
        yield f"| {frame.number if step else ''} | {' | '.join(cells.values())} | {sentence} |"
    yield ""
    for table in ending.tables:
        yield from (f"Table {code(table.name)} at the end:", "")
        yield f"| {' | '.join(escape(column) for column in table.columns)} | |"
        yield f"| {' | '.join('---' for _ in table.columns)} | --- |"
        for row in table.rows:
            marks = ", ".join(mark.value for mark in row.marks)
            yield f"| {' | '.join(escape(cell) for cell in row.cells)} | {marks} |"
        yield ""
    if ending.consumer is not None:
        yield from (
            f"The consumer's cursor is at {escape(ending.consumer.cursor)}; {escape(ending.consumer.summary)}.",
            "",
        )
    anomalies = f"**Anomaly: {escape(ending.verdict)}.** " if ending.anomalies else ""
    yield f"{anomalies}{escape(ending.sentence)}"
