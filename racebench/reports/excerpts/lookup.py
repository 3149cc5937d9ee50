"""The excerpt of a result: from the history file that its document names, or else from its witnesses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from racebench.core.errors import UsageProblem
from racebench.core.results import RunResult
from racebench.history import archive
from racebench.history.recorded import Recorded
from racebench.history.spill import Scratch
from racebench.reports.excerpts import Excerpt, history, witnesses


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """An excerpt, None if there is nothing to show, and the reason if it is not from the history."""

    excerpt: Excerpt | None
    without: str | None


def find(document: Path, result: RunResult, *, most: int) -> Lookup:
    """About `most` operations of a result in a document at that path. A history that cannot be read is not an error."""
    if result.history is None:
        return Lookup(excerpt=witnesses.of_result(result), without="no history of this run was kept")
    path = _path(document, result.history)
    if path is None:
        name = Path(result.history).name
        without = f"its history, {name}, is neither where the result says nor beside it"
        return Lookup(excerpt=witnesses.of_result(result), without=without)
    with Scratch() as scratch:
        try:
            recorded = archive.read(path, scratch)
        except UsageProblem as problem:
            return Lookup(excerpt=witnesses.of_result(result), without=f"its history cannot be read ({problem})")
        if not _of(recorded, result):
            without = f"{path.name} is the history of another run"
            return Lookup(excerpt=witnesses.of_result(result), without=without)
        return Lookup(excerpt=history.of_history(recorded.history, result, scratch, most=most), without=None)


def _path(document: Path, history: str) -> Path | None:
    """The file of a history: where the document says, which is relative to its folder, else beside the document.

    Only a regular file that is named as histories are: a document must not have another file read.
    """
    if not history.endswith(archive.SUFFIX):
        return None
    places = (document.parent / history, document.parent / Path(history).name)
    return next((place for place in places if place.is_file()), None)


def _of(recorded: Recorded, result: RunResult) -> bool:
    about = recorded.about
    return (about.scenario, about.strategy, len(recorded.history.operations)) == (
        result.scenario,
        result.strategy,
        result.counts["attempts"],
    )
