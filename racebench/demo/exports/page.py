"""Export as a page with step controls: one file that loads nothing.

Without its script, and on paper, the page has every step. Text from a scenario or a server is only
ever text between tags; the script contains none of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from racebench import __version__
from racebench.demo import sql_layout
from racebench.demo.frames import Frame, Lane, Line, Mark, State, Table
from racebench.demo.recording import Recording
from racebench.reports.page.assets import asset, digest, shared_style

_WORDS = {State.NOW: "now", State.DONE: "done", State.WAITS: "waits", State.REFUSED: "refused", State.AHEAD: ""}
_SIGNS = {State.NOW: "►", State.DONE: "✓", State.WAITS: "‖", State.REFUSED: "✗"}
_SEVERE = (Mark.DUPLICATE, Mark.MISSED)

_FOLDER = Path(__file__).parent


def render(recording: Recording) -> str:
    """The page."""
    style = shared_style() + asset("page.css", _FOLDER)
    script = asset("base.js") + asset("page.js", _FOLDER)
    policy = (
        f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    frames = "\n".join("".join(_frame(frame, recording)) for frame in recording.frames)
    again = "".join(f'<li><code class="wrap">{escape(command)}</code></li>' for command in recording.commands)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="racebench {__version__}">
<title>{escape(recording.title)} · racebench</title>
<style>{style}</style>
</head>
<body data-pace="{recording.pace:g}">
<header class="top"><p class="eyebrow">racebench demo</p>
<h1>{escape(recording.title)}</h1></header>
<nav aria-label="Steps"><div class="bar-of-buttons"><button id="back" type="button">‹ Back</button>
<button id="next" type="button" class="main">Next ›</button>
<button id="play" type="button" aria-pressed="false">Play</button><span id="place"></span>
<span class="keys">Keys: → or space, ←, Home, End</span></div></nav>
<main aria-live="polite">
{frames}
</main>
<footer><p>Every step ran on a real PostgreSQL. To show it again, step by step:</p><ul>{again}</ul>
{_made(recording)}</footer>
<script>{script}</script>
</body>
</html>
"""


def _made(recording: Recording) -> str:
    """What made the page; it loads nothing."""
    made = f"Made by racebench {__version__}{f', {escape(recording.created)}' if recording.created else ''}"
    command = f': <code class="wrap">{escape(recording.command)}</code>' if recording.command else ""
    return f"<p>{made}{command}. This page loads nothing from the network.</p>"


def _frame(frame: Frame, recording: Recording) -> Iterator[str]:
    part = f"part {frame.part + 1}: " if len(recording.schedules) > 1 else ""
    where = f"step {frame.number} of {recording.steps(frame.part)}" if frame.number else "the start"
    where = "the end" if frame.ended else where
    kind = "" if not frame.ended else " anomaly" if frame.anomalies else " clean"
    yield f'<section class="frame"><h2>{escape(f"{part}{frame.heading}, {where}")}</h2>'
    yield f'<p class="sentence{kind}">{escape(frame.sentence)}</p>'
    if frame.ended:
        verdict = escape(("Anomaly: " if frame.anomalies else "") + frame.verdict)
        yield f'<p class="{kind.strip()}"><strong>{verdict}</strong></p>'
    yield '<div class="lanes">' + "".join(map(_lane, frame.lanes)) + "</div>"
    yield '<div class="state">' + "".join(map(_table, frame.tables)) + _consumer(frame) + "</div>"
    if recording.notes and frame.note:
        yield f"<aside><strong>Notes:</strong> {escape(frame.note)}</aside>"
    yield "</section>"


def _lane(lane: Lane) -> str:
    active = " active" if lane.active else ""
    lines = "".join(_line(line, lane) for line in lane.lines)
    return f'<section class="lane{active}"><h3>{escape(lane.heading)}</h3><ol>{lines}</ol></section>'


def _line(line: Line, lane: Lane) -> str:
    word = _WORDS[line.state]
    sql = "\n".join(sql_layout.clauses(line.text))
    mark = f'<span class="mark" role="img" aria-label="{word}">{_SIGNS[line.state]}</span> ' if word else ""
    answer = lane.status if line.state is State.WAITS else f"→ {line.answer}" if line.answer else ""
    answered = f'<span class="answer"><code>{escape(answer)}</code></span>' if answer else ""
    return f'<li class="{word or "ahead"}">{mark}<code>{escape(sql)}</code>{answered}</li>'


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in (*table.columns, ""))
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row.cells) + f"<td>{_marks(row.marks)}</td></tr>"
        for row in table.rows
    )
    title = escape(table.title)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table><caption>{title}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _marks(marks: tuple[Mark, ...]) -> str:
    return ", ".join(f'<span class="severe">{mark.value}</span>' if mark in _SEVERE else mark.value for mark in marks)


def _consumer(frame: Frame) -> str:
    if frame.consumer is None:
        return ""
    return (
        f"<div><strong>{escape(f'Consumer {frame.consumer.name}')}</strong><br>"
        f"{escape(f'cursor at {frame.consumer.cursor}')}<br>{escape(frame.consumer.summary)}</div>"
    )
