"""Links of Markdown pages: found, and replaced by what a function says. Imports only the standard library.

The pages of the repository link to each other relatively, so that they can be read there. On the site a page has
another place, and on a package index the README is alone. The package's build imports this file, too
(package_readme.py).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Fenced blocks and code in a line come first, so that nothing in them is taken for a link.
_LINK = re.compile(
    r"^(?P<fence>```+).*?^(?P=fence)[ ]*$|(?P<code>`+)[^`].*?(?P=code)(?!`)"
    r"|(?P<bang>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A relative link or a picture. `path`: where it leads, from the root of the repository; `fragment`: after #."""

    path: str
    fragment: str
    picture: bool


def replaced(text: str, page: str, where: Callable[[Link], str | None]) -> str:
    """The text of `page` with the target of each relative link replaced by `where(link)`.

    Where that is None the link's text stays, without a link. Links inside the page and whole addresses are kept.
    """

    def one(match: re.Match[str]) -> str:
        target = match["target"]
        if target is None or "://" in target or target.startswith(("#", "mailto:")):
            return match[0]
        path, _, fragment = target.partition("#")
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        found = where(Link(path=whole, fragment=fragment, picture=bool(match["bang"])))
        return match["text"] if found is None else f"{match['bang']}[{match['text']}]({found})"

    return _LINK.sub(one, text)


def in_repository(repository: str, version: str, link: Link) -> str:
    """The address of a file or folder in the public repository, at the tag of this version."""
    kind = "raw" if link.picture else "blob"
    fragment = f"#{link.fragment}" if link.fragment else ""
    return f"{repository.rstrip('/')}/{kind}/v{version}/{link.path}{fragment}"


def package_readme(root: Path, repository: str) -> str:
    """README.md as the description of a package, where relative links lead nowhere.

    Each relative link and picture gets its address in `repository` at the tag of this version. If that is "", a link is
    replaced by its text, and a picture by its description.
    """
    code = (root / "racebench" / "__init__.py").read_text()
    version = re.search(r'^__version__ = "(.+)"$', code, re.MULTILINE)
    assert version, "racebench/__init__.py has the version"

    def where(link: Link) -> str | None:
        return in_repository(repository, version[1], link) if repository else None

    return replaced((root / "README.md").read_text(), "README.md", where)
