"""The style that all pages share, and the other files that a page contains: read, and named for its security policy.

Pages load nothing: their style and script are in them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

_FOLDER = Path(__file__).parent
_KEPT = re.compile(r"^\s+", re.MULTILINE)


def asset(name: str, folder: Path = _FOLDER) -> str:
    """A file without its indentation, which would be a tenth of the page."""
    return _KEPT.sub("", (folder / name).read_text(encoding="utf-8"))


def shared_style() -> str:
    """Fonts, colors in both themes, and what every page has: headings, tables, buttons, what scrolls, paper."""
    return asset("theme.css") + asset("base.css")


def digest(text: str) -> str:
    """A style or a script as the content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
