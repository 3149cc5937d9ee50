"""The formats in which results are written: what each can hold, by name. Documented in docs/ci.md and docs/report.md.

To add one, add its file here, with a function that renders a Material, and its entry to FORMATS. What a format needs is
imported when it is rendered: the command line reads the names for its help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from racebench.core.errors import UsageProblem, suggest
from racebench.core.plain_text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from racebench.reports.results.document import Document
    from racebench.reports.results.explorations import Explorations
    from racebench.reports.results.sources import Source

    Content = Document | Explorations

DEFAULT_TITLE = "racebench run"


class Holds(Enum):
    """How a format takes several results."""

    ONE = "all runs together as one document; nothing of explorations, or one document of them"
    KINDS = "all runs together as one document, then all explorations as one"
    SEVERAL = "documents one after another"
    FILES = "the saved files themselves, beside which the histories of their runs are looked up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One format.

    `renderer` is the function that makes its text of a Material, as "module:function" below racebench.reports; `shower`
    prints one document on a console in color, "" for a format that is only text. `explorations`: it has a form for
    those too. `option` is a command-line option of `racebench report` that is short for it, with its help.
    """

    name: str
    renderer: str
    holds: Holds = Holds.ONE
    explorations: bool = False
    shower: str = ""
    option: str = ""
    option_help: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What is rendered: `sources` as they were read, and `documents`, arranged as the format takes them.

    `exit_code`: that of the command that has measured them; None if it is not known.
    """

    sources: tuple[Source, ...]
    documents: tuple[Content, ...]
    title: str = DEFAULT_TITLE
    exit_code: int | None = None

    @property
    def runs(self) -> Document:
        """The one document of runs; for formats that hold nothing else."""
        from racebench.reports.results.document import Document

        (document,) = self.documents
        assert isinstance(document, Document)
        return document


FORMATS: Mapping[str, Format] = {
    format_.name: format_
    for format_ in (
        Format(
            name="table",
            renderer="formats.terminal:table",
            shower="formats.terminal:show",
            holds=Holds.KINDS,
            explorations=True,
        ),
        Format(name="matrix", renderer="formats.terminal:matrix", shower="terminal.matrix_table:show"),
        Format(name="markdown", renderer="formats.markdown:render", holds=Holds.SEVERAL, explorations=True),
        Format(name="json", renderer="formats.json_document:render", explorations=True),
        Format(name="junit", renderer="formats.junit:render", holds=Holds.SEVERAL, explorations=True),
        Format(name="summary", renderer="formats.job_summary:render", holds=Holds.SEVERAL, explorations=True),
        Format(name="sarif", renderer="formats.sarif:render", holds=Holds.SEVERAL, explorations=True),
        Format(name="svg", renderer="formats.table_picture:render"),
        Format(name="csv", renderer="formats.csv_table:render"),
        Format(name="bigger-is-better", renderer="formats.github_benchmark:bigger"),
        Format(name="smaller-is-better", renderer="formats.github_benchmark:smaller"),
        Format(
            name="html",
            renderer="formats.html_page:render",
            holds=Holds.FILES,
            explorations=True,
            option="--html",
            option_help="Write a page that needs no other file; short for --format html -o PATH.",
        ),
        Format(
            name="timeline",
            renderer="formats.timeline:render",
            holds=Holds.FILES,
            explorations=True,
            option="--svg",
            option_help="Write the timeline of a race as a picture; short for --format timeline -o PATH.",
        ),
    )
}

#: Earlier names that still work, and the name to use instead.
RENAMED: Mapping[str, str] = {"grid": "matrix"}

#: The formats that a command can write of its own results: of runs, and of explorations.
OF_RUNS = tuple(name for name, format_ in FORMATS.items() if format_.holds is not Holds.FILES)
OF_EXPLORATIONS = tuple(name for name in OF_RUNS if FORMATS[name].explorations)


def find(name: str) -> Format:
    """The format of that name, also of an earlier one; raises UsageProblem, with a suggestion, for any other."""
    known = RENAMED.get(name, name)
    if known not in FORMATS:
        raise UsageProblem(f"format '{name}' is unknown{suggest(name, FORMATS)}")
    return FORMATS[known]


def read(paths: Sequence[Path]) -> tuple[Source, ...]:
    """Read saved results; raises UsageProblem for a file that is not a result."""
    from racebench.reports.results import sources

    return tuple(sources.read(path) for path in paths)


def render(name: str, sources: Sequence[Source], *, title: str = DEFAULT_TITLE, exit_code: int | None = None) -> str:
    """Results as the text of a format; raises UsageProblem where it has no such form."""
    format_ = find(name)
    arranged = Material(sources=tuple(sources), documents=_arranged(format_, sources), title=title, exit_code=exit_code)
    return printable(_renderer(format_)(arranged))


def shown(name: str, sources: Sequence[Source]) -> Callable[[Console], None] | None:
    """What prints the results on a console in color; None for a format that is only text, or for several documents."""
    format_ = find(name)
    documents = _arranged(format_, sources) if format_.shower else ()
    if len(documents) != 1:
        return None
    show = cast("Callable[[Console, Content], None]", _imported(format_.shower))
    return lambda console: show(console, documents[0])


def write(name: str, content: Content, path: Path, *, exit_code: int | None = None) -> None:
    """Write results to a file, whole or not at all."""
    from racebench.reports.results.document import write_atomically

    write_atomically(path, text(name, content, path, exit_code=exit_code))


def text(name: str, content: Content, path: Path = Path(), *, exit_code: int | None = None) -> str:
    """Results that were just measured as the text of a format; `path`: where it is written, if to a file."""
    from racebench.reports.results.sources import Source

    return render(name, [Source(path=path, content=content)], exit_code=exit_code)


def _arranged(format_: Format, sources: Sequence[Source]) -> tuple[Content, ...]:
    """The documents as a format takes them: runs first, then explorations.

    Runs with thresholds or a comparison stay a document of their own where a format takes several: those are of its own
    runs, and would be lost among others.
    """
    from racebench.reports.results import document, explorations

    contents = [source.content for source in sources]
    if format_.holds is Holds.FILES:
        return tuple(contents)
    runs = [content for content in contents if isinstance(content, document.Document)]
    explored = [content for content in contents if isinstance(content, explorations.Explorations)]
    if explored and not format_.explorations:
        known = ", ".join(OF_EXPLORATIONS)
        raise UsageProblem(f"--format {format_.name} is for runs, and these are explorations; take {known}")
    judged = [one for one in runs if one.comparison is not None or one.thresholds]
    plain = [one for one in runs if one not in judged]
    if format_.holds is not Holds.SEVERAL:
        plain, judged = [*plain, *judged], []
    documents: tuple[Content, ...] = (
        *([document.merge(plain)] if plain else []),
        *judged,
        *([explorations.merge(explored)] if explored else []),
    )
    if format_.holds is Holds.ONE and len(documents) > 1:
        raise UsageProblem(
            f"--format {format_.name} is for runs or for explorations, not for both in one file; name them apart"
        )
    return documents


def _renderer(format_: Format) -> Callable[[Material], str]:
    return cast("Callable[[Material], str]", _imported(format_.renderer))


def _imported(name: str) -> object:
    """The function of a "module:function" below racebench.reports."""
    module, _, function = name.partition(":")
    value: object = getattr(import_module(f"racebench.reports.{module}"), function)
    return value
