"""Reads saved documents of runs again, as equal values; and what every kind of saved document is checked for first.

To measure and to write a result needs none of it: only reports, comparisons with a baseline and checks read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from racebench.analysis.baselines import BaselineResult, Beside, Standing
from racebench.analysis.comparison import Compared, Comparison, Conditions, Judgement
from racebench.analysis.estimates import Estimate
from racebench.analysis.thresholds import Held, Outcome
from racebench.core import injection, json_schema, json_text
from racebench.core.anomalies import counts_of_document
from racebench.core.errors import UsageProblem
from racebench.core.liveness import Holder
from racebench.core.model import Load, Protocol
from racebench.core.plain_text import shown
from racebench.core.results import (
    Anomaly,
    ConsumerResult,
    FirstDuplicate,
    MachineResult,
    OpenLoop,
    Pace,
    RunResult,
    Timeline,
    Usage,
)
from racebench.core.verdict import Verdict
from racebench.reports.results.document import LOAD, SCHEMA_FILE, SCHEMA_VERSION, Document


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


def _result(run: Mapping[str, Any]) -> RunResult:
    return RunResult(
        scenario=run["scenario"],
        strategy=run["strategy"],
        summary=run["summary"],
        consumers=tuple(
            ConsumerResult(
                **{
                    **consumer,
                    "verdict": Verdict(consumer["verdict"]),
                    "behind": None
                    if consumer.get("behind") is None
                    else tuple(Holder(**holder) for holder in consumer["behind"]),
                }
            )
            for consumer in run["consumers"]
        ),
        load=Load(
            **{
                **{name: run[name] for name in LOAD if name in run},
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
        machines=tuple(
            MachineResult(
                **{**machine, "sessions": tuple(machine["sessions"]), "consumers": tuple(machine["consumers"])}
            )
            for machine in run.get("machines", [])
        ),
        undecided=run.get("undecided", {}),
        code=tuple(run.get("code", ())),
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
