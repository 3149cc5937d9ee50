"""Compares a comparison with an earlier one, the baseline: new anomalies, and regressions of throughput.

An anomaly counts on every machine. Throughput is compared only if machine, server, load, scenario and racebench are the
same, by the interval of the ratio. Because a machine is not equally fast on all days, both throughputs are relative to
the reference, if its SQL has not changed. This module reads no files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from racebench.analysis.comparison import FAILING, LOADED, STOLEN, Comparison, by_strategy, failing, joint, percent
from racebench.analysis.estimates import Estimate, ratio_of_means
from racebench.core.errors import UsageProblem
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict

#: The fields that must be the same in both environments, and their names in messages.
_SAME = {
    "racebench": "racebench",
    "target": "the target",
    "server_version": "PostgreSQL",
    "processor": "the processor",
    "cpu_count": "the number of CPUs",
    "machine": "the architecture",
    "client": "the client",
}
#: What older results do not have, and what it was.
_BEFORE = {"client": "Python"}


class Standing(StrEnum):
    """The result of comparing a strategy with the baseline."""

    ANOMALY = "new anomaly"
    SLOWER = "slower"
    HELD = "held"
    INCONCLUSIVE = "inconclusive"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One of the two sides: the runs of a comparison, with their environment and date."""

    created: str
    environment: Mapping[str, Any]
    runs: Sequence[RunResult]
    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One strategy, compared with the baseline.

    `ratio`: its throughput now divided by that of the baseline, each relative to the control's if there is one; None if
    it is not known.
    """

    strategy: str
    standing: Standing
    ratio: Estimate | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineResult:
    """A comparison and a baseline with that name and date. `fail_slower`: the loss of throughput that is a regression.

    `differs`: the conditions that differ; if there are any, throughput is not judged. `control`: the reference of both,
    to which throughput is relative; None if it is not the same.
    """

    name: str
    created: str
    fail_slower: float | None
    control: str | None
    differs: tuple[str, ...]
    strategies: tuple[Beside, ...]


def check(then: Measured, name: str, scenario: str) -> None:
    """Raise UsageProblem for a baseline that cannot be used: damaged, too short, or of another scenario."""
    shapes = (
        (then.environment, dict),
        (then.environment.get("server_settings", {}) if isinstance(then.environment, dict) else None, dict),
        (then.created, str),
        (then.comparison.whole, int),
        (then.comparison.conditions.load_average or 0, int | float),
        (then.comparison.conditions.stolen or 0, int | float),
        *((run.strategy, str) for run in then.runs),
        *((consumer.name, str) for run in then.runs for consumer in run.consumers),
        *((one.strategy, str) for one in then.comparison.strategies),
        *((one.counts, dict) for one in then.comparison.strategies),
        *(
            (one.counts.get(name, 0), int)
            for one in then.comparison.strategies
            if isinstance(one.counts, dict)
            for name in ("attempts", "errors")
        ),
    )
    if not all(isinstance(value, shape) for value, shape in shapes):
        raise UsageProblem(f"baseline {name} is damaged; save another")
    if any(run.scenario != scenario for run in then.runs):
        raise UsageProblem(f"baseline {name} is of '{then.runs[0].scenario}', this is '{scenario}'; name another")
    if then.comparison.whole < 2:
        raise UsageProblem(
            f"baseline {name} has {then.comparison.whole} whole rounds, an interval needs two; save another"
        )
    strategies = {one.strategy for one in then.comparison.strategies}
    if {run.strategy for run in then.runs} != strategies:
        raise UsageProblem(f"baseline {name} is not whole: its runs are not those of its comparison; save another")
    for run in then.runs:
        rate = run.throughput_per_s
        if not isinstance(rate, int | float) or not 0 <= rate < float("inf"):
            raise UsageProblem(f"baseline {name}: a run of '{run.strategy}' has throughput {rate!r}; save another")


def beside(now: Measured, then: Measured, *, name: str, fail_slower: float | None) -> BaselineResult:
    """Compare every strategy with the baseline."""
    differs = tuple(differences(now, then))
    control = _control(now.comparison, then.comparison)
    busy = "" if differs or control is not None else _busy(now, "now") or _busy(then, "then")
    ours, theirs = (_rates(side, control) for side in (now, then))
    # Several strategies are judged, so each interval needs a higher confidence.
    confidence = joint(now.comparison.confidence, len(ours) - (control is not None))
    standings = []
    for one in now.comparison.strategies:
        before = then.comparison.of(one.strategy)
        if before is None:
            asked = one.verdict is not Verdict.VALID or fail_slower is not None
            standing = Standing.INCONCLUSIVE if asked else Standing.NOT_JUDGED
            reason = "it is not in the baseline; save the baseline again"
            standings.append(Beside(strategy=one.strategy, standing=standing, ratio=None, reason=reason))
            continue
        ratio = None
        if not differs and one.strategy != control:
            ratio = ratio_of_means(ours[one.strategy], theirs[one.strategy], confidence)
        standing, reason = Standing.NOT_JUDGED, ""
        new = [kind for kind in one.found if kind not in before.found]
        if new:
            standing, reason = Standing.ANOMALY, ", ".join(new)
        elif one.verdict is Verdict.INVALID:
            reason = "INVALID in both: its throughput does not matter"
        elif one.verdict is Verdict.UNKNOWN:
            standing, reason = Standing.INCONCLUSIVE, "its verdict is UNKNOWN"
        elif fail_slower is not None and differs:
            standing, reason = Standing.INCONCLUSIVE, "the conditions differ"
        elif fail_slower is not None and one.strategy == control:
            reason = "the others are relative to it"
        elif fail_slower is not None and busy:
            standing, reason = Standing.INCONCLUSIVE, busy
        elif fail_slower is not None:
            standing, reason = _slower(ratio, fail_slower)
            if standing is Standing.HELD and failing(one.counts) > FAILING >= failing(before.counts):
                standing = Standing.INCONCLUSIVE
                reason = f"{percent(failing(one.counts))} of its operations fail, more than in the baseline"
        if one.digest != before.digest:
            reason = f"{reason}; its SQL has changed since" if reason else "its SQL has changed since"
        standings.append(Beside(strategy=one.strategy, standing=standing, ratio=ratio, reason=reason))
    return BaselineResult(
        name=name,
        created=then.created,
        fail_slower=fail_slower,
        control=control,
        differs=differs,
        strategies=tuple(standings),
    )


def _control(now: Comparison, then: Comparison) -> str | None:
    """The reference, if it is the same on both sides and there are other strategies."""
    is_, was = now.of(now.reference), then.of(now.reference)
    if now.reference != then.reference or is_ is None or was is None or len(now.strategies) < 2:
        return None
    known = is_.throughput_per_s is not None and was.throughput_per_s is not None
    return now.reference if known and is_.digest == was.digest else None


def _rates(side: Measured, control: str | None) -> dict[str, list[float]]:
    """Each strategy's throughput in the whole rounds, relative to the control's in the same round."""
    runs_of, whole = by_strategy(side.runs, [one.strategy for one in side.comparison.strategies])
    rates = {name: [run.throughput_per_s for run in of[:whole]] for name, of in runs_of.items()}
    if control is None:
        return rates
    return {
        name: [rate / base for rate, base in zip(of, rates[control], strict=True) if base > 0]
        for name, of in rates.items()
    }


def _busy(side: Measured, when: str) -> str:
    """Why throughput without a control is not reliable; "" if it is."""
    conditions, cpus = side.comparison.conditions, side.environment.get("cpu_count")
    load = conditions.load_average
    if load is not None and cpus and load > LOADED * cpus:
        how = f"load average {load:.1f} on {cpus} CPUs"
        return (
            f"the machine was busy {when} ({how}), and no reference shows by how much; run it when the machine is idle"
        )
    if conditions.stolen is not None and conditions.stolen > STOLEN:
        share = 100 * conditions.stolen
        return (
            f"the hypervisor took {share:.0f} % of the CPU time {when}, and no reference shows the effect; run it again"
        )
    return ""


def _slower(ratio: Estimate | None, fail_slower: float) -> tuple[Standing, str]:
    if ratio is None:
        return Standing.INCONCLUSIVE, "an interval needs two whole rounds, each with a commit"
    least = 1 - fail_slower
    if ratio.high < least:
        return Standing.SLOWER, f"the interval is below {least:.2g}"
    if ratio.low >= least:
        return Standing.HELD, f"the interval is not below {least:.2g}"
    return Standing.INCONCLUSIVE, f"the interval contains {least:.2g}; raise --rounds or --duration"


def differences(now: Measured, then: Measured) -> Iterator[str]:
    """The conditions that differ, each with its value in the baseline and now."""
    for key, called in _SAME.items():
        was, is_ = (side.environment.get(key, _BEFORE.get(key)) for side in (then, now))
        if was != is_ or was is None:
            yield f"{called} was {was or 'not recorded'}, is {is_ or 'not recorded'}"
    was_set, is_set = then.environment.get("server_settings", {}), now.environment.get("server_settings", {})
    for name in sorted(was_set.keys() | is_set.keys()):
        if was_set.get(name) != is_set.get(name):
            yield f"{name} was {was_set.get(name, 'not recorded')}, is {is_set.get(name, 'not recorded')}"
    if now.comparison.frame != then.comparison.frame:
        yield "the scenario's schema or consumers have changed"
    if now.runs:
        was_load, is_load = then.runs[0].load, now.runs[0].load
        for field in dataclasses.fields(is_load):
            was, is_ = getattr(was_load, field.name), getattr(is_load, field.name)
            if was != is_ and field.name != "seed":
                yield f"{field.name} was {_said(was)}, is {_said(is_)}"
        was_read, is_read = (sorted({c.name for run in of.runs for c in run.consumers}) for of in (then, now))
        if was_read != is_read:
            yield f"consumers were {', '.join(was_read) or 'none'}, are {', '.join(is_read) or 'none'}"


def _said(value: object) -> object:
    """A property of a load as text: of faults, as they are written."""
    return ", ".join(fault.text for fault in value) or "none" if isinstance(value, tuple) else value
