"""Export for asciinema, version 2: a header and one event for each frame, each a line of JSON.

Source: docs.asciinema.org, "asciicast v2".
"""

from __future__ import annotations

import io
import json

from racebench.demo import screen
from racebench.demo.recording import Recording
from racebench.demo.viewer import ansi
from racebench.reports.terminal.plain_console import PlainConsole

WIDTH, HEIGHT = screen.LEAST_WIDTH, screen.LEAST_HEIGHT
_END = 2  # the end of a part is shown for this many paces


def render(recording: Recording) -> str:
    """The file. It has no date, so that the same demo gives the same file."""
    width, height = recorded_size(recording)
    header = {
        "version": 2,
        "width": width,
        "height": height,
        "title": recording.title,
        **({"command": recording.command} if recording.command else {}),
        "env": {"TERM": "xterm-256color"},
    }
    console = PlainConsole(
        file=io.StringIO(), force_terminal=True, color_system="standard", width=10_000, no_color=False
    )
    lines = [json.dumps(header, ensure_ascii=False)]
    seconds = 0.0
    for frame in recording.frames:
        place = screen.Place(
            title=recording.title,
            parts=len(recording.schedules),
            steps=recording.steps(frame.part),
            notes=recording.notes,
        )
        drawn = "\r\n".join(ansi(console, line) for line in screen.draw(frame, place, width, height))
        lines.append(json.dumps([round(seconds, 3), "o", f"\x1b[?25l\x1b[H\x1b[2J{drawn}"], ensure_ascii=False))
        seconds += recording.pace * (_END if frame.ended else 1)
    lines.append(json.dumps([round(seconds, 3), "o", "\x1b[?25h\r\n"]))
    return "\n".join([*lines, ""])


def recorded_size(recording: Recording) -> tuple[int, int]:
    """Columns and lines: the smallest terminal that every frame fits."""
    sizes = [screen.least(len(frame.lanes)) for frame in recording.frames]
    return max(width for width, _ in sizes), max(height for _, height in sizes)
