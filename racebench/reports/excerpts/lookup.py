"""The excerpt of a result: from the history file beside its document, or else from its witnesses."""

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
    path = _place(document.parent, Path(result.history))
    if path is None:
        without = f"its history, {Path(result.history).name}, is neither where the result says nor beside it"
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


def _place(folder: Path, named: Path) -> Path | None:
    """Where a history is: in or below the folder of the document, at an absolute path, or moved with the document.

    A relative path never leads out of the folder, and an absolute one names a history only.
    """
    places = [folder / named.name]
    if ".." not in named.parts and (not named.is_absolute() or named.name.endswith(archive.SUFFIX)):
        places.insert(0, folder / named)  # an absolute path stays as it is
    return next((place for place in places if place.is_file()), None)


def _of(recorded: Recorded, result: RunResult) -> bool:
    about = recorded.about
    return (about.scenario, about.strategy, len(recorded.history.operations)) == (
        result.scenario,
        result.strategy,
        result.counts["attempts"],
    )
