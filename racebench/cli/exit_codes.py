"""From results to the exit code: --fail-on, --expect, thresholds and baselines are decided here, for all commands.

The codes are documented in docs/exit-codes.md. Anomalies outrank crossed limits, and limits outrank what is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from racebench.core.anomalies import ANOMALIES, Evidence, needing
from racebench.core.errors import ExitCode, UsageProblem, suggest
from racebench.core.verdict import Verdict

if TYPE_CHECKING:
    from racebench.analysis.baselines import BaselineResult
    from racebench.analysis.thresholds import Held
    from racebench.cli.option_groups import GateOptions

_ANY = ("any",)
_NONE = ("none",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What --fail-on and --expect ask for. `fail_on` are kinds of anomaly, ("any",) or empty."""

    fail_on: tuple[str, ...] = ()
    expect_race: bool = False

    @property
    def names_kinds(self) -> bool:
        """Whether it matters which kinds of anomaly occur, not only whether there is a forbidden one."""
        return self.fail_on not in ((), _ANY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a result says about anomalies. `counts` has every kind; None is a kind that the result cannot show."""

    forbidden: Sequence[str]
    counts: Mapping[str, int | None]
    verdict: Verdict

    def shows(self, kinds: Sequence[str]) -> bool:
        """Whether there is an anomaly of one of these kinds; of the forbidden ones for "any", and for no kinds."""
        wanted = self.forbidden if tuple(kinds) in ((), _ANY) else kinds
        return any(self.counts[kind] for kind in wanted)


def gates_of(options: GateOptions, *, explored: bool = False, own_code: bool = False) -> Gates:
    """Check --fail-on and --expect; raises UsageProblem for an unknown kind of anomaly.

    `explored`: the results are of schedules. Kinds that a schedule does not show are refused: they are never found.
    `own_code`: the user's own code is judged, so that without --fail-on any forbidden anomaly counts. A strategy of a
    scenario is measured: that `naive` has a race is no failure.
    """
    kinds = _ANY if own_code and options.fail_on is None else _kinds(options.fail_on)
    if missing := [kind for kind in kinds if explored and kind in ANOMALIES and not ANOMALIES[kind].explored]:
        raise UsageProblem(f"--fail-on: {missing[0]} are not counted in schedules; `racebench run` counts them")
    of_schedules = {*needing(Evidence.SERIAL_ORDERS), *needing(Evidence.SCHEDULES)}
    if (alone := [kind for kind in kinds if kind in of_schedules]) and not explored:
        raise UsageProblem(f"--fail-on: {alone[0]} is counted in schedules alone; `racebench explore` counts it")
    return Gates(fail_on=kinds, expect_race=options.expect == "race")


def _kinds(text: str | None) -> tuple[str, ...]:
    """The kinds that --fail-on names."""
    if text is None:
        return ()
    kinds = tuple(part.strip() for part in text.split(",") if part.strip())
    if not kinds:
        raise UsageProblem(
            f"--fail-on takes anomalies, for example duplicates,missed, or 'any' or 'none', not '{text}'"
        )
    if "any" in kinds:
        return _ANY
    if kinds == _NONE:
        return ()
    for kind in kinds:
        if kind not in ANOMALIES:
            raise UsageProblem(f"--fail-on: anomaly '{kind}' is unknown{suggest(kind, [*ANOMALIES, 'any', 'none'])}")
    return kinds


def exit_code(
    findings: Iterable[Finding],
    gates: Gates,
    *,
    thresholds: Iterable[Held] = (),
    baseline: BaselineResult | None = None,
) -> ExitCode:
    """0, or the first of 3, 4 and 5 that applies.

    3: an anomaly that --fail-on names, a new one since the baseline, or, with --expect race, a result without any;
    4: a crossed threshold, or a strategy slower than --fail-slower allows; 5: a needed verdict, value or interval is
    not known.
    """
    findings = tuple(findings)
    limits = _codes_of_limits(tuple(thresholds), baseline)
    anomalous = bool(gates.fail_on) and any(finding.shows(gates.fail_on) for finding in findings)
    unknown = bool(gates.fail_on) and any(finding.verdict is Verdict.UNKNOWN for finding in findings)
    if gates.expect_race:
        anomalous, unknown = not all(finding.shows(gates.fail_on) for finding in findings), False
    if anomalous or ExitCode.ANOMALY in limits:
        return ExitCode.ANOMALY
    if ExitCode.THRESHOLD in limits:
        return ExitCode.THRESHOLD
    if unknown or ExitCode.INCONCLUSIVE in limits:
        return ExitCode.INCONCLUSIVE
    return ExitCode.OK


def _codes_of_limits(thresholds: Sequence[Held], baseline: BaselineResult | None) -> set[ExitCode]:
    """The codes of thresholds and of a baseline that do not pass."""
    if not thresholds and baseline is None:
        return set()
    from racebench.analysis.baselines import Standing
    from racebench.analysis.thresholds import Outcome

    code_of = {
        Standing.ANOMALY: ExitCode.ANOMALY,
        Outcome.CROSSED: ExitCode.THRESHOLD,
        Standing.SLOWER: ExitCode.THRESHOLD,
        Outcome.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
        Standing.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
    }
    strategies = baseline.strategies if baseline is not None else ()
    found = [*(held.outcome for held in thresholds), *(strategy.standing for strategy in strategies)]
    return {code_of[outcome] for outcome in found if outcome in code_of}
