"""SARIF 2.1.0, which code scanning reads: a rule for each kind of anomaly, a result for each that a strategy has.

A result points at the line that raced, and its code flow is the shortest schedule. UNKNOWN is no result, because it is
no finding: it is a notification of the tool (docs/decisions/0024-sarif.md). Source of the format: OASIS, "Static
Analysis Results Interchange Format (SARIF) Version 2.1.0".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from racebench import __version__
from racebench.core import documentation, json_text
from racebench.core.anomalies import ANOMALIES, AnomalyKind
from racebench.core.verdict import Verdict
from racebench.exploration.schedules import Step
from racebench.reports import exploration_text, places, short_statements
from racebench.reports.formats import Material, cases
from racebench.reports.formats.cases import Case, Suite
from racebench.reports.places import Place, Project

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
VERSION = "2.1.0"
#: The root of the project, as CodeQL and GitHub call it.
ROOT = "%SRCROOT%"
_FINGERPRINT = "racebench/v1"
_UNPLAIN = re.compile(r"[^0-9A-Za-z_.+-]+")
_LONGEST_CATEGORY = 120


def render(material: Material) -> str:
    """The log of all documents: one run of the tool, with an invocation for each document."""
    project = places.here()
    suites = [(document, cases.suites([document])) for document in material.documents]
    found = [suite for _, several in suites for suite in several if suite.driver != cases.LIMITS]
    log = {
        "$schema": SCHEMA,
        "version": VERSION,
        "runs": [
            {
                "tool": {"driver": _driver()},
                "automationDetails": {"id": f"{_category(found)}/"},
                "originalUriBaseIds": {ROOT: {"description": _text("The root of the project's repository.")}},
                "columnKind": "unicodeCodePoints",
                "invocations": [
                    _invocation(several, complete=document.complete, exit_code=material.exit_code)
                    for document, several in suites
                ],
                "results": [result for suite in found for result in _results(suite, project)],
            }
        ],
    }
    return json_text.dumps(log) + "\n"


def _category(suites: Sequence[Suite]) -> str:
    """What keeps the uploads of two commands apart: code scanning replaces the alerts of the same category.

    The same for the next run of the same strategies, whatever is found.
    """
    parts = [
        *(suite.driver for suite in suites),
        *(suite.scenario for suite in suites),
        *(case.name for suite in suites for case in suite.cases),
    ]
    words = [_UNPLAIN.sub("-", part).strip("-") for part in dict.fromkeys(parts)]
    whole = "/".join(["racebench", *filter(None, words)])
    if len(whole) <= _LONGEST_CATEGORY and words == [*dict.fromkeys(parts)]:
        return whole
    return f"{whole[:_LONGEST_CATEGORY]}-{_digest(parts)[:8]}"  # other names may have the same plain words


def _driver() -> dict[str, Any]:
    return {
        "name": "racebench",
        "semanticVersion": __version__,
        **({"informationUri": site} if (site := documentation.address()) else {}),
        "rules": [_rule(kind) for kind in ANOMALIES.values()],
    }


def _rule(kind: AnomalyKind) -> dict[str, Any]:
    description = f"{kind.description[0].upper()}{kind.description[1:]}."
    return {
        "id": kind.name,
        "name": "".join(part.capitalize() for part in kind.name.split("-")),
        "shortDescription": _text(f"Race: {kind.plural or kind.name}"),
        "fullDescription": _text(description),
        "help": _text(f"{description} {kind.advice}."),
        **({"helpUri": f"{site}/results.html#counts"} if (site := documentation.address()) else {}),
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": ["concurrency", "postgresql", "race-condition"]},
    }


def _invocation(suites: Sequence[Suite], *, complete: bool, exit_code: int | None) -> dict[str, Any]:
    """What a command did. It was successful if it came to its end with a verdict on each strategy."""
    notifications = [
        {
            "level": "error",
            "message": _text(f"{suite.scenario}: {case.name} is UNKNOWN: {case.message}"),
            "descriptor": {"id": "unknown"},
        }
        for suite in suites
        for case in suite.cases
        if case.verdict is Verdict.UNKNOWN
    ]
    if not complete:
        said = _text("Interrupted: these are the results until then.")
        notifications.append({"level": "error", "message": said, "descriptor": {"id": "interrupted"}})
    begun = {"startTimeUtc": suites[0].created} if suites else {}
    ended = {} if exit_code is None else {"exitCode": int(exit_code)}
    return {
        "executionSuccessful": not notifications,
        **begun,
        **ended,
        "toolExecutionNotifications": notifications,
    }


def _results(suite: Suite, project: Project) -> Iterator[dict[str, Any]]:
    """A result for each forbidden anomaly of each strategy, but for those that are not certain."""
    for case in suite.cases:
        if case.verdict is not Verdict.INVALID:
            continue
        for kind in case.found:
            yield _result(suite, case, kind, project)


def _result(suite: Suite, case: Case, kind: str, project: Project) -> dict[str, Any]:
    place = places.of_case(case, project, kind)
    return {
        "ruleId": kind,
        "ruleIndex": list(ANOMALIES).index(kind),
        "kind": "fail",
        "level": "note" if kind in case.known else "error",
        "message": _text(_said(suite, case)),
        "locations": [_location(place, suite, case)],
        **(_flow(case, project, place) if places.shows(case, kind) else {}),
        "partialFingerprints": {_FINGERPRINT: _fingerprint(suite, case, kind, place)},
        "properties": {"scenario": suite.scenario, "strategy": case.name, "driver": suite.driver},
    }


def _said(suite: Suite, case: Case) -> str:
    lines = [f"{suite.scenario}: {case.name} has a race. {case.message}"]
    if case.witness is not None and (remedy := exploration_text.remedy(case.witness)):
        lines.append(f"Fix: {remedy}")
    if case.witness is not None and case.witness.command:
        lines.append(f"Run it again: {case.witness.command}")
    return "\n".join(lines)


def _location(place: Place | None, suite: Suite, case: Case) -> dict[str, Any]:
    """Where the race is; what is outside the project has a name only."""
    named = {"fullyQualifiedName": f"{suite.scenario}/{case.name}", "kind": "function"}
    return {**({} if place is None else {"physicalLocation": _physical(place)}), "logicalLocations": [named]}


def _physical(place: Place) -> dict[str, Any]:
    return {
        "artifactLocation": {"uri": quote(place.path, errors="backslashreplace"), "uriBaseId": ROOT},
        "region": {"startLine": place.line},
    }


def _flow(case: Case, project: Project, otherwise: Place | None) -> dict[str, Any]:
    """The schedule as one code flow, in the order of its steps; nothing where a step cannot be pointed at.

    `otherwise`: the place of the steps of a program, whose lines are not known.
    """
    witness = case.witness
    if witness is None or not witness.steps:
        return {}
    steps = []
    found = places.of_steps(witness, project, otherwise)
    for number, (step, place) in enumerate(zip(witness.steps, found, strict=True), 1):
        if place is None:
            return {}
        steps.append(
            {
                "location": {"physicalLocation": _physical(place), "message": _text(_of_step(step))},
                "executionOrder": number,
                "properties": {"session": step.session},
            }
        )
    return {"codeFlows": [{"message": _text("The shortest schedule."), "threadFlows": [{"locations": steps}]}]}


def _of_step(step: Step) -> str:
    answer = short_statements.cut("; ".join(step.answered))
    if step.waits_for:
        answer = f"waits for {' and '.join(step.waits_for)}"
    after = f" → {answer}" if answer not in ("", "BEGIN", "COMMIT") else ""
    return f"{step.session}: {short_statements.statement(step.sent)}{after}"


def _fingerprint(suite: Suite, case: Case, kind: str, place: Place | None) -> str:
    """What makes it the same finding in the next run: not its line, which moves, and not what else was found."""
    parts = (suite.driver, suite.scenario, case.name, kind, "" if place is None else place.path)
    return _digest(parts)[:32]


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="backslashreplace")).hexdigest()


def _text(text: str) -> dict[str, str]:
    return {"text": text}
