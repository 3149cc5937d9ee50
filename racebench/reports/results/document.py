"""The JSON document: RunResults to and from the published schema (run.schema.json, docs/results.md)."""

from __future__ import annotations

import dataclasses
import datetime
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from racebench.analysis.baselines import BaselineResult, Beside, Standing
from racebench.analysis.comparison import Compared, Comparison, Conditions, Judgement
from racebench.analysis.estimates import Estimate
from racebench.analysis.thresholds import Held, Outcome
from racebench.core import injection, json_schema, json_text
from racebench.core.anomalies import counts_of_document
from racebench.core.atomic_write import replacing
from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.model import Load, Protocol
from racebench.core.plain_text import shown
from racebench.core.results import (
    Anomaly,
    ConsumerResult,
    FirstDuplicate,
    OpenLoop,
    Pace,
    RunResult,
    Timeline,
    Usage,
)
from racebench.core.verdict import Verdict

SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("run.schema.json")

#: How the text of a document without runs ends.
_NO_RUNS = "[]\n}"
_LOAD = tuple(field.name for field in dataclasses.fields(Load))


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


def from_json(text: str, name: str) -> Document:
    """Read a document; raises UsageProblem if it is not one, or of another schema version."""
    return from_data(data_of(text, name), name)


def data_of(text: str, name: str) -> Mapping[str, Any]:
    """The JSON object of a saved file, with a schema version that is known; raises UsageProblem for any other text."""
    try:
        data = json_text.loads(text)
    except json_text.JsonProblem as problem:
        raise UsageProblem(
            f"{name}:{problem.line}: is not JSON ({problem}); is it a racebench result, and whole?"
        ) from None
    if not isinstance(data, dict):
        raise UsageProblem(f"{name} is not a racebench result: it is {shown(data)}, not an object; name another file")
    version = data.get("schema_version", SCHEMA_VERSION)
    if type(version) is not int or version != SCHEMA_VERSION:
        again = "explore" if "explorations" in data else "run it"
        raise UsageProblem(
            f"{name} has schema version {shown(version)}, this racebench reads {SCHEMA_VERSION}; {again} again"
        )
    return data


def known_part(data: Mapping[str, Any], schema_file: Path, name: str) -> Mapping[str, Any]:
    """What is known of a document that meets its schema; raises UsageProblem, with the first difference, for another.

    Optional keys that a later racebench has added are left out.
    """
    if (difference := json_schema.difference(data, schema_file)) is not None:
        raise UsageProblem(f"{name} is not a racebench result: {difference}; is the file whole? run it again")
    part: Mapping[str, Any] = json_schema.known_part(data, schema_file)
    return part


def from_data(data: Mapping[str, Any], name: str) -> Document:
    """Read a document of runs; raises UsageProblem if it does not meet the schema."""
    data = known_part(data, SCHEMA_FILE, name)
    try:
        return Document(
            environment=data["environment"],
            created=data["created"],
            command=data.get("command", ""),
            complete=data["complete"],
            runs=tuple(_result(run) for run in data["runs"]),
            comparison=None if "comparison" not in data else _comparison(data["comparison"]),
            thresholds=tuple(
                Held(**{**held, "outcome": Outcome(held["outcome"])}) for held in data.get("thresholds", ())
            ),
            baseline=None if "baseline" not in data else _baseline(data["baseline"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise UsageProblem(f"{name} is not a racebench result ({type(problem).__name__}: {problem})") from None


def read(path: Path) -> Document:
    """Read a document from a file; raises UsageProblem if that cannot be done."""
    return from_json(text_of(path), str(path))


def text_of(path: Path) -> str:
    """The text of a saved file; raises UsageProblem if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as problem:  # ValueError: not UTF-8, or a name with a NUL
        why = problem.strerror if isinstance(problem, OSError) else "not UTF-8 text"
        raise UsageProblem(f"{path} cannot be read: {why}; name a file that a command has saved") from None


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
        **{name: getattr(load, name) for name in _LOAD},
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


def _result(run: Mapping[str, Any]) -> RunResult:
    return RunResult(
        scenario=run["scenario"],
        strategy=run["strategy"],
        summary=run["summary"],
        consumers=tuple(
            ConsumerResult(**{**consumer, "verdict": Verdict(consumer["verdict"])}) for consumer in run["consumers"]
        ),
        load=Load(
            **{
                **{name: run[name] for name in _LOAD if name in run},
                "protocol": Protocol(run.get("protocol", "prepared")),
                "faults": injection.parse_all(run.get("faults", ())),
            }
        ),
        seconds=run["seconds"],
        verdict=Verdict(run["verdict"]),
        expected=tuple(run["expected"]),
        possible=tuple(run["possible"]),
        advice=run["advice"],
        forbidden=tuple(run["forbidden"]),
        as_expected=run["as_expected"],
        source=run["source"],
        counts=counts_of_document(run["counts"]),
        measures=run["measures"],
        errors=run["errors"],
        retried=run["retried"],
        messages=run["messages"],
        upper_bound=run["upper_bound"],
        throughput_per_s=run["throughput_per_s"],
        latency_us=run["latency_us"],
        pace=_pace(run),
        witnesses=tuple(_witness(witness) for witness in run["witnesses"]),
        notes=tuple(run["notes"]),
        schema=run["schema"],
        history=run.get("history"),
        injected=run.get("injected", {}),
        first_duplicate=None if run.get("first_duplicate") is None else FirstDuplicate(**run["first_duplicate"]),
    )


def _pace(run: Mapping[str, Any]) -> Pace | None:
    """How the run went along; None for a document that is older than these keys."""
    if "timeline" not in run:
        return None
    timeline = run["timeline"]
    return Pace(
        start_spread_us=run["start_spread_us"],
        timeline=Timeline(
            interval_s=timeline["interval_s"],
            committed=tuple(timeline["committed"]),
            p50_us=tuple(timeline["p50_us"]),
            p99_us=tuple(timeline["p99_us"]),
        ),
        cpu=Usage(**run["cpu"]),
        open_loop=None if run["open_loop"] is None else OpenLoop(**run["open_loop"]),
        overlapped=run.get("overlapped"),
    )


def _comparison(data: Mapping[str, Any]) -> Comparison:
    return Comparison(
        **{
            **data,
            "conditions": Conditions(**data["conditions"]),
            "strategies": tuple(_compared(one) for one in data["strategies"]),
            "warnings": tuple(data["warnings"]),
        }
    )


def _compared(data: Mapping[str, Any]) -> Compared:
    return Compared(
        **{
            **data,
            "verdict": Verdict(data["verdict"]),
            "found": tuple(data["found"]),
            "throughput_per_s": _estimate(data["throughput_per_s"]),
            "latency_us": {name: _estimate(value) for name, value in data["latency_us"].items()},
            "ratio": _estimate(data["ratio"]),
            "judgement": Judgement(data["judgement"]),
        }
    )


def _baseline(data: Mapping[str, Any]) -> BaselineResult:
    return BaselineResult(
        **{
            **data,
            "differs": tuple(data["differs"]),
            "strategies": tuple(
                Beside(**{**one, "standing": Standing(one["standing"]), "ratio": _estimate(one["ratio"])})
                for one in data["strategies"]
            ),
        }
    )


def _estimate(data: Mapping[str, Any] | None) -> Estimate | None:
    return None if data is None else Estimate(**{name: float(data[name]) for name in ("value", "low", "high")})


def _witness(data: Mapping[str, Any]) -> Anomaly:
    parts: dict[str, Sequence[Mapping[str, Any]]] = {name: data[name] for name in ("rows", "operations", "polls")}
    return Anomaly(
        kind=data["kind"],
        explanation=data["explanation"],
        rows=tuple(parts["rows"]),
        operations=tuple(parts["operations"]),
        polls=tuple(parts["polls"]),
        consumer=data["consumer"],
    )


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
