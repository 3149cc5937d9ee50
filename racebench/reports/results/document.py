"""The JSON document: RunResults written by the published schema (run.schema.json, docs/results.md).

racebench.reports.results.reading reads it again.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racebench.core import json_text
from racebench.core.atomic_write import replacing
from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.model import Load

if TYPE_CHECKING:
    from racebench.analysis.baselines import BaselineResult
    from racebench.analysis.comparison import Comparison
    from racebench.analysis.thresholds import Held
    from racebench.core.results import Anomaly, ConsumerResult, RunResult

SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("run.schema.json")

#: How the text of a document without runs ends.
_NO_RUNS = "[]\n}"
#: The keys of a run's load.
LOAD = tuple(field.name for field in dataclasses.fields(Load))


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What one command measured: where, when, and its runs so far. `complete` is false if it was interrupted.

    `command` is the command line as it was typed, without passwords; "" if it is not known.
    `comparison` is what follows from the runs of `compare`, `baseline` how they stand beside earlier ones, `thresholds`
    what became of --threshold.
    """

    environment: Mapping[str, Any]
    created: str
    runs: tuple[RunResult, ...]
    command: str = ""
    complete: bool = True
    comparison: Comparison | None = None
    thresholds: tuple[Held, ...] = ()
    baseline: BaselineResult | None = None


def now() -> str:
    """The time of day, UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def in_folder(document: Document, folder: Path | None, *, was: Path = Path()) -> Document:
    """A document as it is written into a folder: the paths of its histories are relative to that; None: absolute.

    `was`: the folder that they are relative to so far; of a document that was just measured they are absolute.
    """

    def named(history: str) -> str:
        path = (was / history).resolve()
        return str(path) if folder is None else os.path.relpath(path, folder.resolve())

    return dataclasses.replace(
        document,
        runs=tuple(
            run if run.history is None else dataclasses.replace(run, history=named(run.history))
            for run in document.runs
        ),
    )


class RunTexts:
    """The texts of runs as they were written before: a campaign writes its document again after each run."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[RunResult, int | None, str]] = {}

    def text(self, place: int, result: RunResult, witnesses: int | None) -> str:
        """The JSON of the run at a place of the document, with at most so many witnesses."""
        known = self._texts.get(place)
        if known is None or known[0] is not result or known[1] != witnesses:
            text = json_text.dumps(_run(result, witnesses)).replace("\n", "\n    ")
            self._texts[place] = known = (result, witnesses, text)
        return known[2]


def to_json(document: Document, *, witnesses: int | None = None, texts: RunTexts | None = None) -> str:
    """Write a document as the published JSON, with at most so many witnesses a run (a matrix has hundreds of runs).

    `texts`: those of the runs that the same document had when it was last written.
    """
    whole = json_text.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "created": document.created,
            **({"command": document.command} if document.command else {}),
            "complete": document.complete,
            "environment": dict(document.environment),
            **(
                {"thresholds": [dataclasses.asdict(held) for held in document.thresholds]}
                if document.thresholds
                else {}
            ),
            **({} if document.comparison is None else {"comparison": dataclasses.asdict(document.comparison)}),
            **({} if document.baseline is None else {"baseline": dataclasses.asdict(document.baseline)}),
            "runs": [],
        }
    )
    if not document.runs:
        return whole
    texts = texts or RunTexts()
    runs = ",\n    ".join(texts.text(place, result, witnesses) for place, result in enumerate(document.runs))
    return f"{whole.removesuffix(_NO_RUNS)}[\n    {runs}\n  ]\n}}"


def merge(documents: Sequence[Document]) -> Document:
    """Put several documents' runs side by side; the environment and the date are the first's, the commands all.

    What follows from one document's runs does not follow from several's: it is left out.
    """
    first = documents[0]
    if len(documents) == 1:
        return first
    return Document(
        environment=first.environment,
        created=first.created,
        command=joined(document.command for document in documents),
        runs=tuple(result for document in documents for result in document.runs),
        complete=all(document.complete for document in documents),
    )


def joined(commands: Iterable[str]) -> str:
    """Several commands as one line for a shell."""
    return " && ".join(dict.fromkeys(filter(None, commands)))


def _run(result: RunResult, witnesses: int | None) -> dict[str, Any]:
    load = result.load
    return {
        "scenario": result.scenario,
        "strategy": result.strategy,
        "summary": result.summary,
        "consumer": ",".join(consumer.name for consumer in result.consumers) or None,
        **{name: getattr(load, name) for name in LOAD},
        "faults": [fault.text for fault in load.faults],
        "injected": dict(result.injected),
        "seconds": result.seconds,
        "verdict": result.verdict.value,
        "expected": list(result.expected),
        "possible": list(result.possible),
        "advice": result.advice,
        "forbidden": list(result.forbidden),
        "as_expected": result.as_expected,
        "source": result.source,
        "code": list(result.code),
        "counts": dict(result.counts),
        "consumers": [_consumer(consumer) for consumer in result.consumers],
        "measures": dict(result.measures),
        "errors": dict(result.errors),
        "retried": dict(result.retried),
        "messages": dict(result.messages),
        "upper_bound": result.upper_bound,
        "throughput_per_s": result.throughput_per_s,
        "latency_us": dict(result.latency_us),
        **({} if result.pace is None else dataclasses.asdict(result.pace)),
        "first_duplicate": None if result.first_duplicate is None else dataclasses.asdict(result.first_duplicate),
        "machines": [dataclasses.asdict(machine) for machine in result.machines],
        "undecided": dict(result.undecided),
        "witnesses": [published(witness) for witness in result.witnesses[:witnesses]],
        "notes": list(result.notes),
        "schema": result.schema,
        "history": result.history,
    }


def _consumer(consumer: ConsumerResult) -> dict[str, Any]:
    return {
        "name": consumer.name,
        "verdict": consumer.verdict.value,
        "expected": consumer.expected,
        "as_expected": consumer.as_expected,
        "counts": dict(consumer.counts),
        "late_us": dict(consumer.late_us),
        "longest_poll_us": consumer.longest_poll_us,
        "at_fault": consumer.at_fault,
        "instead": consumer.instead,
        "server": consumer.server,
        "missed_only_here": consumer.missed_only_here,
        "stalled_ms": consumer.stalled_ms,
        "stalled_from_us": consumer.stalled_from_us,
        "stalled": consumer.stalled,
        "behind": None if consumer.behind is None else [dataclasses.asdict(holder) for holder in consumer.behind],
        "waits_for_numbers": consumer.waits_for_numbers,
        "held_back": consumer.held_back,
    }


def published(anomaly: Anomaly) -> dict[str, Any]:
    """A witness as the documents have it."""
    return {
        "kind": anomaly.kind,
        "explanation": anomaly.explanation,
        "rows": [dict(row) for row in anomaly.rows],
        "operations": [dict(operation) for operation in anomaly.operations],
        "polls": [dict(poll) for poll in anomaly.polls],
        "consumer": anomaly.consumer,
    }


def write_atomically(path: Path, text: str) -> None:
    """Write a file whole or not at all: beside it first, then renamed. A device or pipe is written directly.

    Raises RacebenchError, in one line, if that cannot be done (a full disk); nothing is left behind.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as problem:
        raise RacebenchError(
            f"cannot write {path}: {problem.strerror}; free some space or name another place"
        ) from None


def check_writable(folder: Path) -> None:
    """Make the folder and try it before anything is measured; raises UsageProblem if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        raise UsageProblem(
            f"results folder '{folder}' cannot be written: {problem.strerror}; give --results DIR or --no-save"
        ) from None
