"""racebench as a library: explore, replay and hammer functions, scripts and scenarios from Python, on one server.

    import racebench

    racebench.explore(create_order, sessions=2, setup=SCHEMA, invariant="SELECT …").assert_clean()
    racebench.hammer(create_order, workers=4, seconds=1, setup=SCHEMA, invariant="SELECT …").assert_clean()
    racebench.explore("version-counter", strategy="naive", consumer="cursor")

A function takes a psycopg connection, or nothing if it makes its own from RACEBENCH_DSN or DATABASE_URL. Each function
here has a server of its own; a Bench is one server for many calls.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from racebench.api.bench import Bench
from racebench.api.options import (
    CompareOptions,
    ExploreOptions,
    HammerOptions,
    ReplayOptions,
    Search,
    SqlOrCallable,
    Subject,
)
from racebench.api.results import Comparison, Exploration, Hammering, NotClean, RaceFound, Replay, VerdictUnknown
from racebench.core.defaults import GIVE_UP_SECONDS
from racebench.core.errors import RacebenchError
from racebench.core.results import Verdict

if TYPE_CHECKING:
    from racebench.analysis.offline import CheckResult


def explore(
    *subjects: Subject,
    dsn: str | None = None,
    server: int = 18,
    give_up_after: float = GIVE_UP_SECONDS,
    **options: Unpack[ExploreOptions],
) -> Exploration:
    """Explore on a server of its own; see Bench.explore."""
    with Bench(dsn, server=server, give_up_after=give_up_after) as bench:
        return bench.explore(*subjects, **options)


def replay(
    *subjects: Subject,
    schedule: str,
    dsn: str | None = None,
    server: int = 18,
    give_up_after: float = GIVE_UP_SECONDS,
    **options: Unpack[ReplayOptions],
) -> Replay:
    """Run one schedule again on a server of its own; see Bench.replay."""
    with Bench(dsn, server=server, give_up_after=give_up_after) as bench:
        return bench.replay(*subjects, schedule=schedule, **options)


def hammer(
    *subjects: Subject,
    dsn: str | None = None,
    server: int = 18,
    give_up_after: float = GIVE_UP_SECONDS,
    **options: Unpack[HammerOptions],
) -> Hammering:
    """Hammer on a server of its own; see Bench.hammer."""
    with Bench(dsn, server=server, give_up_after=give_up_after) as bench:
        return bench.hammer(*subjects, **options)


def compare(
    *subjects: Subject,
    dsn: str | None = None,
    server: int = 18,
    give_up_after: float = GIVE_UP_SECONDS,
    **options: Unpack[CompareOptions],
) -> Comparison:
    """Compare on a server of its own; see Bench.compare."""
    with Bench(dsn, server=server, give_up_after=give_up_after) as bench:
        return bench.compare(*subjects, **options)


def check(path: str | Path) -> CheckResult:
    """Check a recorded history: `.npz`, `.jsonl` or `.edn`; raises UsageProblem. See racebench.analysis.offline."""
    from racebench.analysis import offline

    return offline.check_file(Path(path), None)


__all__ = [
    "Bench",
    "Comparison",
    "Exploration",
    "Hammering",
    "NotClean",
    "RaceFound",
    "RacebenchError",
    "Replay",
    "Search",
    "SqlOrCallable",
    "Subject",
    "Verdict",
    "VerdictUnknown",
    "check",
    "compare",
    "explore",
    "hammer",
    "replay",
]
