"""Annotations of GitHub Actions: a line of a workflow's log that shows a race at the application's line that raced.

They are commands to the runner, one a finding, for a strategy that fails the command, and for one in which a race was
found and that does not. Source: docs.github.com, "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from racebench.core.plain_text import printable
from racebench.core.quantity import quantity
from racebench.core.verdict import Verdict
from racebench.reports import exploration_text, places, short_statements
from racebench.reports.formats import cases
from racebench.reports.formats.cases import Case, Suite
from racebench.reports.places import Place, Project
from racebench.reports.results.document import Document
from racebench.reports.results.explorations import Explorations

#: How many of a level GitHub shows of one step.
MOST = 10
_MOST_STEPS = 12
_INSTEAD = (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"))
_IN_PROPERTIES = ((":", "%3A"), (",", "%2C"))


class Level(StrEnum):
    """How an annotation looks."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """What makes the command fail: `kinds` of anomaly, every forbidden one for `any_kind`, or none.

    `race_expected`: a race is what the command is to show, and fails without one.
    """

    kinds: tuple[str, ...] = ()
    any_kind: bool = False
    race_expected: bool = False


#: Of the tests of a project: each anomaly that was found is a failure, and so is UNKNOWN.
OF_TESTS = Judging(any_kind=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One annotation. `place`: None where the application's line is not known."""

    level: Level
    title: str
    message: str
    place: Place | None = None

    def __str__(self) -> str:
        """The command, on one line, without a line break at its end."""
        properties = {} if self.place is None else {"file": self.place.path, "line": str(self.place.line)}
        properties["title"] = self.title
        listed = ",".join(f"{name}={_escaped(value, _INSTEAD + _IN_PROPERTIES)}" for name, value in properties.items())
        return f"::{self.level} {listed}::{_escaped(self.message, _INSTEAD)}"


def lines(documents: Sequence[Document | Explorations], judging: Judging) -> list[str]:
    """The commands for some results, one for each strategy in which a race was found, or that has no verdict."""
    project = places.here()
    return [
        str(annotation)
        for suite in cases.suites(documents)
        for case in suite.cases
        for annotation in _of_case(suite, case, judging, project)
    ]


def most(commands: Sequence[str]) -> list[str]:
    """As many commands of each level as GitHub shows of one step; the last one says how many are left out."""
    shown = []
    for level in Level:
        of_level = [command for command in commands if command.startswith(f"::{level} ")]
        if len(of_level) > MOST:
            more = Annotation(
                level=level,
                title=f"racebench: {quantity(len(of_level) - MOST + 1, 'more result')}",
                message=f"GitHub shows {MOST} annotations of a step. What the step prints has all results.",
            )
            of_level = [*of_level[: MOST - 1], str(more)]
        shown += of_level
    return shown


def _of_case(suite: Suite, case: Case, judging: Judging, project: Project) -> Iterator[Annotation]:
    named = f"{suite.scenario}: {case.name}"
    if suite.driver == cases.LIMITS:
        if case.verdict is not Verdict.VALID:
            yield Annotation(level=Level.ERROR, title=f"racebench: {case.name}", message=case.message)
        return
    failing = _failing(case, judging)
    found = case.found if case.verdict is Verdict.INVALID else ()
    kinds = [kind for kind in case.counts if kind in failing or kind in found]
    if judging.race_expected:
        if not kinds:
            yield Annotation(level=Level.ERROR, title=f"racebench: no race in {named}", message=case.message)
        return
    if kinds:
        yield Annotation(
            level=_level(kinds, failing, case),
            title=f"racebench: {', '.join(kinds)} in {named}",
            message="\n".join(_said(case, project)),
            place=places.of_case(case, project),
        )
    elif case.verdict is Verdict.UNKNOWN:
        level = Level.ERROR if judging.any_kind or judging.kinds else Level.WARNING
        yield Annotation(level=level, title=f"racebench: no verdict on {named}", message=case.message)


def _failing(case: Case, judging: Judging) -> tuple[str, ...]:
    """The anomalies of a case for which the command fails."""
    return tuple(kind for kind in case.counts if kind in (case.found if judging.any_kind else judging.kinds))


def _level(kinds: Sequence[str], failing: Sequence[str], case: Case) -> Level:
    """What fails the command is an error; else what the scenario says of the strategy is a notice."""
    if failing:
        return Level.ERROR
    return Level.NOTICE if set(kinds) <= case.known else Level.WARNING


def _said(case: Case, project: Project) -> Iterator[str]:
    yield case.message
    witness = case.witness
    if witness is None:
        return
    steps = list(zip(witness.steps, places.of_steps(witness, project), strict=True))
    for step, place in steps[:_MOST_STEPS]:
        at = f" ({place})" if place is not None else ""
        yield f"{step.session}: {short_statements.statement(step.sent)}{at}"
    if len(steps) > _MOST_STEPS:
        yield f"… {quantity(len(steps) - _MOST_STEPS, 'more step')}"
    if remedy := exploration_text.remedy(witness):
        yield f"Fix: {remedy}"
    if witness.command:
        yield f"Run it again: {witness.command}"


def _escaped(text: str, instead: Sequence[tuple[str, str]]) -> str:
    plain = printable(text)
    for special, escape in instead:
        plain = plain.replace(special, escape)
    return plain
