"""racebench as a library: explore, replay and hammer functions, scripts and scenarios from Python, on one server.

    import racebench

    racebench.explore(create_order, sessions=2, setup=SCHEMA, invariant="SELECT …").assert_clean()
    racebench.hammer(create_order, workers=4, seconds=1, setup=SCHEMA, invariant="SELECT …").assert_clean()
    racebench.explore(racebench.program("node create_order.js"), setup=SCHEMA)
    racebench.explore(racebench.http("POST", "/orders", json={"sku": 1}), serve="node shop.js {port}", setup=SCHEMA)
    racebench.explore("version-counter", strategy="naive", consumer="cursor")

A function takes a psycopg connection, or nothing if it makes its own from RACEBENCH_DSN or DATABASE_URL. Each function
here has a server of its own; a Bench is one server for many calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from racebench.api.applications import http, program, service
from racebench.api.bench import Bench
from racebench.api.options import LoadOptions, OracleName, Search, SqlOrCallable, Subject
from racebench.api.results import Comparison, Exploration, Hammering, NotClean, RaceFound, Replay, VerdictUnknown
from racebench.core.defaults import GIVE_UP_SECONDS
from racebench.core.errors import RacebenchError
from racebench.core.model import HttpRequest, Program, Service
from racebench.core.verdict import Verdict

if TYPE_CHECKING:
    from racebench.analysis.offline import CheckResult

_SEARCH = Search()
_LOAD = LoadOptions()


def explore(
    *subjects: Subject,
    strategy: str | None = None,
    consumer: str | None = None,
    sessions: int | None = None,
    setup: SqlOrCallable = (),
    invariant: SqlOrCallable = (),
    serve: str | Service | None = None,
    budget: float | None = None,
    max_schedules: int | None = None,
    stop_at_first: bool = False,
    crash: int = 0,
    seed: int | None = None,
    oracle: OracleName | None = None,
    allow: Sequence[str] = (),
    search: Search = _SEARCH,
    jobs: int | None = None,
    scheduler: str | None = None,
    dsn: str | None = None,
    server: int = 18,
    give_up_after: float = GIVE_UP_SECONDS,
) -> Exploration:
    """Explore on a server of its own; see Bench.explore."""
    with Bench(dsn, server=server, give_up_after=give_up_after) as bench:
        return bench.explore(
            *subjects,
            strategy=strategy,
            consumer=consumer,
            sessions=sessions,
            setup=setup,
            invariant=invariant,
            serve=serve,
            budget=budget,
            max_schedules=max_schedules,
            stop_at_first=stop_at_first,
            crash=crash,
            seed=seed,
            oracle=oracle,
            allow=allow,
            search=search,
            jobs=jobs,
            scheduler=scheduler,
        )


def replay(
    *subjects: Subject,
    schedule: str,
    setup: SqlOrCallable = (),
    invariant: SqlOrCallable = (),
    serve: str | Service | None = None,
    oracle: OracleName | None = None,
    allow: Sequence[str] = (),
    step_timeout: float = _SEARCH.step_timeout,
    dsn: str | None = None,
    server: int = 18,
    give_up_after: float = GIVE_UP_SECONDS,
) -> Replay:
    """Run one schedule again on a server of its own; see Bench.replay."""
    with Bench(dsn, server=server, give_up_after=give_up_after) as bench:
        return bench.replay(
            *subjects,
            schedule=schedule,
            setup=setup,
            invariant=invariant,
            serve=serve,
            oracle=oracle,
            allow=allow,
            step_timeout=step_timeout,
        )


def hammer(
    *subjects: Subject,
    strategy: str | None = None,
    consumer: str | Sequence[str] | None = None,
    workers: int = 4,
    seconds: float | None = None,
    operations: int | None = None,
    setup: SqlOrCallable = (),
    invariant: SqlOrCallable = (),
    serve: str | Service | None = None,
    seed: int | None = None,
    load: LoadOptions = _LOAD,
    scheduler: str | None = None,
    workers_per_machine: int | None = None,
    dsn: str | None = None,
    server: int = 18,
    give_up_after: float = GIVE_UP_SECONDS,
) -> Hammering:
    """Hammer on a server of its own; see Bench.hammer."""
    with Bench(dsn, server=server, give_up_after=give_up_after) as bench:
        return bench.hammer(
            *subjects,
            strategy=strategy,
            consumer=consumer,
            workers=workers,
            seconds=seconds,
            operations=operations,
            setup=setup,
            invariant=invariant,
            serve=serve,
            seed=seed,
            load=load,
            scheduler=scheduler,
            workers_per_machine=workers_per_machine,
        )


def compare(
    *subjects: Subject,
    strategies: Sequence[str] | None = None,
    consumer: str | Sequence[str] | None = None,
    reference: str | None = None,
    rounds: int = 7,
    workers: int = 4,
    seconds: float | None = None,
    operations: int | None = None,
    setup: SqlOrCallable = (),
    invariant: SqlOrCallable = (),
    serve: str | Service | None = None,
    seed: int | None = None,
    load: LoadOptions = _LOAD,
    scheduler: str | None = None,
    workers_per_machine: int | None = None,
    dsn: str | None = None,
    server: int = 18,
    give_up_after: float = GIVE_UP_SECONDS,
) -> Comparison:
    """Compare on a server of its own; see Bench.compare."""
    with Bench(dsn, server=server, give_up_after=give_up_after) as bench:
        return bench.compare(
            *subjects,
            strategies=strategies,
            consumer=consumer,
            reference=reference,
            rounds=rounds,
            workers=workers,
            seconds=seconds,
            operations=operations,
            setup=setup,
            invariant=invariant,
            serve=serve,
            seed=seed,
            load=load,
            scheduler=scheduler,
            workers_per_machine=workers_per_machine,
        )


def check(path: str | Path) -> CheckResult:
    """Check a recorded history: `.npz`, `.jsonl` or `.edn`; raises UsageProblem. See racebench.analysis.offline."""
    from racebench.analysis import offline

    return offline.check_file(Path(path), None)


__all__ = [
    "Bench",
    "Comparison",
    "Exploration",
    "Hammering",
    "HttpRequest",
    "LoadOptions",
    "NotClean",
    "Program",
    "RaceFound",
    "RacebenchError",
    "Replay",
    "Search",
    "Service",
    "SqlOrCallable",
    "Subject",
    "Verdict",
    "VerdictUnknown",
    "check",
    "compare",
    "explore",
    "hammer",
    "http",
    "program",
    "replay",
    "service",
]
