"""Where the documentation is: the one place from which messages and help texts take it.

The address is `Documentation` in `[project.urls]` of pyproject.toml, which is in the metadata of the installed package.
A package that was built without it names the page's file in the repository, `docs/history.md`.
"""

from __future__ import annotations

import re
from functools import cache

_PAGE = re.compile(r"\bdocs/([\w/-]+)\.md(#[\w-]+)?")
_LABEL = "Documentation"


@cache
def address() -> str:
    """The site's address without a slash at its end; "" if the installed package has none."""
    from importlib import metadata  # 20 ms, and only a message needs it

    try:
        entries = metadata.metadata("racebench").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:  # the code runs from a folder, without an installation
        return ""
    found = (url.strip() for label, _, url in (entry.partition(",") for entry in entries) if label == _LABEL)
    return next(found, "").rstrip("/")


def page(name: str) -> str:
    """A page of docs/ to name in a message: `page("history")` is `docs/history.md`, or the page's address."""
    return with_addresses(f"docs/{name}.md")


def with_addresses(text: str) -> str:
    """The text with the address of every page of docs/ that it names, if the site has an address."""
    site = address() if "docs/" in text else ""
    return _PAGE.sub(lambda match: f"{site}/{match[1]}.html{match[2] or ''}", text) if site else text
