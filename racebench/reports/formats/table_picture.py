"""The terminal report as an SVG picture that opens offline: rich's export without its web fonts."""

from __future__ import annotations

import io
import re

from rich.terminal_theme import TerminalTheme

from racebench.reports.formats import Material
from racebench.reports.terminal import run_table, tables
from racebench.reports.terminal.plain_console import PlainConsole
from racebench.reports.terminal.tables import Grid

_WIDTH = 92
FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
_DARK, _LIGHT = (30, 32, 40), (222, 224, 230)
_HUES = [(255, 107, 107), (105, 219, 124), (255, 212, 59), (116, 192, 252), (218, 119, 242), (102, 217, 232)]
THEME = TerminalTheme(_DARK, _LIGHT, [_DARK, *_HUES, _LIGHT], [(134, 142, 150), *_HUES, (255, 255, 255)])


def render(material: Material) -> str:
    """The picture. Nothing in it is fetched: no @font-face, no address but the SVG namespace."""
    parts = list(run_table.render(material.runs, width=_WIDTH))
    width = max([_WIDTH, *(part.least_width for part in parts if isinstance(part, Grid))])
    console = PlainConsole(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor",
    )  # fmt: skip
    tables.show(console, parts)
    picture = console.export_svg(title=material.title, theme=THEME, unique_id="racebench")
    picture = re.sub(r"@font-face\s*{.*?}\s*", "", picture, flags=re.DOTALL)
    picture = re.sub(r"font-family: Fira Code, monospace", f"font-family: {FONT}", picture)
    return re.sub(r"<!-- Generated with Rich [^>]*-->\s*", "", picture)
