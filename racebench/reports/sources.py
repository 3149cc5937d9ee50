"""Result files as `racebench report` takes them: each of runs, or an exploration; both are JSON, told apart here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from racebench.errors import UsageProblem
from racebench.model import Verdict
from racebench.reports import explorations
from racebench.reports.document import Document, from_json, text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a witness: who sent what, what came back, whom it waits for, and who went on because of it."""

    session: str
    sent: str
    answered: tuple[str, ...]
    waits_for: tuple[str, ...]
    went_on: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """One strategy explored, as the document has it; without a witness, `steps` is empty."""

    scenario: str
    strategy: str
    consumer: str | None
    sessions: int
    polls: int
    verdict: Verdict
    as_expected: bool
    counts: Mapping[str, int]
    forbidden: tuple[str, ...]
    orders: int
    pruned: int
    anomalous: int
    complete: bool
    schedule: str | None
    anomalies: Mapping[str, int]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explorations:
    """What one `racebench explore` found."""

    environment: Mapping[str, Any]
    created: str
    complete: bool
    explorations: tuple[Exploration, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A result file: of runs or explorations."""

    path: Path
    content: Document | Explorations


def read(path: Path) -> Source:
    """Read a result file of either kind; raises UsageProblem if it is neither, or of another schema version."""
    text = text_of(path)
    try:
        data = json.loads(text)
        if isinstance(data, dict) and "explorations" in data:
            return Source(path=path, content=_explorations(data, str(path)))
    except json.JSONDecodeError:
        pass  # said below, with its line
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise UsageProblem(f"{path} is not a racebench result ({type(problem).__name__}: {problem})") from None
    return Source(path=path, content=from_json(text, str(path)))


def _explorations(data: Mapping[str, Any], name: str) -> Explorations:
    version = data["schema_version"]
    if version != explorations.SCHEMA_VERSION:
        raise UsageProblem(
            f"{name} has schema version {version}, this racebench reads {explorations.SCHEMA_VERSION}; explore again"
        )
    return Explorations(
        environment=dict(data["environment"]),
        created=str(data["created"]),
        complete=bool(data["complete"]),
        explorations=tuple(_exploration(each) for each in data["explorations"]),
    )


def _exploration(data: Mapping[str, Any]) -> Exploration:
    witness, explored_ = data["witness"], data["explored"]
    return Exploration(
        scenario=str(data["scenario"]),
        strategy=str(data["strategy"]),
        consumer=data["consumer"],
        sessions=int(data["sessions"]),
        polls=int(data["polls"]),
        verdict=Verdict(data["verdict"]),
        as_expected=bool(data["as_expected"]),
        counts={str(kind): int(count) for kind, count in data["counts"].items()},
        forbidden=tuple(map(str, data["forbidden"])),
        orders=int(explored_["run"]),
        pruned=int(explored_["pruned"]),
        anomalous=int(explored_["anomalous"]),
        complete=bool(explored_["complete"]),
        schedule=None if witness is None else str(witness["schedule"]),
        anomalies={} if witness is None else {str(k): int(v) for k, v in witness["anomalies"].items()},
        steps=() if witness is None else tuple(_step(each) for each in witness["steps"]),
    )


def _step(data: Mapping[str, Any]) -> Step:
    return Step(
        session=str(data["session"]),
        sent=str(data["sent"]),
        answered=_texts(data["answered"]),
        waits_for=_texts(data["waits_for"]),
        went_on=tuple((str(each["session"]), _texts(each["answered"])) for each in data["went_on"]),
    )


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(map(str, values))
