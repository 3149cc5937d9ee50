"""The options of the public functions: what they run, how they search, and how they load.

The typed dictionaries name the options of Bench's methods once more, for functions that only pass them on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from racebench.core.model import Protocol
from racebench.workloads import ad_hoc

#: A function, `module:function`, a file of SQL, or the name of a scenario.
Subject = str | Path | Callable[..., Any]
#: SQL, a file of SQL, `module:function` or a function; or several of them.
SqlOrCallable = ad_hoc.Definition | Sequence[ad_hoc.Definition]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How an exploration searches. `polls` are the consumer's; `step_timeout` is in seconds.

    `reduce`: leave out schedules that show the same as others. `depth`: of the bugs that schedules drawn at random
    are to meet, if the search cannot be finished. `step_timeout`: limit for a step that is not blocked by another
    session. `draws`: choices of random numbers to explore, if scripts or calls draw any.
    """

    reduce: bool = True
    depth: int = 3
    polls: int = 3
    step_timeout: float = 10.0
    draws: int = 1


class ReplayOptions(TypedDict, total=False):
    """What replay takes besides the schedule; see Bench.replay."""

    setup: SqlOrCallable
    invariant: SqlOrCallable
    step_timeout: float


class ExploreOptions(TypedDict, total=False):
    """What explore takes; see Bench.explore."""

    strategy: str | None
    consumer: str | None
    sessions: int | None
    setup: SqlOrCallable
    invariant: SqlOrCallable
    budget: float | None
    max_schedules: int | None
    stop_at_first: bool
    seed: int | None
    search: Search


class LoadOptions(TypedDict, total=False):
    """The rarer properties of a load; see racebench.core.model.Load, which has the same names."""

    think_us: int
    hold_us: int
    tenants: int
    rollback_percent: float
    long_percent: float
    long_us: int
    jitter_us: int
    poll_interval_ms: float
    batch: int
    protocol: Protocol
    connections_per_worker: int
    rate_per_s: float | None
    warmup_s: float


class CompareOptions(LoadOptions, total=False):
    """What compare takes; see Bench.compare."""

    strategies: Sequence[str] | None
    consumer: str | Sequence[str] | None
    reference: str | None
    rounds: int
    workers: int
    seconds: float | None
    operations: int | None
    setup: SqlOrCallable
    invariant: SqlOrCallable
    seed: int | None


class HammerOptions(LoadOptions, total=False):
    """What hammer takes; see Bench.hammer."""

    strategy: str | None
    consumer: str | Sequence[str] | None
    workers: int
    seconds: float | None
    operations: int | None
    setup: SqlOrCallable
    invariant: SqlOrCallable
    seed: int | None
