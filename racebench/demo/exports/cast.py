"""A recording for asciinema: version 2, a header and one event a frame, each a line of JSON.

Source: docs.asciinema.org, "asciicast v2".
"""

from __future__ import annotations

import io
import json

from rich.console import Console

from racebench.demo import screen
from racebench.demo.show import ansi
from racebench.demo.shown import Shown

WIDTH, HEIGHT = screen.LEAST_WIDTH, screen.LEAST_HEIGHT
_END = 2  # an end is shown for so many paces


def render(shown: Shown) -> str:
    """The recording. It has no date, so that the same demo is the same file."""
    width, height = recorded_size(shown)
    header = {"version": 2, "width": width, "height": height, "title": shown.title, "env": {"TERM": "xterm-256color"}}
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=10_000, no_color=False)
    lines = [json.dumps(header, ensure_ascii=False)]
    at = 0.0
    for frame in shown.frames:
        place = screen.Place(
            title=shown.title, acts=len(shown.schedules), steps=shown.steps(frame.act), notes=shown.notes
        )
        drawn = "\r\n".join(ansi(console, line) for line in screen.draw(frame, place, width, height))
        lines.append(json.dumps([round(at, 3), "o", f"\x1b[?25l\x1b[H\x1b[2J{drawn}"], ensure_ascii=False))
        at += shown.pace * (_END if frame.ended else 1)
    lines.append(json.dumps([round(at, 3), "o", "\x1b[?25h\r\n"]))
    return "\n".join([*lines, ""])


def recorded_size(shown: Shown) -> tuple[int, int]:
    """Columns and lines: the least that every frame fits."""
    sizes = [screen.least(len(frame.lanes)) for frame in shown.frames]
    return max(width for width, _ in sizes), max(height for _, height in sizes)
