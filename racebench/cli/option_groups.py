"""The values of the options that commands share, a frozen dataclass for each group of options.

The options themselves, with their help, are in racebench.cli.options.
"""

from __future__ import annotations

from dataclasses import dataclass

from racebench.cli.values import ReportFile
from racebench.core.defaults import GIVE_UP_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectOptions:
    """What is run or explored: a scenario's strategies, or the user's own code. `files` are more files of SQL.

    From `serve` on: the service that `requests` are sent to.
    """

    scenario: str | None = None
    files: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    call: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    invariant: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    serve: str | None = None
    url: str | None = None
    listen: str | None = None
    ready: str | None = None
    expect_status: str | None = None
    reset: str | None = None
    restart: bool = False
    instances: str | None = None

    @property
    def service_options(self) -> dict[str, str | None]:
        """The options that describe the service and take one value, with that."""
        return {
            "--serve": self.serve,
            "--url": self.url,
            "--listen": self.listen,
            "--ready": self.ready,
            "--expect-status": self.expect_status,
            "--reset": self.reset,
            "--instances": self.instances,
        }

    @property
    def own_code(self) -> str | None:
        """The first option that names the user's own code, with its value; None if there is none."""
        named = {"--call": self.call, "--exec": self.programs, "--http": self.requests}
        return next((f"{option} '{values[0]}'" for option, values in named.items() if values), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """The load. Durations are in seconds, delays in milliseconds; `long` is a percentage and a delay.

    `protocol`: None for the usual one. `faults`: as they are written.
    """

    workers: int
    duration: float | None
    operations: int | None
    rate: float | None
    warmup: float
    protocol: str | None
    connections_per_worker: int
    think: float
    hold: float
    long: tuple[float, float]
    rollback: float
    jitter: float
    tenants: int
    seed: int | None
    poll_interval: float
    batch: int
    faults: tuple[str, ...] = ()
    idle_in_transaction: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationOptions:
    """Which schedules are explored, and how far. Times are in seconds. `jobs`: None for the usual number."""

    sessions: int | None
    consumer: str | None
    polls: int
    crash: int
    no_reduction: bool
    budget: float | None
    max_schedules: int | None
    depth: int
    seed: int | None
    draws: int
    step_timeout: float
    stop_at_first: bool
    jobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolerOptions:
    """The pooler that is simulated: its mode, and the most server sessions."""

    pooler: str | None
    pool_size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleOptions:
    """What makes a schedule wrong. `allow`: kinds of anomaly, as a list."""

    oracle: str | None
    allow: str | None

    @property
    def allowed(self) -> tuple[str, ...]:
        """The kinds that are allowed."""
        return tuple(part.strip() for part in (self.allow or "").split(",") if part.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonOptions:
    """How strategies are compared. `margin` and `fail_slower` are percentages."""

    rounds: int
    reference: str | None
    margin: float
    baseline: str | None
    fail_slower: float | None
    save_baseline: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """Which server. `server` is the embedded server's version; `dsn` names the user's own server instead.

    `superuser`: connect to the embedded server as a superuser. `give_up_after`: how long it may not answer, in seconds.
    `consumer_dsn` names the user's standby, `standby` asks for an embedded one, which replays `standby_delay` ms later.
    `pooler`: the mode of the PgBouncer that workers pass, None without one.
    """

    server: str
    dsn: str | None
    superuser: bool = False
    give_up_after: float = GIVE_UP_SECONDS
    keep: bool = False
    consumer_dsn: str | None = None
    standby: bool = False
    standby_delay: float = 0
    pooler: str | None = None

    @property
    def version(self) -> int:
        """The embedded server's version."""
        return int(self.server)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions:
    """Other machines, by a Dask scheduler; None for this one. `workers_per_machine`: None for an even spread."""

    scheduler: str | None = None
    workers_per_machine: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """Where results go, and what is shown meanwhile. `history` is None where the command decides."""

    json_path: str | None
    results: str
    no_save: bool
    reports: tuple[ReportFile, ...]
    history: bool | None = None
    markdown: str | None = None
    live: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOptions:
    """What makes a command exit with 3, 4 or 5."""

    fail_on: str | None = None
    expect: str | None = None
    threshold: tuple[str, ...] = ()
