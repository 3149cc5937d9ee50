"""Explorations as they were saved: read back from their JSON, said in a sentence, and as a Markdown table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from racebench.core.errors import UsageProblem
from racebench.core.results import Verdict
from racebench.exploration.schedules import Step

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """One strategy explored. `published` is all of it; the rest is what reports say.

    `found` are the forbidden kinds that were; `anomalies`, `broken` (which rows broke which invariant) and `steps` are
    the witness's, empty without one; `calls` says which call each session runs, if they run Python.
    `as_expected` is None where nothing is known of the strategy. `replay` is the command that runs the witness again,
    None if no command can.
    """

    published: Mapping[str, Any]
    scenario: str
    strategy: str
    consumer: str | None
    sessions: int
    verdict: Verdict
    as_expected: bool | None
    found: tuple[str, ...]
    run: int
    pruned: int
    anomalous: int
    outcomes: int
    complete: bool
    seconds: float
    schedule: str | None
    replay: str | None
    anomalies: Mapping[str, int]
    broken: tuple[str, ...]
    calls: Mapping[str, str]
    steps: tuple[Step, ...]

    @property
    def sentence(self) -> str:
        """What was found, without what is known of the strategy."""
        if self.verdict is Verdict.INVALID:
            rest = "" if self.complete else "; the search did not come to its end"
            return f"{self.anomalous:,} of {self.run:,} orders go wrong{rest}."
        if self.verdict is Verdict.VALID:
            return f"All {self.run:,} orders that matter were run, nothing went wrong."
        if self.complete:
            return (
                f"No order of its {self.run:,} goes wrong, but its race may be inside one statement, or a matter of "
                "time, which no order of statements shows; hammer it."
            )
        return f"{self.run:,} orders were run, nothing went wrong, and there are more; raise --budget."


@dataclass(frozen=True, slots=True, kw_only=True)
class Explorations:
    """What one `racebench explore` found. `complete` is false if it was interrupted."""

    environment: Mapping[str, Any]
    created: str
    explorations: tuple[Exploration, ...]
    complete: bool


def from_data(data: Mapping[str, Any], name: str) -> Explorations:
    """Read explorations from their document; raises UsageProblem if it is none, or of another schema version."""
    if data.get("schema_version") != SCHEMA_VERSION:
        raise UsageProblem(
            f"{name} has schema version {data.get('schema_version')}, this racebench reads {SCHEMA_VERSION}; "
            "explore again"
        )
    try:
        return Explorations(
            environment=dict(data["environment"]),
            created=str(data["created"]),
            explorations=tuple(exploration(each) for each in data["explorations"]),
            complete=bool(data["complete"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise UsageProblem(f"{name} is not a racebench result ({type(problem).__name__}: {problem})") from None


def exploration(published: Mapping[str, Any]) -> Exploration:
    """What reports say of an exploration, from its published form (racebench.reports.terminal.exploration_table)."""
    explored, counts, witness = published["explored"], published["counts"], published["witness"]
    return Exploration(
        published=published,
        scenario=str(published["scenario"]),
        strategy=str(published["strategy"]),
        consumer=published["consumer"],
        sessions=int(published["sessions"]),
        verdict=Verdict(published["verdict"]),
        as_expected=published["as_expected"],
        found=tuple(kind for kind in published["forbidden"] if counts[kind]),
        run=int(explored["run"]),
        pruned=int(explored["pruned"]),
        anomalous=int(explored["anomalous"]),
        outcomes=len(published["outcomes"]),
        complete=bool(explored["complete"]),
        seconds=float(explored["seconds"]),
        schedule=None if witness is None else str(witness["schedule"]),
        replay=None if witness is None else witness.get("replay", f"racebench replay '{witness['schedule']}'"),
        anomalies={} if witness is None else {str(kind): int(count) for kind, count in witness["anomalies"].items()},
        broken=() if witness is None else _texts(witness.get("broken", ())),
        calls=dict(published.get("calls", {})),
        steps=() if witness is None else tuple(_step(each) for each in witness["steps"]),
    )


def _step(data: Mapping[str, Any]) -> Step:
    return Step(
        session=str(data["session"]),
        sent=str(data["sent"]),
        where=str(data.get("where", "")),
        answered=_texts(data["answered"]),
        waits_for=_texts(data["waits_for"]),
        went_on=tuple((str(each["session"]), _texts(each["answered"])) for each in data["went_on"]),
    )


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(map(str, values))


def merge(several: Sequence[Explorations]) -> Explorations:
    """Put several documents' explorations side by side; the environment and the date are the first's."""
    return Explorations(
        environment=several[0].environment,
        created=several[0].created,
        explorations=tuple(each for document in several for each in document.explorations),
        complete=all(document.complete for document in several),
    )


def to_json(explored: Explorations) -> str:
    """Explorations as the JSON that they were saved as."""
    data = {
        "schema_version": SCHEMA_VERSION,
        "created": explored.created,
        "complete": explored.complete,
        "environment": dict(explored.environment),
        "explorations": [dict(each.published) for each in explored.explorations],
    }
    return json.dumps(data, indent=2, ensure_ascii=False)


def markdown(several: Sequence[Exploration]) -> str:
    """The verdicts as a Markdown table."""
    lines = [
        "| strategy | verdict | orders run | pruned | go wrong | anomalies | outcomes | shortest witness |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    for each in several:
        wrong = ", ".join(each.found) or "none"
        done = "" if each.complete else " (search not finished)"
        unlike = "" if each.as_expected is not False or each.verdict is Verdict.UNKNOWN else " (not as expected)"
        witness = f"`{each.schedule}`" if each.schedule else ""
        lines.append(
            f"| `{each.strategy}` | {each.verdict.value}{unlike}{done} | {each.run} | {each.pruned} "
            f"| {each.anomalous} | {wrong} | {each.outcomes} | {witness} |"
        )
    return "\n".join(lines) + "\n"
