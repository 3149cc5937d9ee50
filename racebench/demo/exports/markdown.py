"""Markdown: a table an act, one row a step, one column a session, and what was lost."""

from __future__ import annotations

import re
from collections.abc import Iterator

from racebench.demo.frames import Frame
from racebench.demo.shown import Shown

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", text)


def code(text: str) -> str:
    """A table cell with text as code: fenced by more backticks than it has, bars escaped for the table."""
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    padding = " " if "`" in text else ""
    return f"{fence}{padding}{text}{padding}{fence}".replace("|", r"\|")


def render(shown: Shown) -> str:
    """The document."""
    lines = [f"# {escape(shown.title)}", ""]
    for frames, command in zip(shown.acts, shown.commands, strict=True):
        lines += _act(frames, notes=shown.notes)
        lines += ["", "Again, step by step:", "", f"    {command}", ""]
    return "\n".join(lines)


def _act(frames: tuple[Frame, ...], *, notes: bool) -> Iterator[str]:
    opening, ending = frames[0], frames[-1]
    lanes = opening.lanes
    yield from (f"## {escape(opening.heading)}", "", escape(opening.sentence), "")
    yield f"| | {' | '.join(escape(lane.title) for lane in lanes)} | |"
    yield f"| ---: | {' | '.join('---' for _ in lanes)} | --- |"
    for frame in frames[1:-1]:
        cells = {lane.name: "" for lane in lanes}
        taken = frame.taken
        if taken is not None:
            stands = next((lane.stands for lane in frame.lanes if lane.name == f"s{taken.session}"), "")
            waits = escape(stands).replace("WAITS", "**WAITS**", 1) if taken.waits_for else ""
            answer = waits or (f"→ {code(taken.answer)}" if taken.answer else "")
            cells[f"s{taken.session}"] = f"{code(taken.sent)} {answer}".strip()
            for each in taken.went_on:
                cells[f"s{each.session}"] = f"goes on{f' → {code(each.answer)}' if each.answer else ''}"
        said = escape(frame.sentence) + (f" *{escape(frame.note)}*" if notes and frame.note else "")
        yield f"| {frame.number if taken else ''} | {' | '.join(cells.values())} | {said} |"
    yield ""
    for table in ending.tables:
        yield from (f"Table {code(table.name)} at the end:", "")
        yield f"| {' | '.join(escape(column) for column in table.columns)} | |"
        yield f"| {' | '.join('---' for _ in table.columns)} | --- |"
        for row in table.rows:
            marks = ", ".join(mark.value for mark in row.marks)
            yield f"| {' | '.join(escape(cell) for cell in row.cells)} | {marks} |"
        yield ""
    if ending.reader is not None:
        yield from (f"The consumer's cursor is at {escape(ending.reader.cursor)}; {escape(ending.reader.said)}.", "")
    lost = f"**Lost: {escape(ending.verdict)}.** " if ending.losses else ""
    yield f"{lost}{escape(ending.sentence)}"
