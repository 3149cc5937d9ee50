"""What is run: scenarios with their strategies and consumers, the scripts and calls of these, and a load.

Frozen values without I/O. workloads reads them from files; what a run gives back is core.results'.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum, StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from racebench.core.injection import Fault
from racebench.core.target import Pooling

#: What follows the name of a consumer that reads on a hot standby.
ON_STANDBY = "@standby"
#: Round trips of an operation, as far as its delays by faults are concerned.
_ROUND_TRIPS = 10


class Outcome(IntEnum):
    """What is known of an operation. PENDING is on file only while it runs; read back it is UNKNOWN."""

    PENDING = 0
    OK = 1
    FAIL = 2
    UNKNOWN = 3


class Protocol(StrEnum):
    """How statements travel, in pgbench's words; `pipelined`: those that need no answer from each other together."""

    SIMPLE = "simple"
    PREPARED = "prepared"
    PIPELINED = "pipelined"


class Numbering(StrEnum):
    """Where a strategy's numbers run without planned gaps: in each tenant, over the whole table, or nowhere."""

    TENANT = "tenant"
    TABLE = "table"
    NONE = "none"


@lru_cache(maxsize=1024)  # the compiler asks a statement for its keyword a hundred times
def first_word(sql: str) -> str:
    """Return the first SQL word in capitals, past comments and white space; empty if there is none."""
    match = re.match(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*([A-Za-z_]+)", sql, re.DOTALL)
    return match.group(1).upper() if match else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Which errors are tried again, how often, and the longest first pause.

    A pause is drawn from 0 to `backoff_ms` × 2^(tries-1), at most 16 × `backoff_ms` ("full jitter"). `lost`: so is an
    operation whose connection was lost, also if its commit may have happened.
    """

    sqlstates: frozenset[str]
    tries: int = 100
    backoff_ms: float = 1.0
    lost: bool = False


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
    `fragments` are the texts between its `:variables`, which are `slots`, one fewer: for the simple protocol.
    """

    line: int
    text: str
    sql: str
    parameters: tuple[str, ...]
    gset: str | None = None
    aset: str | None = None
    fragments: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()

    @property
    def keyword(self) -> str:
        """The first word, in capitals: BEGIN, SELECT, INSERT, COMMIT …"""
        return first_word(self.sql)

    @property
    def prefix(self) -> str | None:
        """The prefix of the variables that take what it returns, by `\\gset` or `\\aset`; None if none do."""
        return self.gset if self.gset is not None else self.aset


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """`\\startpipeline` or `\\endpipeline`: the statements between them travel together."""

    line: int
    start: bool


Step = Statement | Assign | Sleep | Branch | Jump | Pipeline


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
class Call:
    """A Python callable under test. `text` is its source, as far as it is known; `function` is None until imported.

    `takes_connection`: it is given a psycopg connection; else it makes its own. `asynchronous`: it is an `async def`,
    and is given an asynchronous connection. `file` is its module's.
    """

    module: str
    name: str
    function: Callable[..., Any] | None = field(default=None, repr=False, compare=False)
    text: str = field(default="", repr=False)
    takes_connection: bool = False
    asynchronous: bool = False
    file: str = ""

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command that a session runs as a process of its own, in any language. `words`: as a shell would divide it."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request that a session sends to a service. `path`: with its query; `body`: as it is sent."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __str__(self) -> str:
        body = self.body.decode(errors="replace")
        return f"{self.method} {self.path}" + (f" {body}" if body else "")


class Instances(StrEnum):
    """Which instance of a service a session's requests go to: one of its own, as in production, or the same one."""

    EACH = "each"
    SHARED = "shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A program that answers HTTP requests. `command`: its words, with {port} in place of its port.

    `url`: where it is, if it was started elsewhere; then `listen` is the address (host:port) at which it expects the
    database. `ready`: the path that answers when it is ready; "" if it is ready when its port is open. `expect`: the
    status codes of a success, such as "2xx" or "409". `reset`: sent to it before each schedule. `restart`: it is
    started anew for each schedule. `instances`: None for the driver's default: EACH where schedules are explored,
    SHARED under load.
    """

    command: tuple[str, ...] = ()
    url: str = ""
    listen: str = ""
    ready: str = ""
    expect: tuple[str, ...] = ("2xx",)
    reset: HttpRequest | None = None
    restart: bool = False
    instances: Instances | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One way of writing: a script, extra DDL, an isolation level and a retry rule.

    `expect` are the anomalies the field knows it to show under load, `may` those it may; both empty means that it is
    known to be right. `server` is the oldest major version it runs on. `zero` is below every version it gives;
    `integer` says whether its versions are numbers at all, `stamped` that a row is numbered only after it was inserted,
    `inside` that its race is inside one statement (a default and a trigger), where no order of statements shows it.
    `pooler`: the anomalies to expect instead of `expect` behind a pooler, by its mode. `text`: its statements are sent
    as text, and what they return is asked for only where the server can say it before they run.
    `calls`: Python callables in place of a script; the sessions take turns with them. So they do with `programs`, or
    with `requests` to a `service`. `through_wire`: the callables use another driver than psycopg 3, so that they are
    explored through the wire gate.
    """

    name: str
    summary: str
    script: Script
    schema: tuple[SqlFile, ...] = ()
    isolation: str | None = None
    retry: Retry | None = None
    numbering: Numbering = Numbering.TENANT
    expect: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    source: str = ""
    server: int = 0
    zero: str = "0"
    integer: bool = True
    stamped: bool = False
    inside: bool = False
    pooler: Mapping[Pooling, frozenset[str]] = field(default_factory=dict)
    text: bool = False
    calls: tuple[Call, ...] = ()
    programs: tuple[Program, ...] = ()
    requests: tuple[HttpRequest, ...] = ()
    service: Service | None = None
    through_wire: bool = False

    @property
    def subjects(self) -> tuple[Call | Program | HttpRequest, ...]:
        """The parts of an application, with which the sessions take turns; none of a script."""
        return self.calls or self.programs or self.requests

    @property
    def is_application(self) -> bool:
        """Whether an application sends its statements, so that they are known only when they are sent."""
        return bool(self.subjects)

    @property
    def right(self) -> bool:
        """Whether the field knows no anomaly of it."""
        return not self.expect and not self.may

    def behind(self, pooler: Pooling) -> Strategy:
        """The strategy with the anomalies to expect behind a pooler of a mode."""
        return replace(self, expect=self.pooler[pooler], may=frozenset()) if pooler in self.pooler else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """A way of reading new rows: a query that is polled and returns rows with an `id`, oldest first.

    It is given `:tenant` and `:batch`, its `variables`, and its `cursor`: columns of the last row it returned, with
    the text each begins with ("zero": the strategy's). `dedupe`: rows seen before are dropped. `per_tenant`: polled for
    each tenant, else once. `settle_ms`: how long it may hold a visible row back. `opening` is run in its own session,
    `closing` when the schema goes. `requires` are server settings, `needs` "integer" or "dense" numbers.
    `by_insertion`: what it holds back depends on when a row was inserted (its age, its xid), not on its number.
    `tolerate` are SQLSTATEs that count as an empty answer (a column that a migration has yet to add).
    `misses`: "unordered", "maybe" or "never" (docs/scenarios.md); `misses_on_standby`: so on a hot standby, "" if it is
    the same there. `writes`: it cannot be used there. `on_standby`: it reads there.
    """

    name: str
    summary: str
    script: Script
    schema: tuple[SqlFile, ...] = ()
    opening: tuple[SqlFile, ...] = ()
    closing: tuple[SqlFile, ...] = ()
    cursor: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    dedupe: bool = False
    per_tenant: bool = True
    settle_ms: float = 0.0
    requires: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""
    tolerate: frozenset[str] = frozenset()
    by_insertion: bool = False
    misses: str = "unordered"
    misses_on_standby: str = ""
    writes: bool = False
    on_standby: bool = False

    @property
    def catalog_name(self) -> str:
        """Its name without the place where it reads."""
        return self.name.removesuffix(ON_STANDBY)

    @property
    def misses_here(self) -> str:
        """What it misses where it reads: `misses`, or `misses_on_standby`."""
        return (self.misses_on_standby if self.on_standby else "") or self.misses

    @property
    def unfit_for_standby(self) -> str:
        """Why it cannot read on a hot standby, as a clause; "" if it can."""
        if self.writes:
            return "writes, which a standby refuses; name another consumer"
        return "has SQL to open, which only a primary runs; name another consumer" if self.opening else ""

    def at_standby(self) -> Consumer:
        """The same consumer, reading on a hot standby."""
        return replace(self, name=f"{self.name}{ON_STANDBY}", on_standby=True)

    def fits(self, strategy: Strategy) -> bool:
        """Whether the consumer can read what the strategy writes: a look back of 100 needs numbers, a gap holes."""
        return not (self.needs and not strategy.integer) and not (
            self.needs == "dense" and strategy.numbering is Numbering.NONE
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedRows:
    """Where a scenario's numbered rows are: table and column names, unquoted, in racebench's schema."""

    table: str
    id: str = "id"
    tenant: str = "tenant"
    version: str = "version"
    operation: str = "operation"


class ScheduleIsolation(Enum):
    """How an explored schedule is kept apart from the schedules before it.

    FRESH_TENANT: it has a tenant of its own. RESTORED_TABLES: it begins with the tables as the setup left them, for
    code that does not keep to a tenant.
    """

    FRESH_TENANT = "fresh tenant"
    RESTORED_TABLES = "restored tables"


class Origin(Enum):
    """Where a scenario comes from: a folder with a manifest, or the user's own SQL and Python, given on the spot."""

    MANIFEST = "manifest"
    OWN_CODE = "own code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A folder of SQL: a schema, strategies that write to it, consumers that read from it.

    `rows` is where numbered rows are, if it numbers any. `invariants` are queries that return the rows that break them,
    `measures` queries that return one value each; both are asked after a run. `once`: each worker runs its script once,
    as start-up code does. `explore`: run before each explored schedule. `forbid` is what makes a run INVALID;
    `advise` names the strategy to recommend.
    `superuser`: its SQL needs a superuser. `faults`: those that a load injects unless it names its own.
    `setup` is called after the schema is made, `checks` are invariants that are called (callables.py). `options`: the
    words that name it on a command line if its name alone does not; None if no command line can name it.
    """

    name: str
    title: str
    summary: str
    folder: Path
    schema: tuple[SqlFile, ...]
    rows: NumberedRows | None
    invariants: Mapping[str, str]
    measures: Mapping[str, str]
    lines: Mapping[str, int] = field(repr=False)
    once: bool
    forbid: tuple[str, ...]
    advise: str | None
    strategies: Mapping[str, Strategy]
    consumers: Mapping[str, Consumer]
    explore: Script | None = None
    setup: tuple[Call, ...] = ()
    checks: Mapping[str, Call] = field(default_factory=dict)
    schedule_isolation: ScheduleIsolation = ScheduleIsolation.FRESH_TENANT
    origin: Origin = Origin.MANIFEST
    options: tuple[str, ...] | None = ()
    superuser: bool = False
    faults: tuple[Fault, ...] = ()

    def behind(self, pooler: Pooling | None) -> Scenario:
        """The scenario with what its strategies are known for behind a pooler of a mode; as it is for None."""
        if pooler is None:
            return self
        return replace(self, strategies={name: one.behind(pooler) for name, one in self.strategies.items()})

    @property
    def has_expectations(self) -> bool:
        """Whether the strategies say which anomalies to expect of them; nothing is known of the user's own code."""
        return self.origin is Origin.MANIFEST

    def locate(self, key: str) -> str:
        """The place of a key in the manifest, as `file:line`; the key's own name if there is no manifest."""
        if self.origin is Origin.OWN_CODE:
            return f"the {key.partition('.')[2]}"
        return f"{self.folder / 'scenario.toml'}:{self.lines.get(key, 1)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load of a run. Durations in the unit of their suffix; `operations` is the total of all workers.

    `rollback_percent` of the transactions roll back instead of committing, `long_percent` hold for `long_us` instead of
    `hold_us`; each session begins up to `jitter_us` after the common start. `connections_per_worker`: each worker
    process drives so many sessions. `rate_per_s`: an open loop, all sessions together; None: closed, each session
    begins its next operation when the last has ended. What begins in the first `warmup_s` is checked, not measured.
    `faults` are injected from the common start on. `idle_in_transaction_s`: for so long from then on, at most to the
    end of the load, another session is idle in a transaction that has an xid; 0 for none.
    """

    workers: int
    duration_s: float | None
    operations: int | None
    think_us: int = 0
    hold_us: int = 0
    tenants: int = 1
    seed: int = 0
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
    faults: tuple[Fault, ...] = ()
    idle_in_transaction_s: float = 0.0

    @property
    def sessions(self) -> int:
        """The connections of all workers."""
        return self.workers * self.connections_per_worker

    @property
    def longest_us(self) -> int:
        """How long an operation may be delayed by what is asked for, in microseconds; stalls and latency included."""
        a_round_trip = sum(fault.duration_us + fault.spread_us for fault in self.faults if fault.on_the_wire)
        return self.think_us + max(self.hold_us, self.long_us) + self.jitter_us + _ROUND_TRIPS * a_round_trip

    @property
    def rate_per_session(self) -> float | None:
        """The share of the rate that each session has."""
        return None if self.rate_per_s is None else self.rate_per_s / self.sessions
