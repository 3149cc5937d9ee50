"""The table of contents: every page of the site, in the reader's order. A page that is in no section is an error.

A page is named by its Markdown file in the repository. A star stands for the pages of a folder that are not named
elsewhere. The pages in `GENERATED` have no such file: they are made from the code when the site is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]

#: The first page of the site.
START = "README.md"
#: The pages that are made from the code, by their place on the site.
COMMANDS = "reference/commands.md"
LIBRARY = "reference/library.md"
SCHEMAS = "reference/schemas.md"
GENERATED = (COMMANDS, LIBRARY, SCHEMAS)

#: Pages outside docs/, by their place on the site.
_ELSEWHERE = {
    START: "index.md",
    "CHANGELOG.md": "changes.md",
    "results/reference/matrix.md": "reference/matrix.md",
    "results/reference/explored.md": "reference/explored.md",
}

#: Headings of pages that have none.
TITLES = {
    "results/reference/matrix.md": "The matrix of strategies and consumers",
    "results/reference/explored.md": "The catalog, explored",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading in the navigation, with its pages in order."""

    title: str
    pages: tuple[str, ...]


SECTIONS = (
    Section(title="Start", pages=("docs/how-it-works.md",)),
    Section(
        title="Your own code",
        pages=(
            "docs/own-code.md", "docs/without-invariant.md", "docs/any-language.md", "docs/scripts.md",
            "docs/scenarios.md",
        ),
    ),
    Section(title="In CI", pages=("docs/ci.md", "docs/compare.md")),
    Section(
        title="Exploring and load",
        pages=("docs/explore.md", "docs/specs.md", "docs/deployments.md", "docs/scale.md"),
    ),
    Section(title="Demonstrating", pages=("docs/demo.md", "docs/report.md")),
    Section(
        title="Reference",
        pages=(
            COMMANDS, LIBRARY, "docs/settings.md", "docs/exit-codes.md", "docs/results.md", SCHEMAS, "docs/history.md",
            "results/reference/matrix.md", "results/reference/explored.md",
        ),
    ),
    Section(
        title="Findings and measurements",
        pages=("docs/findings/*", "docs/isolation.md", "docs/claims.md", "docs/performance.md", "docs/reliability.md"),
    ),
    Section(title="Contributing", pages=("docs/contributing.md", "CHANGELOG.md", "docs/decisions/README.md")),
    Section(title="Decisions", pages=("docs/decisions/*",)),
)  # fmt: skip


def sections(root: Path = ROOT) -> tuple[Section, ...]:
    """The sections with every star replaced by the pages for which it stands, in the order of their names."""
    named = {page for section in SECTIONS for page in section.pages}
    return tuple(
        Section(
            title=section.title,
            pages=tuple(page for name in section.pages for page in (_below(name, root, named) or [name])),
        )
        for section in SECTIONS
    )


def _below(name: str, root: Path, named: set[str]) -> list[str]:
    if not name.endswith("/*"):
        return []
    found = sorted((root / name.removesuffix("/*")).glob("*.md"))
    return [page for path in found if (page := path.relative_to(root).as_posix()) not in named]


def unlisted(root: Path = ROOT) -> list[str]:
    """Markdown files in docs/ that are in no section."""
    listed = {page for section in sections(root) for page in section.pages}
    pages = (path.relative_to(root).as_posix() for path in sorted((root / "docs").rglob("*.md")))
    return [page for page in pages if page not in listed]


def place(page: str) -> PurePosixPath:
    """Where a page is on the site, as a Markdown file: `docs/own-code.md` is `own-code.md`."""
    if page in GENERATED:
        return PurePosixPath(page)
    return PurePosixPath(_ELSEWHERE.get(page) or page.removeprefix("docs/"))
