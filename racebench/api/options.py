"""The options of the public functions: what they run, how they search, and how they load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from racebench.core.model import HttpRequest, Program, Protocol
from racebench.workloads import ad_hoc

#: What of a schedule must be as in a serial order: the tables; what calls return too; or every answer too.
OracleName = Literal["state", "returns", "answers"]
#: The mode of a pooler, as PgBouncer's pool_mode.
PoolerName = Literal["session", "transaction", "statement"]
#: A function, `module:function`, a file of SQL, a program, a request, or the name of a scenario.
Subject = str | Path | Callable[..., Any] | Program | HttpRequest
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """The rarer properties of a load, as in racebench.core.model.Load.

    `think_us` and `hold_us`: delays before the write and before COMMIT; a transaction is `long_us` longer in
    `long_percent` of the cases, and rolls back in `rollback_percent`; of functions these are refused.
    `jitter_us`: the spread of the workers' starts. `rate_per_s`: the operations a second of an open loop; None for a
    closed one. `batch`: the most rows of a poll. `faults`: as for `--fault`, such as
    "cut-after-commit:1%"; those of the scenario if none is given, and ("none",) for none.
    `idle_in_transaction_s`: for so long another session is idle in a transaction that has an xid.
    """

    think_us: int = 0
    hold_us: int = 0
    tenants: int = 1
    rollback_percent: float = 0.0
    long_percent: float = 0.0
    long_us: int = 0
    jitter_us: int = 0
    poll_interval_ms: float = 1.0
    batch: int = 1000
    protocol: Protocol = Protocol.PREPARED
    connections_per_worker: int = 1
    rate_per_s: float | None = None
    warmup_s: float = 0.0
    faults: Sequence[str] = ()
    idle_in_transaction_s: float = 0.0
