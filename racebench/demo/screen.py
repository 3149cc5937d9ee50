"""A frame drawn for a terminal: so many lines of so many columns, whatever the frame holds.

Legible without colour: what matters is a word or a mark first (>, WAITS, TWIN, NEVER DELIVERED), and a style second. No
dim text, no colour that a light or a dark background swallows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from racebench.demo import clauses
from racebench.demo.frames import Frame, Lane, Line, Mark, Reader, State, Table

LEAST_WIDTH, LEAST_HEIGHT = 80, 24
_LEAST_LANE = 17
_BOTTOM = 4
_LONGEST_SENTENCE = 4
_LEAST_READER = 24
_LONGEST_NOTE = 4
_LONGEST_ANSWER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The characters that are drawn; others where the terminal has only ASCII."""

    now: str = "►"
    done: str = "✓"
    waits: str = "‖"
    refused: str = "✗"
    answer: str = "→ "
    twin: str = "‼ "
    between: str = " │ "
    rule: str = "─"
    dot: str = " · "
    more: str = "…"


FANCY = Marks()
ASCII = Marks(
    now=">", done="+", waits="=", refused="x", answer="-> ", twin="!! ", between=" | ", rule="-", dot=" - ", more="..."
)
_STYLES = {State.NOW: "bold reverse", State.WAITS: "bold magenta", State.REFUSED: "bold red"}
HELP = (
    "space, right, page down   the next step: it runs on the server now",
    "b, left, page up          an earlier frame, from memory",
    "r                         this act again, from its start, on fresh ground",
    "a                         go on by itself, or stop doing so",
    "n                         speaker notes, on and off",
    "q                         quit",
    "any key                   leave this page",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a frame stands in what is shown, and what is said around it."""

    title: str
    acts: int
    steps: int
    footer: str = ""
    notes: bool = False


def least(lanes: int) -> tuple[int, int]:
    """Columns and lines that so many lanes need."""
    return max(LEAST_WIDTH, lanes * _LEAST_LANE + 3 * (lanes - 1)), LEAST_HEIGHT


def too_small(width: int, height: int, lanes: int) -> str:
    """What is wrong with a terminal of that size; "" if it is large enough."""
    columns, lines = least(lanes)
    if width >= columns and height >= lines:
        return ""
    return f"a terminal of {width} × {height} is too small, the demo needs {columns} × {lines}"


def draw(frame: Frame, place: Place, width: int, height: int, *, marks: Marks = FANCY) -> list[Text]:
    """The lines of a screen, each exactly `width` wide."""
    if problem := too_small(width, height, len(frame.lanes)):
        return _page(textwrap.wrap(f"{problem}: enlarge the window, or q to quit.", max(width, 8)), width, height)
    head = [_heading(frame, place, width, marks), *_sentence(frame, width)]
    head.append(Text(marks.rule * width))
    foot = [Text(marks.rule * width), *_bottom(frame, width, _bottom_height(frame, height), marks)]
    if place.notes and frame.note:
        foot += [
            Text(line, style="italic")
            for line in textwrap.wrap(f"Notes: {frame.note}", width, max_lines=_LONGEST_NOTE, placeholder=" …")
        ]
    free = height - len(head) - len(foot) - 1
    lanes = _lanes(frame.lanes, width, min(free, _wanted(frame.lanes, width, marks)), marks)
    foot += [Text()] * (free - len(lanes))  # in a tall terminal the rows stay near the SQL
    foot.append(Text(place.footer))
    return [_plainer(_fit(line, width), marks) for line in [*head, *lanes, *foot]]


def _plainer(line: Text, marks: Marks) -> Text:
    """With ASCII marks, dots where something was left out are one too; a character for a character."""
    return line if marks is FANCY else Text(line.plain.replace("…", "."), style=line.style, spans=line.spans)


def help_page(width: int, height: int) -> list[Text]:
    """What the keys do."""
    return _page(["Keys", "", *HELP], width, height)


def _page(lines: Sequence[str], width: int, height: int) -> list[Text]:
    shown = [_fit(Text(line), width) for line in lines][:height]
    return shown + [_fit(Text(), width)] * (height - len(shown))


def _fit(line: Text, width: int) -> Text:
    fitted = line.copy()
    fitted.truncate(width, overflow="ellipsis", pad=True)
    return fitted


def _heading(frame: Frame, place: Place, width: int, marks: Marks) -> Text:
    left = f" {place.title}{marks.dot}{frame.heading}"
    act = f"{marks.dot}act {frame.act + 1} of {place.acts}" if place.acts > 1 else ""
    step = "the end" if frame.ended else f"step {frame.number} of {place.steps}" if frame.number else "the start"
    right = f"{step}{act} "
    room = width - cell_len(right) - 1
    said = Text(left)
    said.truncate(room, overflow="ellipsis", pad=True)
    return Text.assemble(said, " ", right, style="bold reverse")


def _sentence(frame: Frame, width: int) -> list[Text]:
    text, style = frame.sentence, "bold"
    if frame.ended:
        style = "bold red" if frame.losses else "bold green"
        text = f"{'LOST' if frame.losses else 'NOTHING LOST'} ({frame.verdict}). {text}" if frame.losses else text
    lines = textwrap.wrap(text, width, max_lines=_LONGEST_SENTENCE, placeholder=" …")
    return [Text(line, style=style) for line in lines] + [Text()] * (2 - len(lines))


# Lanes


def _lanes(lanes: Sequence[Lane], width: int, height: int, marks: Marks) -> list[Text]:
    widths = _widths(lanes, width, marks)
    columns = []
    for lane, wide in zip(lanes, widths, strict=True):
        title = Text(lane.heading, style="bold reverse" if lane.acts else "bold")
        columns.append([title, *_script(lane, wide, height - 1, marks)])
    lines = []
    for at in range(height):
        line = Text()
        for number, (column, wide) in enumerate(zip(columns, widths, strict=True)):
            line.append(marks.between if number else "")
            line.append_text(_fit(column[at] if at < len(column) else Text(), wide))
        lines.append(line)
    return lines


def _widths(lanes: Sequence[Lane], width: int, marks: Marks) -> list[int]:
    room = width - len(marks.between) * (len(lanes) - 1)
    return [room // len(lanes) + (at < room % len(lanes)) for at in range(len(lanes))]


def _wanted(lanes: Sequence[Lane], width: int, marks: Marks) -> int:
    """Lines in which the longest lane has everything: its title, clauses, an answer to each, one of them a long one."""
    wanted = 0
    for lane, wide in zip(lanes, _widths(lanes, width, marks), strict=True):
        lines = sum(len(clauses.wrap(line.text, wide - 2)) + 2 for line in lane.lines)
        wanted = max(wanted, lines + _LONGEST_ANSWER - 1)
    return wanted


def _script(lane: Lane, width: int, height: int, marks: Marks) -> list[Text]:
    """The statements, the one that matters now in full, the others as far as there is room."""
    inner = width - 2
    wrapped = [clauses.wrap(line.text, inner) for line in lane.lines]
    whole = sum(len(each) + 1 for each in wrapped)  # an answer each
    gap = int(whole + len(wrapped) - 1 <= height)
    if whole > height:  # then a clause has a line of its own only where that costs none
        plainly = [clauses.plain(line.text, inner) for line in lane.lines]
        wrapped = [min(each, less, key=len) for each, less in zip(wrapped, plainly, strict=True)]
    answers = [_answer(line, lane, inner, marks) for line in lane.lines]
    at = _here(lane)
    first = 0
    while first < at and sum(1 + bool(answer) for answer in answers[first:]) > height:
        first += 1  # what was done long ago makes room
    heights = [1] * len(wrapped)
    answered = [min(1, len(answer)) for answer in answers]
    spare = height - sum(heights[first:]) - sum(answered[first:]) - gap * (len(wrapped) - 1)
    for place in (at, *(each for each in range(first, len(wrapped)) if each != at)):
        for have, wanted in ((answered, answers[place]), (heights, wrapped[place])):
            more = max(0, min(spare, len(wanted) - have[place]))
            have[place] += more
            spare -= more
    shown: list[Text] = []
    for place in range(first, len(wrapped)):
        line = lane.lines[place]
        if gap and shown:
            shown.append(Text())
        style = _STYLES.get(line.state, "")
        for number, text in enumerate(_clip(wrapped[place], heights[place], inner, marks)):
            prefix = _prefix(line, marks) if number == 0 else " "
            shown.append(_fit(Text.assemble(f"{prefix} ", text, style=style), width))
        style = "bold" if line.state is State.NOW else style
        clipped = _clip(answers[place], answered[place], inner, marks)
        shown += [Text.assemble("  ", (text, style)) for text in clipped]
    return shown[:height]


def _here(lane: Lane) -> int:
    """The line that matters now: waiting, just done, refused, the last that was done, or the first."""
    for state in (State.WAITS, State.NOW, State.REFUSED, State.DONE):
        places = [place for place, line in enumerate(lane.lines) if line.state is state]
        if places:
            return places[-1]
    return 0


def _prefix(line: Line, marks: Marks) -> str:
    return {
        State.NOW: marks.now,
        State.DONE: marks.done,
        State.WAITS: marks.waits,
        State.REFUSED: marks.refused,
    }.get(line.state, " ")


def _answer(line: Line, lane: Lane, width: int, marks: Marks) -> list[str]:
    text = lane.stands if line.state is State.WAITS else f"{marks.answer}{line.answer}" if line.answer else ""
    return textwrap.wrap(text, width, max_lines=_LONGEST_ANSWER, placeholder=f" {marks.more}") if text else []


def _clip(lines: Sequence[str], height: int, width: int, marks: Marks) -> list[str]:
    if len(lines) <= height:
        return list(lines)
    if not height:
        return []
    last = Text(lines[height - 1])
    last.truncate(width - len(marks.more))
    return [*lines[: height - 1], last.plain.rstrip() + marks.more]


# What is in the table, and what the consumer has


def _bottom_height(frame: Frame, height: int) -> int:
    """Four lines; in a tall terminal as many as there are rows, up to a quarter of it."""
    wanted = sum(1 + len(table.rows) for table in frame.tables)
    return max(_BOTTOM, min(wanted, height // 4))


def _bottom(frame: Frame, width: int, height: int, marks: Marks) -> list[Text]:
    left_width = width
    right: list[Text] = []
    if frame.reader is not None:
        most = width - len(marks.between) - _LEAST_READER
        left_width = max(min(most, _needed(frame.tables, marks)), (width - len(marks.between)) // 2)
        right = _reader(frame.reader, width - len(marks.between) - left_width, height)
    left = _tables(frame.tables, left_width, height, marks)
    lines = []
    for at in range(height):
        line = _fit(left[at] if at < len(left) else Text(), left_width)
        if frame.reader is not None:
            line.append(marks.between)
            line.append_text(right[at] if at < len(right) else Text())
        lines.append(line)
    return lines


def _needed(tables: Sequence[Table], marks: Marks) -> int:
    """Columns that the widest row takes."""
    rows = (_row(table, number, 1 << 16, marks) for table in tables for number in range(len(table.rows)))
    return max((row.cell_len for row in rows), default=0)


def _tables(tables: Sequence[Table], width: int, height: int, marks: Marks) -> list[Text]:
    lines: list[Text] = []
    for table in tables:
        lines.append(Text(table.title, style="bold"))
        lines += [_row(table, number, width, marks) for number in range(len(table.rows))]
    if not tables:
        lines.append(Text("no committed rows yet", style="bold"))
    if len(lines) > height:
        lines = [*lines[: height - 1], Text(f"{marks.more} and {len(lines) - height + 1} lines more")]
    return lines


def _row(table: Table, number: int, width: int, marks: Marks) -> Text:
    """A row with its marks; where there is too little room, it is the cells that are cut."""
    row = table.rows[number]
    said = Text()
    for mark in row.marks:
        loud = mark in (Mark.TWIN, Mark.LOST)
        said.append("  ")
        said.append(f"{marks.twin if loud else ''}{mark.value}", style="bold red" if loud else "")
    pairs = zip(table.columns, (cell.replace("session ", "s") for cell in row.cells), strict=True)
    cells = Text(" " + "  ".join(f"{column.replace('written by', 'by')} {cell}" for column, cell in pairs))
    cells.truncate(max(width - said.cell_len, 0), overflow="ellipsis")
    return cells.append_text(said)


def _reader(reader: Reader, width: int, height: int) -> list[Text]:
    lines = [
        Text(f"consumer {reader.name}", style="bold"),
        Text(f"cursor at {reader.cursor}"),
    ]
    lines += [Text(line) for line in textwrap.wrap(reader.said, width, max_lines=height - 2, placeholder=" …")]
    return lines
