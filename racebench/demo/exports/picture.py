"""A picture that steps through the frames by itself: an SVG with a strip of them, moved by CSS.

Where nothing moves (paper, "reduce motion", a viewer without CSS animation) it is the end of the first act. Nothing in
it is fetched. rich draws the strip.
"""

from __future__ import annotations

import io
import re

from rich.console import Console

from racebench.demo import screen
from racebench.demo.exports.cast import recorded_size
from racebench.demo.shown import Shown
from racebench.reports.formats.svg import FONT, THEME

_MARGIN = 12
_LINE = 24.4  # rich's, for letters of 20
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


def render(shown: Shown) -> str:
    """The picture."""
    width, height = recorded_size(shown)
    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor", no_color=False
    )
    for frame in shown.frames:
        place = screen.Place(
            title=shown.title, acts=len(shown.schedules), steps=shown.steps(frame.act), notes=shown.notes
        )
        for line in screen.draw(frame, place, width, height):
            console.print(line, highlight=False, soft_wrap=True)
    strip = height * _LINE
    still = next(at for at, frame in enumerate(shown.frames) if frame.ended)
    keys, seconds = _keys(shown, strip)
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
        "title": _escape(shown.title),
        "words": _escape(" ".join(frame.sentence for frame in shown.frames)),
    }
    template = re.sub(r"@(" + "|".join(values) + r")(?!\w*-)", lambda match: values[match[1]], _TEMPLATE)
    picture = console.export_svg(title="", theme=THEME, unique_id="demo", code_format=template)
    return re.sub(r' clip-path="url\([^"]*\)"', "", picture)  # the strip is clipped as a whole


def _keys(shown: Shown, strip: float) -> tuple[str, float]:
    """When which frame is shown, and how long all of them take."""
    lengths = [shown.pace * (_END if frame.ended else 1) for frame in shown.frames]
    whole = sum(lengths)
    keys, at = [], 0.0
    for number, length in enumerate(lengths):
        keys.append(f"{100 * at / whole:.4g}% {{{{ transform: translateY(-{number * strip:g}px); }}}}")
        at += length
    return " ".join(keys), whole


def _escape(text: str) -> str:
    """As XML, and twice in braces, because a format follows."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return text.replace("{", "{{").replace("}", "}}")
