"""Export as an animated SVG: a strip of all frames, moved by CSS.

Without animation (on paper, with "reduce motion", in a viewer without CSS animation) it shows the end of the first
part. The picture loads nothing. rich draws the strip.
"""

from __future__ import annotations

import io
import re

from racebench.demo import screen
from racebench.demo.exports.cast import recorded_size
from racebench.demo.recording import Recording
from racebench.reports.formats.table_picture import FONT, THEME
from racebench.reports.terminal.plain_console import PlainConsole

_MARGIN = 12
_LINE = 24.4  # rich's line height at a font size of 20
_LETTER = 12.2
_END = 2

_TEMPLATE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 @width @height" role="img" aria-label="@title">
<title>@title</title>
<desc>@words</desc>
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px @font; white-space: pre; }}
.{unique_id}-film {{ transform: translateY(-@stillpx); animation: {unique_id}-step @secondss step-end infinite; }}
@media (prefers-reduced-motion: reduce) {{ .{unique_id}-film {{ animation: none; }} }}
@media print {{ .{unique_id}-film {{ animation: none; }} }}
@keyframes {unique_id}-step {{ @keys }}
{styles}
</style>
<rect width="100%" height="100%" rx="8" fill="@ground"/>
<svg x="@margin" y="@margin" width="@innerwidth" height="@innerheight" overflow="hidden">
<g class="{unique_id}-film">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
</svg>
"""


def render(recording: Recording) -> str:
    """The picture."""
    width, height = recorded_size(recording)
    console = PlainConsole(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor", no_color=False
    )
    for frame in recording.frames:
        place = screen.Place(
            title=recording.title,
            parts=len(recording.schedules),
            steps=recording.steps(frame.part),
            notes=recording.notes,
        )
        for line in screen.draw(frame, place, width, height):
            console.print(line, soft_wrap=True)
    strip = height * _LINE
    still = next(index for index, frame in enumerate(recording.frames) if frame.ended)
    keys, seconds = _keys(recording, strip)
    values = {
        "width": f"{width * _LETTER + 2 * _MARGIN:g}",
        "height": f"{strip + 2 * _MARGIN:g}",
        "innerwidth": f"{width * _LETTER:g}",
        "innerheight": f"{strip:g}",
        "margin": str(_MARGIN),
        "font": FONT,
        "still": f"{still * strip:g}",
        "seconds": f"{seconds:g}",
        "keys": keys,
        "ground": "#{:02x}{:02x}{:02x}".format(*THEME.background_color),
        "title": _escape(recording.title),
        "words": _escape(" ".join(frame.sentence for frame in recording.frames)),
    }
    template = re.sub(r"@(" + "|".join(values) + r")(?!\w*-)", lambda match: values[match[1]], _TEMPLATE)
    picture = console.export_svg(title="", theme=THEME, unique_id="demo", code_format=template)
    return re.sub(r' clip-path="url\([^"]*\)"', "", picture)  # the strip is clipped as a whole


def _keys(recording: Recording, strip: float) -> tuple[str, float]:
    """The CSS key frames, and the duration of all frames in seconds."""
    lengths = [recording.pace * (_END if frame.ended else 1) for frame in recording.frames]
    total = sum(lengths)
    keys, elapsed = [], 0.0
    for number, length in enumerate(lengths):
        keys.append(f"{100 * elapsed / total:.4g}% {{{{ transform: translateY(-{number * strip:g}px); }}}}")
        elapsed += length
    return " ".join(keys), total


def _escape(text: str) -> str:
    """Escape for XML, and double the braces, because the text goes through str.format."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return text.replace("{", "{{").replace("}", "}}")
