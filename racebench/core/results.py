"""What a run gives back: findings with their witnesses, counts, verdicts, pace and latency.

Frozen values without I/O, with nothing computed; analysis makes them, reports show them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from racebench.core.anomalies import ANOMALIES
from racebench.core.liveness import Holder
from racebench.core.model import Load
from racebench.core.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One witness: the rows, operations and polls that show an anomaly, and a sentence that says it.

    `rows`, `operations` and `polls` are plain mappings as published in the JSON document; times are microseconds since
    the common start. `consumer` is whose polls they are.
    """

    kind: str
    explanation: str
    rows: tuple[Mapping[str, Any], ...] = ()
    operations: tuple[Mapping[str, Any], ...] = ()
    polls: tuple[Mapping[str, Any], ...] = ()
    consumer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one checker found: how many of a kind, out of how many chances, with witnesses.

    `undecided`: how many more there may be, if the clocks of several machines are as wrong as they can be.
    """

    kind: str
    count: int
    chances: int
    witnesses: tuple[Anomaly, ...] = ()
    undecided: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerResult:
    """What one consumer was given. `late_us`: from a commit's acknowledgement to the row's arrival, p50, p99 and max.

    `longest_poll_us` is the longest it waited for an answer. `as_expected` is about missed rows alone. `at_fault`: rows
    were missed, and the order in which the strategy commits is not the cause; `instead` is a consumer that misses none.
    `server`: where it read, "primary" or "standby". `missed_only_here`: on a standby, the rows that it missed and the
    same consumer on the primary did not; None where that is not known.

    `stalled_ms`: the longest time in which it polled, was given no new row, and held a committed row back, None if it
    is not known; `stalled_from_us`: its beginning, since the common start; `stalled`: it is longer than what was asked
    for explains; `behind`: the transactions that were open from its beginning on, None if the server was not asked.
    `waits_for_numbers`: it holds rows back behind missing numbers, which such a transaction may have, or none.
    `held_back`: rows that it had not delivered at the end, and may still deliver when a transaction ends.
    """

    name: str
    verdict: Verdict
    expected: str
    as_expected: bool
    counts: Mapping[str, int]
    late_us: Mapping[str, float | None]
    longest_poll_us: float | None
    at_fault: bool = False
    instead: str | None = None
    server: str = "primary"
    missed_only_here: int | None = None
    stalled_ms: float | None = None
    stalled_from_us: float | None = None
    stalled: bool = False
    behind: tuple[Holder, ...] | None = None
    waits_for_numbers: bool = False
    held_back: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A run over time, in intervals of `interval_s` from the common start on.

    For each: commits acknowledged in it; latency of those that began in it, in microseconds (None if none did).
    """

    interval_s: float
    committed: tuple[int, ...]
    p50_us: tuple[float | None, ...]
    p99_us: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """How an open loop kept up. `late`: begun more than 1 ms after they were due; `unsent`: due, and never begun.

    `lag_us`: from due to begun, p50, p99 and max; `latency_us`: from due to acknowledged, p50, p90, p99 and max.
    """

    late: int
    unsent: int
    lag_us: Mapping[str, float | None]
    latency_us: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Seconds on a CPU from the common start to the last worker's end; None where it is not known.

    `client_s`: all workers; `busiest_s`: the one that used most; `server_s`: the server and its sessions.
    """

    client_s: float | None = None
    busiest_s: float | None = None
    server_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a run went along. `start_spread_us`: from the first session's first operation to the last session's.

    `overlapped`: operations of different sessions overlapped in time; None of an older document.
    """

    start_spread_us: float | None
    timeline: Timeline
    cpu: Usage
    open_loop: OpenLoop | None
    overlapped: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstDuplicate:
    """The first duplicate that was known while a run went on; the table had it at the end, too.

    Times are microseconds since the common start. `acknowledged_us`: until the second of its rows' operations was
    acknowledged, None if the rows do not name two operations that were; `known_us`: until racebench had the server's
    answer that several rows have this version.
    """

    tenant: int
    version: int
    acknowledged_us: float | None
    known_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineResult:
    """A machine on which workers or consumers ran. Its times are the database server's, right within `bound_us`.

    `offset_us`: the server's clock minus the machine's wall clock. `sessions` are numbers from 1, of all workers.
    """

    machine: str
    sessions: tuple[int, ...]
    consumers: tuple[str, ...]
    offset_us: float
    bound_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One strategy under load: what was measured, what was found, and what follows from it.

    `counts` has missed and redelivered of all consumers together; `consumers` has them one by one. `history` is the
    path of the file that keeps the run's history, if one does, relative to the document's folder or absolute.
    `as_expected` is None of the user's own code: nothing is known of it. `advice`: the strategy that the scenario
    recommends, if it is right where this one is not. `injected`: how often each fault of the load was, by its text.
    `first_duplicate`: None also where no duplicate was known before the end, and in older documents. `machines`: those
    of a Dask scheduler, none if all ran on this one. `undecided`, within the bounds of their clocks: how many anomalies
    of a kind there may be beside those counted, and how many deliveries may be "late"; only what is above 0. `code`:
    the file and line where each part of the code begins, if it is known.
    """

    scenario: str
    strategy: str
    summary: str
    consumers: tuple[ConsumerResult, ...]
    load: Load
    seconds: float
    verdict: Verdict
    expected: tuple[str, ...]
    possible: tuple[str, ...]
    advice: str | None
    forbidden: tuple[str, ...]
    as_expected: bool | None
    source: str
    counts: Mapping[str, int]
    measures: Mapping[str, Any]
    errors: Mapping[str, int]
    retried: Mapping[str, int]
    upper_bound: float | None
    throughput_per_s: float
    latency_us: Mapping[str, float | None]
    pace: Pace | None
    witnesses: tuple[Anomaly, ...]
    notes: tuple[str, ...] = ()
    schema: str | None = None
    messages: Mapping[str, str] = field(default_factory=dict)
    history: str | None = None
    injected: Mapping[str, int] = field(default_factory=dict)
    first_duplicate: FirstDuplicate | None = None
    machines: tuple[MachineResult, ...] = ()
    undecided: Mapping[str, int] = field(default_factory=dict)
    code: tuple[str, ...] = ()

    @property
    def found(self) -> tuple[str, ...]:
        """The forbidden kinds that occurred, in the order of ANOMALIES."""
        return tuple(kind for kind in ANOMALIES if kind in self.forbidden and self.counts.get(kind, 0) > 0)
