"""The request for an exploration, its default limits, and what it is judged by. Figures are checked by who asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from racebench.core.anomalies import ANOMALIES, NON_SERIALIZABLE, SESSION_LOST
from racebench.core.errors import UsageProblem, suggest
from racebench.core.model import Consumer, Origin, Scenario, Strategy
from racebench.exploration.oracle.effects import Oracle
from racebench.exploration.pool import PoolOptions
from racebench.workloads.ad_hoc import lacks_invariant

#: The default time limit for a step that is not blocked by another session, in seconds.
STEP_LIMIT_S = 10.0
#: The default time limit for a search, in seconds.
BUDGET_S = 60.0
#: With the default limits, a search that has found an anomaly ends after this many schedules.
ENOUGH = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationRequest:
    """What to explore, and how far. `polls`: of the consumer; `budget_s` and `max_schedules`: None for no limit.

    `enough`: once an anomaly was found, the search ends after this many schedules; None for all of them.
    `crash`: how many connections of sessions may be cut in a schedule.
    `depth` and `seed` belong to the random search that follows an exhaustive search that was not finished.
    `draws`: how many choices of random numbers to explore, one after the other, the first of them number `draw`.
    `schema`: the name of the schema to create; None for a new name each time (an application may remember the first it
    was given). `in_place`: the schema exists, with the application's own tables in it, and stays. `step_s`: the time
    limit, in seconds, for a step that is not blocked by another session. `oracle`: what of a schedule's effect must be
    that of a serial order; None to compare nothing. `allowed`: kinds of anomaly that were taken from what the scenario
    forbids. `pooler`: the pooler before the sessions, which is simulated; None if they connect directly.
    """

    scenario: Scenario
    strategy: Strategy
    consumer: Consumer | None = None
    sessions: int = 2
    polls: int = 3
    crash: int = 0
    reduce: bool = True
    budget_s: float | None = None
    max_schedules: int | None = None
    enough: int | None = None
    stop_at_first: bool = False
    depth: int = 3
    seed: int = 0
    draw: int = 0
    draws: int = 1
    schema: str | None = None
    in_place: bool = False
    step_s: float = STEP_LIMIT_S
    oracle: Oracle | None = None
    allowed: tuple[str, ...] = ()
    pooler: PoolOptions | None = None


def judged(
    request: ExplorationRequest, *, oracle: str | Oracle | None = None, allow: Sequence[str] = ()
) -> ExplorationRequest:
    """The request with the oracle that judges it, and with the kinds of anomaly that its scenario forbids then.

    Own code is always compared with its serial orders. That decides if there is no invariant, or if an `oracle` is
    named; other scenarios are compared only then. `allow`: kinds that are not forbidden. Raises UsageProblem.
    """
    scenario = request.scenario
    for kind in allow:
        if kind not in ANOMALIES:
            raise UsageProblem(f"allow: anomaly '{kind}' is unknown{suggest(kind, ANOMALIES)}")
    if oracle is not None and oracle not in list(Oracle):
        raise UsageProblem(f"oracle: {oracle!r} is unknown; it is one of {', '.join(Oracle)}, or None")
    own = scenario.origin is Origin.OWN_CODE
    decides = oracle is not None or lacks_invariant(scenario)
    forbid = [kind for kind in (*scenario.forbid, *([NON_SERIALIZABLE] if decides else [])) if kind not in allow]
    chosen = Oracle(oracle) if oracle is not None else Oracle.RETURNS if own else None
    forbid += [SESSION_LOST] if request.pooler is not None and SESSION_LOST not in allow else []
    scenario = replace(scenario, forbid=tuple(dict.fromkeys(forbid)))
    return replace(request, scenario=scenario, oracle=chosen, allowed=tuple(dict.fromkeys(allow)))


def with_default_limits(request: ExplorationRequest, *, thorough: bool = False) -> ExplorationRequest:
    """The request with the default limits if it has none; `budget_s` of infinity asks for no limit.

    `thorough`: the search does not end early because an anomaly was found.
    """
    if request.budget_s is None and request.max_schedules is None:
        return replace(request, budget_s=BUDGET_S, enough=None if thorough else ENOUGH)
    return replace(request, budget_s=None) if request.budget_s == inf else request
