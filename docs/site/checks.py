"""What is checked of a site that was built, beside what Sphinx checks. Each function returns the problems, in words."""

from __future__ import annotations

import re
from pathlib import Path

from docs.site import contents

# What a browser loads with a page by itself. A link that the reader follows is none.
_LOADED = re.compile(
    r"<(?:script|img|iframe|link(?=[^>]*(?:stylesheet|icon|font)))\b[^>]*\b(?:src|href)=\"(?:https?:)?//"
    r"|@import|url\([\"']?(?:https?:)?//"
)


def unlisted() -> list[str]:
    """Pages that are in no section."""
    return [f"{page} is in no section of docs/site/contents.py" for page in contents.unlisted()]


def loaded_from_elsewhere(site: Path) -> list[str]:
    """Pages and styles that a browser completes from the network."""
    files = sorted(path for ending in ("html", "css") for path in site.rglob(f"*.{ending}"))
    return [
        f"{path.relative_to(site)} loads a file from the network" for path in files if _LOADED.search(path.read_text())
    ]


def missing(site: Path, address: str) -> list[str]:
    """Entries of llms.txt that are not on the site. `address`: where the site is published."""
    entries = re.findall(r"^- \[.+?\]\((.+?)\): ", (site / "llms.txt").read_text(), re.MULTILINE)
    places = [entry.removeprefix(address).lstrip("/") for entry in entries]
    problems = [f"llms.txt leads to {place}, which is not there" for place in places if not (site / place).is_file()]
    return problems if entries else ["llms.txt has no entries"]
