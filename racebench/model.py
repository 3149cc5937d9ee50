"""The values racebench talks about: scenarios, strategies, outcomes, anomalies, results.

Frozen and without I/O. How they are read from files is catalog.py's; how they are written, reports'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any


class Outcome(IntEnum):
    """What is known of an operation. PENDING is on file only while it runs; read back it is UNKNOWN."""

    PENDING = 0
    OK = 1
    FAIL = 2
    UNKNOWN = 3


class Verdict(StrEnum):
    """VALID under load is an upper bound, never a proof; UNKNOWN is an honest answer."""

    VALID = "VALID"
    INVALID = "INVALID"
    UNKNOWN = "UNKNOWN"


class Numbering(StrEnum):
    """Where a strategy's numbers run without gaps: in each tenant, or over the whole table."""

    TENANT = "tenant"
    TABLE = "table"


def first_word(sql: str) -> str:
    """Return the first SQL word in capitals, past comments and white space; empty if there is none."""
    match = re.match(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*([A-Za-z_]+)", sql, re.DOTALL)
    return match.group(1).upper() if match else ""


#: Every kind of anomaly a run can count, in the order reports show them.
ANOMALIES: Mapping[str, str] = {
    "duplicates": "rows whose (tenant, version) another row already has",
    "missed": "committed rows that the consumer's cursor passed and never delivered",
    "redelivered": "deliveries of a row beyond its first",
    "lost": "operations acknowledged, whose row is absent",
    "unexpected": "operations reported failed, whose row is present",
    "refused": "operations that failed only because another session was at work (SQLSTATE class 23 or 40)",
    "unnumbered": "rows whose version is NULL, which no cursor ever reaches",
    "gaps": "numbers never used between the first and the last",
    "inversions": "operations that began after another had ended and got a smaller version",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Which errors are tried again, how often, and the longest first pause.

    A pause is drawn from 0 to `backoff_ms` × 2^(tries-1), at most 16 × `backoff_ms` ("full jitter").
    """

    sqlstates: frozenset[str]
    tries: int = 100
    backoff_ms: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlFile:
    """A file of SQL run as it stands, outside the measured time."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One SQL statement of a script, ready to prepare.

    `text` is as written; `sql` has `$1`, `$2` … where `:variables` were, named in order by `parameters`.
    `gset` is the prefix of the variables that take its single row's columns, None if it has none;
    `aset` is like it, but no row is no error and the last of many rows counts.
    """

    line: int
    text: str
    sql: str
    parameters: tuple[str, ...]
    gset: str | None = None
    aset: str | None = None

    @property
    def keyword(self) -> str:
        """The first word, in capitals: BEGIN, SELECT, INSERT, COMMIT …"""
        return first_word(self.sql)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """`\\set name expression`; the tree is expression.py's."""

    line: int
    name: str
    tree: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """`\\sleep amount unit`: a number or a variable's name, and microseconds to the unit."""

    line: int
    amount: int | str
    unit_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """Go on with the next step if the condition holds, else at step `otherwise`."""

    line: int
    tree: Any
    otherwise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """Go on at step `to`."""

    line: int
    to: int


Step = Statement | Assign | Sleep | Branch | Jump


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A pgbench script as a flat tuple of steps; branches refer to steps by index."""

    path: Path
    text: str
    steps: tuple[Step, ...]

    @property
    def statements(self) -> tuple[Statement, ...]:
        return tuple(step for step in self.steps if isinstance(step, Statement))


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One way of numbering a row: a script, extra DDL, an isolation level and a retry rule.

    `expect` is the set of anomalies the field knows it to allow; empty means it is known to be right.
    """

    name: str
    summary: str
    script: Script
    schema: tuple[SqlFile, ...] = ()
    isolation: str | None = None
    retry: Retry | None = None
    numbering: Numbering = Numbering.TENANT
    expect: frozenset[str] = frozenset()
    source: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        return (*(part.path for part in self.schema), self.script.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """A way of reading new rows: a query polled with `:tenant`, `:cursor` and `:batch`.

    The query returns `id` and `version`, oldest first; the cursor becomes the last version returned.
    """

    name: str
    summary: str
    script: Script


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedRows:
    """Where a scenario's numbered rows are: table and column names, unquoted, in racebench's schema."""

    table: str
    id: str = "id"
    tenant: str = "tenant"
    version: str = "version"
    operation: str = "operation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A folder of SQL: a schema, strategies that write to it, consumers that read from it.

    `forbid` is what makes a run INVALID; `advise` names the strategy to recommend.
    """

    name: str
    title: str
    summary: str
    folder: Path
    schema: tuple[SqlFile, ...]
    rows: NumberedRows
    forbid: tuple[str, ...]
    advise: str | None
    strategies: Mapping[str, Strategy]
    consumers: Mapping[str, Consumer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How hard a run presses. Durations in the unit of their suffix; `operations` is the total of all workers."""

    workers: int
    duration_s: float | None
    operations: int | None
    think_us: int = 0
    hold_us: int = 0
    tenants: int = 1
    seed: int = 0
    poll_interval_ms: float = 1.0
    batch: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One witness: the rows, operations and polls that show an anomaly, and a sentence that says it.

    `rows`, `operations` and `polls` are plain mappings as published in the JSON document;
    times are microseconds since the common start.
    """

    kind: str
    explanation: str
    rows: tuple[Mapping[str, Any], ...] = ()
    operations: tuple[Mapping[str, Any], ...] = ()
    polls: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one checker found: how many of a kind, out of how many chances, with witnesses."""

    kind: str
    count: int
    chances: int
    witnesses: tuple[Anomaly, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One strategy under load: what was measured, what was found, and what follows from it."""

    scenario: str
    strategy: str
    summary: str
    consumer: str
    load: Load
    seconds: float
    verdict: Verdict
    expected: tuple[str, ...]
    advice: str | None
    forbidden: tuple[str, ...]
    as_expected: bool
    source: str
    counts: Mapping[str, int]
    errors: Mapping[str, int]
    retried: Mapping[str, int]
    upper_bound: float | None
    throughput_per_s: float
    latency_us: Mapping[str, float | None]
    witnesses: tuple[Anomaly, ...]
    notes: tuple[str, ...] = ()
    schema: str | None = None
    messages: Mapping[str, str] = field(default_factory=dict)

    @property
    def found(self) -> tuple[str, ...]:
        """The forbidden kinds that occurred, in the order of ANOMALIES."""
        return tuple(kind for kind in ANOMALIES if kind in self.forbidden and self.counts[kind] > 0)
