"""Draw a frame for a terminal: a fixed number of lines and columns, whatever the frame contains.

Readable without color: important things have a word or a mark (>, WAITS, DUPLICATE, MISSED) as well as a style. No dim
text, and no color that is invisible on a light or a dark background.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from racebench.demo import sql_layout
from racebench.demo.frames import ConsumerState, Frame, Lane, Line, Mark, State, Table

LEAST_WIDTH, LEAST_HEIGHT = 80, 24
_LEAST_LANE = 17
_BOTTOM = 4
_LONGEST_SENTENCE = 4
_LEAST_CONSUMER = 24
_LONGEST_NOTE = 4
_LONGEST_ANSWER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The marks that are drawn; a terminal without Unicode gets the ASCII ones."""

    now: str = "►"
    done: str = "✓"
    waits: str = "‖"
    refused: str = "✗"
    answer: str = "→ "
    anomaly: str = "‼ "
    between: str = " │ "
    rule: str = "─"
    dot: str = " · "
    more: str = "…"


UNICODE = Marks()
ASCII = Marks(
    now=">",
    done="+",
    waits="=",
    refused="x",
    answer="-> ",
    anomaly="!! ",
    between=" | ",
    rule="-",
    dot=" - ",
    more="...",
)
_STYLES = {State.NOW: "bold reverse", State.WAITS: "bold magenta", State.REFUSED: "bold red"}
HELP = (
    "space, right, page down   the next step; it runs on the server now",
    "b, left, page up          an earlier frame, from memory",
    "r                         run this part again from its start, in a new schema",
    "a                         start or stop automatic play",
    "n                         show or hide speaker notes",
    "q                         quit",
    "any key                   leave this page",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A frame's place in the demo, and the text around it."""

    title: str
    parts: int
    steps: int
    footer: str = ""
    notes: bool = False


def least(lanes: int) -> tuple[int, int]:
    """The smallest terminal for a number of lanes: columns and lines."""
    return max(LEAST_WIDTH, lanes * _LEAST_LANE + 3 * (lanes - 1)), LEAST_HEIGHT


def too_small(width: int, height: int, lanes: int) -> str:
    """The problem with a terminal of that size; "" if it is large enough."""
    columns, lines = least(lanes)
    if width >= columns and height >= lines:
        return ""
    return f"a terminal of {width} × {height} is too small, the demo needs {columns} × {lines}"


def draw(frame: Frame, place: Place, width: int, height: int, *, marks: Marks = UNICODE) -> list[Text]:
    """The lines of the screen: `height` lines, each exactly `width` columns wide."""
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
    lanes = _lanes(frame.lanes, width, min(free, _full_height(frame.lanes, width, marks)), marks)
    foot += [Text()] * (free - len(lanes))  # in a tall terminal the rows stay directly below the SQL
    foot.append(Text(place.footer))
    return [_to_ascii(_fit(line, width), marks) for line in [*head, *lanes, *foot]]


def _to_ascii(line: Text, marks: Marks) -> Text:
    """With ASCII marks, an ellipsis is drawn as one dot: one character replaces one."""
    return line if marks is UNICODE else Text(line.plain.replace("…", "."), style=line.style, spans=line.spans)


def help_page(width: int, height: int) -> list[Text]:
    """The page that explains the keys."""
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
    part = f"{marks.dot}part {frame.part + 1} of {place.parts}" if place.parts > 1 else ""
    step = "the end" if frame.ended else f"step {frame.number} of {place.steps}" if frame.number else "the start"
    right = f"{step}{part} "
    room = width - cell_len(right) - 1
    title = Text(left)
    title.truncate(room, overflow="ellipsis", pad=True)
    return Text.assemble(title, " ", right, style="bold reverse")


def _sentence(frame: Frame, width: int) -> list[Text]:
    text, style = frame.sentence, "bold"
    if frame.ended:
        style = "bold red" if frame.anomalies else "bold green"
        text = f"ANOMALY ({frame.verdict}). {text}" if frame.anomalies else text
    lines = textwrap.wrap(text, width, max_lines=_LONGEST_SENTENCE, placeholder=" …")
    return [Text(line, style=style) for line in lines] + [Text()] * (2 - len(lines))


# Lanes


def _lanes(lanes: Sequence[Lane], width: int, height: int, marks: Marks) -> list[Text]:
    widths = _widths(lanes, width, marks)
    columns = []
    for lane, lane_width in zip(lanes, widths, strict=True):
        title = Text(lane.heading, style="bold reverse" if lane.active else "bold")
        columns.append([title, *_script(lane, lane_width, height - 1, marks)])
    lines = []
    for index in range(height):
        line = Text()
        for number, (column, lane_width) in enumerate(zip(columns, widths, strict=True)):
            line.append(marks.between if number else "")
            line.append_text(_fit(column[index] if index < len(column) else Text(), lane_width))
        lines.append(line)
    return lines


def _widths(lanes: Sequence[Lane], width: int, marks: Marks) -> list[int]:
    room = width - len(marks.between) * (len(lanes) - 1)
    return [room // len(lanes) + (index < room % len(lanes)) for index in range(len(lanes))]


def _full_height(lanes: Sequence[Lane], width: int, marks: Marks) -> int:
    """Lines that the longest lane needs for its title, all clauses, and the answers, one of them long."""
    most = 0
    for lane, lane_width in zip(lanes, _widths(lanes, width, marks), strict=True):
        lines = sum(len(sql_layout.wrap(line.text, lane_width - 2)) + 2 for line in lane.lines)
        most = max(most, lines + _LONGEST_ANSWER - 1)
    return most


def _script(lane: Lane, width: int, height: int, marks: Marks) -> list[Text]:
    """The statements: the current one in full, the others as far as there is room."""
    inner = width - 2
    wrapped = [sql_layout.wrap(line.text, inner) for line in lane.lines]
    total = sum(len(lines) + 1 for lines in wrapped)  # a line for each answer
    gap = int(total + len(wrapped) - 1 <= height)
    if total > height:  # then a clause begins a new line only where that needs no more lines
        filled = [sql_layout.fill(line.text, inner) for line in lane.lines]
        wrapped = [min(by_clause, lines, key=len) for by_clause, lines in zip(wrapped, filled, strict=True)]
    answers = [_answer(line, lane, inner, marks) for line in lane.lines]
    current = _current(lane)
    first = 0
    while first < current and sum(1 + bool(answer) for answer in answers[first:]) > height:
        first += 1  # the oldest statements are not shown
    heights = [1] * len(wrapped)
    answered = [min(1, len(answer)) for answer in answers]
    spare = height - sum(heights[first:]) - sum(answered[first:]) - gap * (len(wrapped) - 1)
    for place in (current, *(other for other in range(first, len(wrapped)) if other != current)):
        for granted, lines in ((answered, answers[place]), (heights, wrapped[place])):
            more = max(0, min(spare, len(lines) - granted[place]))
            granted[place] += more
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


def _current(lane: Lane) -> int:
    """Index of the current statement: the waiting, the just answered, the refused, the last answered, or the first."""
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
    text = lane.status if line.state is State.WAITS else f"{marks.answer}{line.answer}" if line.answer else ""
    return textwrap.wrap(text, width, max_lines=_LONGEST_ANSWER, placeholder=f" {marks.more}") if text else []


def _clip(lines: Sequence[str], height: int, width: int, marks: Marks) -> list[str]:
    if len(lines) <= height:
        return list(lines)
    if not height:
        return []
    last = Text(lines[height - 1])
    last.truncate(width - len(marks.more))
    return [*lines[: height - 1], last.plain.rstrip() + marks.more]


# The tables and the consumer


def _bottom_height(frame: Frame, height: int) -> int:
    """Four lines; in a tall terminal one for each row, up to a quarter of the height."""
    rows = sum(1 + len(table.rows) for table in frame.tables)
    return max(_BOTTOM, min(rows, height // 4))


def _bottom(frame: Frame, width: int, height: int, marks: Marks) -> list[Text]:
    left_width = width
    right: list[Text] = []
    if frame.consumer is not None:
        widest = width - len(marks.between) - _LEAST_CONSUMER
        left_width = max(min(widest, _needed(frame.tables, marks)), (width - len(marks.between)) // 2)
        right = _consumer(frame.consumer, width - len(marks.between) - left_width, height)
    left = _tables(frame.tables, left_width, height, marks)
    lines = []
    for index in range(height):
        line = _fit(left[index] if index < len(left) else Text(), left_width)
        if frame.consumer is not None:
            line.append(marks.between)
            line.append_text(right[index] if index < len(right) else Text())
        lines.append(line)
    return lines


def _needed(tables: Sequence[Table], marks: Marks) -> int:
    """Columns that the widest row needs."""
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
    """A row with its marks; if there is too little room, the cells are cut, not the marks."""
    row = table.rows[number]
    remarks = Text()
    for mark in row.marks:
        severe = mark in (Mark.DUPLICATE, Mark.MISSED)
        remarks.append("  ")
        remarks.append(f"{marks.anomaly if severe else ''}{mark.value}", style="bold red" if severe else "")
    pairs = zip(table.columns, (cell.replace("session ", "s") for cell in row.cells), strict=True)
    cells = Text(" " + "  ".join(f"{column.replace('written by', 'by')} {cell}" for column, cell in pairs))
    cells.truncate(max(width - remarks.cell_len, 0), overflow="ellipsis")
    return cells.append_text(remarks)


def _consumer(consumer: ConsumerState, width: int, height: int) -> list[Text]:
    lines = [
        Text(f"consumer {consumer.name}", style="bold"),
        Text(f"cursor at {consumer.cursor}"),
    ]
    lines += [Text(line) for line in textwrap.wrap(consumer.summary, width, max_lines=height - 2, placeholder=" …")]
    return lines
