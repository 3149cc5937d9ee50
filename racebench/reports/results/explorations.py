"""The JSON document of explorations: written from Exploration values and read back as equal ones (docs/explore.md).

What reports say of an exploration is theirs (racebench.reports.exploration_text).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from racebench.core import json_text
from racebench.core.anomalies import counts_of_document
from racebench.core.errors import UsageProblem
from racebench.core.target import Pooling
from racebench.core.verdict import Verdict
from racebench.exploration.choices import Cut
from racebench.exploration.pool import PoolOptions
from racebench.exploration.result import (
    Beginning,
    Exploration,
    Limit,
    Replay,
    ScheduleOutcome,
    SessionOutcome,
    Start,
    Unseen,
)
from racebench.exploration.schedules import Schedule, Step, parse_steps
from racebench.reports.results import document as run_document

SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("explorations.schema.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explorations:
    """What one `racebench explore` found. `complete` is false if it was interrupted.

    `command` is the command line as it was typed, without passwords; "" if it is not known.
    """

    environment: Mapping[str, Any]
    created: str
    explorations: tuple[Exploration, ...]
    complete: bool
    command: str = ""


def merge(documents: Sequence[Explorations]) -> Explorations:
    """Put several documents' explorations side by side; the first's environment and date, all commands."""
    return Explorations(
        environment=documents[0].environment,
        created=documents[0].created,
        explorations=tuple(exploration for document in documents for exploration in document.explorations),
        complete=all(document.complete for document in documents),
        command=run_document.joined(document.command for document in documents),
    )


def to_json(document: Explorations) -> str:
    """A document as the published JSON."""
    data = {
        "schema_version": SCHEMA_VERSION,
        "created": document.created,
        **({"command": document.command} if document.command else {}),
        "complete": document.complete,
        "environment": dict(document.environment),
        "explorations": [published(exploration) for exploration in document.explorations],
    }
    return json_text.dumps(data)


def from_data(data: Mapping[str, Any], name: str) -> Explorations:
    """Read explorations from their document; raises UsageProblem if it does not meet the schema."""
    from racebench.reports.results import reading  # it knows all that a document of runs may have

    data = reading.known_part(data, SCHEMA_FILE, name)
    try:
        return Explorations(
            environment=dict(data["environment"]),
            created=str(data["created"]),
            explorations=tuple(map(from_published, data["explorations"])),
            complete=bool(data["complete"]),
            command=str(data.get("command", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise UsageProblem(f"{name} is not a racebench result ({type(problem).__name__}: {problem})") from None


def published(exploration: Exploration) -> dict[str, Any]:
    """An exploration in its published form."""
    return {
        "scenario": exploration.scenario,
        "strategy": exploration.strategy,
        "summary": exploration.summary,
        "consumer": exploration.consumer,
        "sessions": exploration.sessions,
        "polls": exploration.polls,
        "crash": exploration.crash,
        "pooler": None
        if exploration.pooler is None
        else {"mode": exploration.pooler.pooling.value, "size": exploration.pooler.size},
        "reduced": exploration.reduced,
        "seed": exploration.seed,
        "verdict": exploration.verdict.value,
        "expected": list(exploration.expected),
        "as_expected": exploration.as_expected,
        "forbidden": list(exploration.forbidden),
        **({"calls": dict(exploration.calls)} if exploration.calls else {}),
        "code": list(exploration.code),
        "counts": dict(exploration.counts),
        "explored": {
            "feasible": exploration.feasible,
            "run": exploration.run,
            "pruned": exploration.pruned,
            "drawn": exploration.drawn,
            "depth": exploration.depth,
            "chance": exploration.chance,
            "anomalous": exploration.anomalous,
            "raced": exploration.raced,
            "bursts": exploration.bursts,
            "anomalous_bursts": exploration.anomalous_bursts,
            "triggers": list(exploration.triggers),
            "functions": list(exploration.functions),
            "swallowed": dict(exploration.swallowed),
            "draws": exploration.draws,
            "jobs": exploration.jobs,
            "unseen": None if exploration.unseen is None else exploration.unseen.value,
            "leftovers": list(exploration.leftovers),
            "beginning": None if exploration.beginning is None else _published_beginning(exploration.beginning),
            "fault": exploration.fault or None,
            "complete": exploration.complete,
            "limit": None if exploration.limit is None else exploration.limit.value,
            "seconds": exploration.seconds,
            "schedules_per_s": exploration.schedules_per_s,
        },
        "outcomes": [
            {"schedules": times, **_published_outcome(outcome)} for outcome, times in exploration.outcomes.items()
        ],
        "witness": None if exploration.witness is None else _published_replay(exploration.witness),
        "notes": list(exploration.notes),
    }


def _published_beginning(beginning: Beginning) -> dict[str, Any]:
    return {
        "start": beginning.start.value,
        "reasons": list(beginning.reasons),
        "prevented": beginning.prevented or None,
        "doubtful": beginning.doubtful,
    }


def _published_outcome(outcome: ScheduleOutcome) -> dict[str, Any]:
    return {
        "sessions": [
            {
                "outcome": session.outcome,
                "sqlstate": session.sqlstate,
                "rank": session.rank,
                "tries": session.tries,
            }
            for session in outcome.sessions
        ],
        "anomalies": dict(outcome.anomalies),
    }


def _published_replay(replay: Replay) -> dict[str, Any]:
    return {
        "schedule": str(replay.schedule),
        "replay": replay.command,
        "anomalies": dict(replay.anomalies),
        "outcome": None if replay.outcome is None else _published_outcome(replay.outcome),
        "broken": list(replay.broken),
        "difference": replay.difference,
        "named": replay.named,
        "prepared": list(replay.prepared),
        "steps": [
            {
                "session": step.session,
                "sent": step.sent,
                "literal": step.literal,
                "values": list(step.values),
                "where": step.where,
                "answered": list(step.answered),
                "waits_for": list(step.waits_for),
                "went_on": [{"session": name, "answered": list(answered)} for name, answered in step.went_on],
                "cut": None if step.cut is None else step.cut.name.lower(),
                "backend": step.backend,
                "script": step.script,
            }
            for step in replay.steps
        ],
    }


def from_published(data: Mapping[str, Any]) -> Exploration:
    """An exploration from its published form; what older documents do not have is as if it were not known.

    Raises KeyError, TypeError, ValueError or AttributeError if the data is not one.
    """
    explored = data["explored"]
    calls = {str(session): str(call) for session, call in data.get("calls", {}).items()}
    forbidden = _texts(data["forbidden"])
    unseen, limit, as_expected = explored.get("unseen"), explored.get("limit"), data["as_expected"]
    return Exploration(
        scenario=str(data["scenario"]),
        strategy=str(data["strategy"]),
        summary=str(data.get("summary", "")),
        consumer=None if data["consumer"] is None else str(data["consumer"]),
        sessions=int(data["sessions"]),
        polls=int(data.get("polls", 0)),
        crash=int(data.get("crash", 0)),
        reduced=bool(data.get("reduced", True)),
        seed=int(data.get("seed", 0)),
        depth=int(explored.get("depth", 0)),
        verdict=Verdict(data["verdict"]),
        expected=_texts(data.get("expected", ())),
        as_expected=None if as_expected is None else bool(as_expected),
        forbidden=forbidden,
        counts=counts_of_document(_counts(data["counts"])),
        outcomes={_outcome(outcome): int(outcome["schedules"]) for outcome in data["outcomes"]},
        run=int(explored["run"]),
        pruned=int(explored["pruned"]),
        drawn=int(explored.get("drawn", 0)),
        chance=None if explored.get("chance") is None else float(explored["chance"]),
        anomalous=int(explored["anomalous"]),
        bursts=int(explored.get("bursts", 0)),
        anomalous_bursts=int(explored.get("anomalous_bursts", 0)),
        raced=int(explored.get("raced", 0)),
        complete=bool(explored["complete"]),
        seconds=float(explored["seconds"]),
        witness=None if data["witness"] is None else _replay(data["witness"], data, forbidden, calls),
        limit=None if limit is None else Limit(limit),
        unseen=None if unseen is None else Unseen(unseen),
        leftovers=_texts(explored.get("leftovers", ())),
        fault=str(explored.get("fault") or ""),
        calls=calls,
        code=_texts(data.get("code", ())),
        triggers=_texts(explored.get("triggers", ())),
        functions=_texts(explored.get("functions", ())),
        swallowed=_counts(explored.get("swallowed", {})),
        notes=_texts(data.get("notes", ())),
        draws=int(explored.get("draws", 0)),
        jobs=int(explored.get("jobs", 1)),
        beginning=None if explored.get("beginning") is None else _beginning(explored["beginning"]),
        pooler=None if data.get("pooler") is None else _pooler(data["pooler"]),
    )


def _pooler(data: Mapping[str, Any]) -> PoolOptions:
    return PoolOptions(pooling=Pooling(data["mode"]), size=int(data["size"]))


def _beginning(data: Mapping[str, Any]) -> Beginning:
    return Beginning(
        start=Start(data["start"]),
        reasons=_texts(data["reasons"]),
        prevented=str(data["prevented"] or ""),
        doubtful=bool(data["doubtful"]),
    )


def _replay(
    witness: Mapping[str, Any], exploration: Mapping[str, Any], forbidden: tuple[str, ...], calls: Mapping[str, str]
) -> Replay:
    text = str(witness["schedule"])
    digest, draw, steps = parse_steps(text)
    outcome = witness.get("outcome", {"sessions": (), "anomalies": witness["anomalies"]} if witness["steps"] else None)
    return Replay(
        schedule=Schedule(
            scenario=str(exploration["scenario"]),
            strategy=str(exploration["strategy"]),
            consumer=None if exploration["consumer"] is None else str(exploration["consumer"]),
            digest=digest,
            steps=steps,
            draw=draw,
        ),
        sessions=int(exploration["sessions"]),
        forbidden=forbidden,
        outcome=None if outcome is None else _outcome(outcome),
        steps=tuple(map(_step, witness["steps"])),
        broken=_texts(witness.get("broken", ())),
        difference=str(witness.get("difference", "")),
        named=str(witness.get("named", "")),
        prepared=_texts(witness.get("prepared", ())),
        calls=calls,
        command=witness.get("replay", f"racebench replay '{text}'"),
    )


def _outcome(data: Mapping[str, Any]) -> ScheduleOutcome:
    return ScheduleOutcome(
        sessions=tuple(
            SessionOutcome(
                outcome=str(session["outcome"]),
                sqlstate=str(session["sqlstate"]),
                rank=int(session["rank"]),
                tries=int(session["tries"]),
            )
            for session in data["sessions"]
        ),
        anomalies=tuple(_counts(data["anomalies"]).items()),
    )


def _step(data: Mapping[str, Any]) -> Step:
    return Step(
        session=str(data["session"]),
        sent=str(data["sent"]),
        literal=str(data.get("literal", "")),
        values=_texts(data.get("values", ())),
        where=str(data.get("where", "")),
        answered=_texts(data["answered"]),
        waits_for=_texts(data["waits_for"]),
        went_on=tuple((str(woken["session"]), _texts(woken["answered"])) for woken in data["went_on"]),
        cut=None if data.get("cut") is None else Cut[str(data["cut"]).upper()],
        backend=None if data.get("backend") is None else int(data["backend"]),
        script=str(data.get("script", "")),
    )


def _counts(data: Mapping[str, Any]) -> dict[str, int]:
    return {str(kind): int(count) for kind, count in data.items()}


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(map(str, values))
