"""Lays out the sources of the site in a folder: the pages at their places, with the links that hold there.

A link to a page of the site leads to that page. A link to another file of the repository leads to its public address,
or, while the project has none, to a copy of the file on the site. A link to a folder without a public address is its
text.
"""

from __future__ import annotations

import posixpath
import shutil
import tomllib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from docs.site import contents, library, links, reference
from racebench import __version__
from racebench.cli import schemas
from racebench.cli.main import cli


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """What `[project.urls]` of pyproject.toml says: the public addresses, "" where there is none."""

    repository: str = ""
    documentation: str = ""


def addresses(root: Path = contents.ROOT) -> Addresses:
    urls = tomllib.loads((root / "pyproject.toml").read_text())["project"].get("urls", {})
    return Addresses(repository=urls.get("Repository", ""), documentation=urls.get("Documentation", ""))


@dataclass(slots=True, kw_only=True)
class Staging:
    """The folder of the sources, and the files of the repository that pages link to.

    `problems`: links that lead nowhere, a sentence each.
    """

    folder: Path
    addresses: Addresses
    root: Path = contents.ROOT
    problems: list[str] = field(init=False, default_factory=list)
    _places: dict[str, PurePosixPath] = field(init=False)

    def __post_init__(self) -> None:
        pages = [contents.START, *(page for section in contents.sections(self.root) for page in section.pages)]
        self._places = {page: contents.place(page) for page in pages}

    def lay_out(self) -> None:
        """Write every page and the JSON schemas."""
        for page, place in self._places.items():
            self._write(place, self._text(page, place))
        for schema in reference.schemas(self.root):
            self._copy(schema, PurePosixPath("schemas") / schema.name)
        self._write(PurePosixPath("schemas") / schemas.SETTINGS, schemas.text("settings", cli))

    def _text(self, page: str, place: PurePosixPath) -> str:
        if page == contents.COMMANDS:
            return reference.commands_page()
        if page == contents.LIBRARY:
            return library.page()
        if page == contents.SCHEMAS:
            return reference.schemas_page(self.root)
        text = (self.root / page).read_text()
        text = links.replaced(text, page, lambda link: self._target(link, page, place))
        if title := contents.TITLES.get(page):
            text = f"# {title}\n\n{text}"
        return text + self._navigation() if page == contents.START else text

    def _target(self, link: links.Link, page: str, place: PurePosixPath) -> str | None:
        if not (self.root / link.path).exists():
            self.problems.append(f"{page} links to {link.path}, which does not exist")
        fragment = f"#{link.fragment}" if link.fragment else ""
        there = self._places.get(link.path)
        if there is None and (schema := self.root / link.path) in reference.schemas(self.root):
            there = PurePosixPath("schemas") / schema.name
        if there is None and not link.picture and self.addresses.repository:
            return links.in_repository(self.addresses.repository, __version__, link)
        if there is None and (self.root / link.path).is_file():
            there = (
                PurePosixPath(link.path.removeprefix("docs/")) if link.picture else PurePosixPath("files") / link.path
            )
            self._copy(self.root / link.path, there)
        if there is None:
            return None
        return posixpath.relpath(there.as_posix(), place.parent.as_posix() or ".") + fragment

    def _navigation(self) -> str:
        """The table of contents, which Sphinx reads on the first page."""
        parts = []
        for number, section in enumerate(contents.sections(self.root)):
            entries = [contents.place(page).with_suffix("").as_posix() for page in section.pages]
            if number == 0:
                entries.insert(0, "racebench <self>")
            lines = "\n".join(entries)
            parts.append(f"```{{toctree}}\n:hidden:\n:caption: {section.title}\n\n{lines}\n```")
        return "\n" + "\n\n".join(parts) + "\n"

    def _write(self, place: PurePosixPath, text: str) -> None:
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _copy(self, source: Path, place: PurePosixPath) -> None:
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
