"""Compares strategies: computes ratios with intervals from the runs of some rounds, and judges the strategies by them.

Each strategy runs once in each round, so the n-th run of a strategy belongs to round n. Ratios are taken within a
round, because a slow period of the machine slows both sides. This module neither runs nor formats anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from racebench.analysis.estimates import Estimate, geometric_mean, trend
from racebench.analysis.remedies import remedy
from racebench.core.anomalies import ANOMALIES
from racebench.core.quantity import quantity
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict

CONFIDENCE = 0.95
#: A smaller difference, in either direction, does not count.
MARGIN = 0.05

_WIDE = 0.20  # an interval is noisy if its upper end is more than this share above its middle
_DRIFT = 0.10
STOLEN = 0.02
LOADED = 0.5  # load average for each processor before the first run
_NOTED = 3  # the most notes of one strategy
FAILING = 0.01  # if a larger share of operations fails, commits a second do not show the cost
_SAMPLES = 500  # with fewer, the p99 depends on fewer than five operations
_WORST = (Verdict.VALID, Verdict.UNKNOWN, Verdict.INVALID)


class Judgement(StrEnum):
    """A strategy compared with the reference. Only VALID strategies are better or worse: anomalies matter more."""

    REFERENCE = "reference"
    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One strategy over all rounds.

    `verdict` is the worst of its runs, `found` every forbidden anomaly of them, `counts` their sums. `throughput_per_s`
    and `latency_us` are geometric means over the whole rounds, `ratio` that of the throughput to the reference's, each
    with its interval; None where there are fewer than two whole rounds or a round without a commit. `digest` changes
    with the strategy's SQL. `reason`: why it is judged so, in words.
    """

    strategy: str
    digest: str
    verdict: Verdict
    found: tuple[str, ...]
    runs: int
    counts: Mapping[str, int]
    throughput_per_s: Estimate | None
    latency_us: Mapping[str, Estimate | None]
    ratio: Estimate | None
    judgement: Judgement
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The machine's state: the load average before the first run, the share of CPU time that the hypervisor took."""

    load_average: float | None = None
    stolen: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All strategies: correct ones first, and of these the fastest first.

    `rounds`: the number requested; `whole`: the number that every strategy finished; `seed`: the seed of their order.
    `confidence`: the probability that all ratios lie in their intervals. `margin`: the share within which two
    throughputs are the same. `frame`: a digest of what all strategies share, the scenario's schema and consumers.
    """

    reference: str
    rounds: int
    whole: int
    seed: int
    confidence: float
    margin: float
    frame: str
    conditions: Conditions
    strategies: tuple[Compared, ...]
    warnings: tuple[str, ...]

    def of(self, strategy: str) -> Compared | None:
        """The result for a strategy, None if it was not compared."""
        return next((one for one in self.strategies if one.strategy == strategy), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The request for a comparison. `digests` by strategy, in the order of the request."""

    reference: str
    rounds: int
    seed: int
    digests: Mapping[str, str]
    frame: str
    confidence: float = CONFIDENCE
    margin: float = MARGIN


def by_strategy(runs: Sequence[RunResult], strategies: Sequence[str]) -> tuple[dict[str, list[RunResult]], int]:
    """Each strategy's runs in order of rounds, and the number of rounds that all of them finished."""
    runs_of: dict[str, list[RunResult]] = {name: [] for name in strategies}
    for run in runs:
        runs_of[run.strategy].append(run)
    return runs_of, min((len(of) for of in runs_of.values()), default=0)


def joint(confidence: float, together: int) -> float:
    """The confidence that each of several intervals needs so that all hold together (Bonferroni)."""
    return 1 - (1 - confidence) / max(1, together)


def compare(runs: Sequence[RunResult], asked: Asked, conditions: Conditions, cpus: int) -> Comparison:
    """Judge every strategy by its runs so far; the runs of an unfinished round count only for anomalies."""
    runs_of, whole = by_strategy(runs, list(asked.digests))
    confidence = joint(asked.confidence, len(runs_of) - 1)
    names = dict.fromkeys(name for run in runs for name in run.counts)
    rated = {name: [run.throughput_per_s for run in of[:whole]] for name, of in runs_of.items()}
    base_verdict, _ = worst(runs_of[asked.reference])
    totals = {name: _totals(of, names) for name, of in runs_of.items()}
    base_failing = failing(totals[asked.reference]) if base_verdict is Verdict.VALID else 0.0
    unrun = f"{asked.reference} was not run" if not runs_of[asked.reference] else ""
    compared = []
    for name, of in runs_of.items():
        ratio = None
        if name != asked.reference and min([*rated[name], *rated[asked.reference]], default=0) > 0:
            pairs = zip(rated[name], rated[asked.reference], strict=True)
            ratio = geometric_mean([ours / theirs for ours, theirs in pairs], confidence)
        verdict, kinds = worst(of)
        judgement, reason = Judgement.REFERENCE, ""
        if name != asked.reference:
            judgement, reason = judge(verdict, kinds, base_verdict, ratio, asked)
            if verdict is not Verdict.INVALID and (unrun or not of):
                judgement, reason = Judgement.INCONCLUSIVE, unrun if of else "it was not run"
            judgement, reason = _beside_failures(
                judgement, reason, failing(totals[name]), base_failing, asked.reference
            )
        compared.append(
            Compared(
                strategy=name,
                digest=asked.digests[name],
                verdict=verdict,
                found=kinds,
                runs=len(of),
                counts=totals[name],
                throughput_per_s=geometric_mean(rated[name], asked.confidence),
                latency_us={q: _latency(of[:whole], q, asked.confidence) for q in ("p50", "p99")},
                ratio=ratio,
                judgement=judgement,
                reason=reason,
            )
        )
    compared.sort(
        key=lambda one: (_WORST.index(one.verdict), -(one.throughput_per_s.value if one.throughput_per_s else 0))
    )
    return Comparison(
        reference=asked.reference,
        rounds=asked.rounds,
        whole=whole,
        seed=asked.seed,
        confidence=asked.confidence,
        margin=asked.margin,
        frame=asked.frame,
        conditions=conditions,
        strategies=tuple(compared),
        warnings=tuple(_warnings(runs_of, whole, compared, asked, conditions, cpus)),
    )


def worst(runs: Sequence[RunResult]) -> tuple[Verdict, tuple[str, ...]]:
    """The worst verdict of some runs (UNKNOWN without runs), and every forbidden kind that occurred in any of them."""
    verdict = max((run.verdict for run in runs), key=_WORST.index, default=Verdict.UNKNOWN)
    kinds = {kind for run in runs for kind in run.found}
    return verdict, tuple(kind for kind in ANOMALIES if kind in kinds)


def judge(
    verdict: Verdict, kinds: Sequence[str], reference: Verdict, ratio: Estimate | None, asked: Asked
) -> tuple[Judgement, str]:
    """Judge by anomalies, then by the interval: all above 1 is better, all below is worse, within the margin same."""
    if verdict is Verdict.INVALID:
        return Judgement.INVALID, ", ".join(kinds)
    if verdict is Verdict.UNKNOWN:
        return Judgement.INCONCLUSIVE, "its verdict is UNKNOWN"
    if reference is Verdict.INVALID:
        return Judgement.BETTER, f"it is VALID, {asked.reference} is not"
    if reference is Verdict.UNKNOWN:
        return Judgement.INCONCLUSIVE, f"the verdict of {asked.reference} is UNKNOWN"
    if ratio is None:
        return Judgement.INCONCLUSIVE, "an interval needs two whole rounds, each with a commit"
    if 1 / (1 + asked.margin) <= ratio.low and ratio.high <= 1 + asked.margin:
        return Judgement.SAME, f"within {100 * asked.margin:g} %"
    if ratio.low > 1:
        return Judgement.BETTER, "the interval is above 1"
    if ratio.high < 1:
        return Judgement.WORSE, "the interval is below 1"
    return Judgement.INCONCLUSIVE, "the interval contains 1"


def failing(counts: Mapping[str, int]) -> float:
    """The share of a strategy's operations that ended with an error in the application."""
    attempts = counts.get("attempts", 0)
    return counts.get("errors", 0) / attempts if attempts else 0.0


def _beside_failures(
    judgement: Judgement, reason: str, ours: float, theirs: float, reference: str
) -> tuple[Judgement, str]:
    """Why failing operations make the throughput unreliable: commits a second do not show the cost of failures."""
    if judgement in (Judgement.BETTER, Judgement.SAME) and ours > FAILING >= theirs:
        return Judgement.INCONCLUSIVE, f"{percent(ours)} of its operations failed"
    if judgement in (Judgement.WORSE, Judgement.SAME) and theirs > FAILING >= ours:
        return Judgement.INCONCLUSIVE, f"{percent(theirs)} of the operations of {reference} failed"
    return judgement, reason


def percent(share: float) -> str:
    """A share of at least 1 % as text; 100 % only if it is the whole."""
    return f"{min(99, round(100 * share)) if share < 1 else 100} %"


def _totals(runs: Sequence[RunResult], names: Iterable[str]) -> dict[str, int]:
    """The sums of all counts. There may be no run: before the end of the first round some strategies have none."""
    totals = {name: sum(run.counts.get(name, 0) for run in runs) for name in names}
    return totals | {"errors": sum(sum(run.errors.values()) for run in runs)}


def _latency(runs: Sequence[RunResult], quantile: str, confidence: float) -> Estimate | None:
    values = [run.latency_us[quantile] for run in runs]
    known = [value for value in values if value is not None]
    return geometric_mean(known, confidence) if len(known) == len(values) else None


def _warnings(
    runs_of: Mapping[str, Sequence[RunResult]],
    whole: int,
    compared: Sequence[Compared],
    asked: Asked,
    conditions: Conditions,
    cpus: int,
) -> list[str]:
    """Reasons not to rely on the figures, each with the next move."""
    said = []
    if any(len(of) < asked.rounds for of in runs_of.values()):
        said.append(
            f"{whole} of {asked.rounds} rounds were finished: speeds are of these alone, anomalies of every run; "
            "run it again for all"
        )
    if conditions.load_average is not None and conditions.load_average > LOADED * cpus:
        said.append(
            f"the load average was {conditions.load_average:.1f} on {cpus} CPUs before the first run: "
            "stop what else is running, or wait until it has ended"
        )
    if conditions.stolen is not None and conditions.stolen > STOLEN:
        said.append(
            f"the hypervisor gave {100 * conditions.stolen:.0f} % of the CPU time to others: "
            "measure on a machine of its own"
        )
    rates = {run.load.rate_per_s for of in runs_of.values() for run in of} - {None}
    if rates and len(compared) > 1:
        said.append(
            f"--rate {rates.pop():g} decides how much is committed by every strategy that keeps up: "
            "compare the latencies, or leave it out to compare throughput"
        )
    said += _drift(runs_of, whole)
    said += _wide(compared, whole, asked)
    said += _few(runs_of)
    for one in compared:
        of = runs_of[one.strategy]
        said += _troubles(one, of)
        said += _notes(one.strategy, of, cpus)
        if one.verdict is Verdict.VALID and (unseen := [kind for kind in of[0].expected if kind not in one.found]):
            said.append(
                f"{one.strategy} is known to allow {' and '.join(unseen)}, which did not show: "
                "raise --workers, --duration, --think or --hold before believing it"
            )
    return said


def _troubles(one: Compared, runs: Sequence[RunResult]) -> list[str]:
    """Why a verdict is UNKNOWN, and which operations of a VALID strategy failed."""
    without = [run for run in runs if run.counts["committed"] == 0]
    codes: dict[str, int] = {}
    for run in without or runs:
        for code, times in run.errors.items():
            codes[code] = codes.get(code, 0) + times
    worst_code = max(codes, key=lambda code: codes[code], default="")
    words = next((run.messages[worst_code] for run in runs if worst_code in run.messages), "")
    error = f" ({worst_code} {words}".rstrip() + ")" if worst_code else ""
    if one.verdict is Verdict.UNKNOWN and without:
        return [
            f"{one.strategy} committed nothing in {len(without)} of {quantity(len(runs), 'run')}{error}: "
            "nothing follows of it; mend the strategy, or see the notes in the JSON"
        ]
    apart = [run for run in runs if run.pace is not None and run.pace.overlapped is False]
    if one.verdict is Verdict.UNKNOWN and apart:
        return [
            f"no two operations of {one.strategy} overlapped in time in {len(apart)} of {len(runs)} runs, "
            f"so no race could occur in them: {remedy(apart[0].load)}"
        ]
    if one.verdict is Verdict.UNKNOWN and runs:
        return [
            f"a consumer did not read to the end beside {one.strategy}, so what it missed is not known: "
            "run it again, with a larger --batch if it could not keep up"
        ]
    if one.verdict is Verdict.VALID and (share := failing(one.counts)) > FAILING:
        return [
            f"{percent(share)} of the operations of {one.strategy} failed{error}: "
            "the figures are those of the others; have it try again (retry in scenario.toml), or make it wait"
        ]
    return []


def _wide(compared: Sequence[Compared], whole: int, asked: Asked) -> list[str]:
    """A warning about the widest interval if it is too wide, with the number of rounds that would be enough."""
    judged = [
        one for one in compared if one.verdict is not Verdict.INVALID
    ]  # the throughput of the others does not matter
    wide = [one for one in judged if one.ratio is not None and _reach(one.ratio) > _WIDE]
    if not wide:
        return []
    widest = max(wide, key=lambda one: _reach(one.ratio))  # type: ignore[arg-type]  # only strategies with a ratio
    assert widest.ratio is not None
    reach = _reach(widest.ratio)
    more = f" and of {len(wide) - 1} more" if len(wide) > 1 else ""
    # The interval shrinks with the root of the rounds.
    needed = math.ceil(whole * (math.log1p(reach) / math.log1p(_WIDE)) ** 2)
    advice = f"--rounds {needed}" if needed <= 10 * asked.rounds else "a quieter machine"
    how = f"reaches to {1 + reach:.2g} times its middle" if reach < 10 else "says nothing"
    return [f"noisy: the interval of {widest.strategy}{more} {how}: try {advice}, or a longer --duration"]


def _few(runs_of: Mapping[str, Sequence[RunResult]]) -> list[str]:
    """A warning about the strategy with the fewest commits in a round, if they are too few for a p99."""
    fewest = {name: min((run.counts["committed"] for run in of), default=0) for name, of in runs_of.items()}
    few = {name: commits for name, commits in fewest.items() if 0 < commits < _SAMPLES}
    if not few:
        return []
    name = min(few, key=lambda strategy: few[strategy])
    others = quantity(len(few) - 1, "other strategy has", "other strategies have")
    more = f" ({others} a round with fewer than {_SAMPLES:,}, too)" if len(few) > 1 else ""
    longer = runs_of[name][0].load.duration_s
    advice = (
        "give each run more operations" if longer is None else f"try --duration {longer * _SAMPLES / few[name]:.2g}"
    )
    return [
        f"a round of {name} has only {quantity(few[name], 'commit')}: "
        f"its p99 rests on {math.ceil(few[name] / 100)} of them{more}; {advice}"
    ]


def _reach(ratio: Estimate) -> float:
    return ratio.high / ratio.value - 1


def _drift(runs_of: Mapping[str, Sequence[RunResult]], whole: int) -> list[str]:
    """A warning if all strategies together became slower or faster from the first round to the last."""
    rated = [[run.throughput_per_s for run in of[:whole]] for of in runs_of.values()]
    if not rated or any(value <= 0 for of in rated for value in of):
        return []
    together = [math.exp(math.fsum(math.log(value) for value in row) / len(row)) for row in zip(*rated, strict=True)]
    change = trend(together)
    if change is None or change.low <= 1 <= change.high or abs(math.log(change.value)) < math.log1p(_DRIFT):
        return []
    way = "slower" if change.value < 1 else "faster"
    factor = max(change.value, 1 / change.value)
    return [
        f"the machine became {factor:.2f} times {way} from the first round to the last: ratios are taken within a "
        "round, commits per s and latencies are not; stop what else is running, or give --warmup"
    ]


def _notes(strategy: str, runs: Sequence[RunResult], cpus: int) -> list[str]:
    """Notes on events (a worker died), each with its round; then remarks on the load, once for each strategy."""
    from racebench.analysis.performance import remarks  # numpy takes a tenth of a second to load

    happened, remarked = [], []
    for number, run in enumerate(runs, 1):
        known = []
        if run.pace is not None:
            known = remarks(run.pace, run.load, run.counts["attempts"], run.seconds + run.load.warmup_s, cpus)
        remarked += known[:1]
        happened += [f"{strategy}, round {number}: {note}" for note in run.notes if note not in known]
    said = happened[:_NOTED]
    if len(happened) > _NOTED:
        said.append(f"{strategy}: {len(happened) - _NOTED} more notes; see the JSON")
    return said + ([f"{strategy}, {len(remarked)} of {len(runs)} rounds: {remarked[0]}"] if remarked else [])
