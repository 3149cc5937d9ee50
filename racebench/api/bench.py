"""A server and a schema on which functions, scripts and scenarios are explored, replayed and loaded from Python."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from racebench.api import places
from racebench.api.applications import naming_parameters
from racebench.api.limits import above_0, from_0, sessions_of
from racebench.api.options import LoadOptions, OracleName, PoolerName, Search, SqlOrCallable, Subject
from racebench.api.results import Comparison, Exploration, Hammering, Replay
from racebench.api.subjects import (
    consumers_of,
    contestants,
    load_of,
    names_of_consumers,
    scenario_of,
    seed_of,
    several,
    strategy_of,
)
from racebench.core.defaults import GIVE_UP_SECONDS, MOST_CUT
from racebench.core.environ import exported
from racebench.core.errors import ScenarioProblem, UsageProblem
from racebench.core.model import Consumer, Load, Origin, Scenario, Service, Strategy
from racebench.core.watching import Patience, watched
from racebench.postgres.connection import naming_lost_connections
from racebench.postgres.schemas import empty_schema, new_name
from racebench.workloads import ad_hoc, addresses, catalog

if TYPE_CHECKING:
    from racebench.core.target import StandbyChoice, Target
    from racebench.executors.cluster import Machines
    from racebench.exploration.jobs.messages import Place
    from racebench.exploration.request import ExplorationRequest
    from racebench.exploration.reuse import Reuse

_CONNECTIONS = 60
_SEARCH = Search()
_LOAD = LoadOptions()
#: SQLSTATEs of a CREATE of what there is: a table, a function, a schema, an object of another kind.
_THERE_ALREADY = ("42P07", "42723", "42P06", "42710")
_KEPT = (
    "once racebench_dsn (Bench.dsn) was requested, the tables stay from test to test: create them once, in a fixture "
    "with scope='session', and leave them out of setup"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What a call runs, ready to run: its callables are imported, and it has a server and a schema."""

    target: Target
    scenario: Scenario
    strategy: Strategy
    consumers: tuple[Consumer, ...]
    schema: str
    in_place: bool
    environment: Mapping[str, Any]


class Bench:
    """A server and a schema for any number of explorations and loads; a context manager.

    `dsn` names the user's server, None an embedded one of version `server`, which starts when it is first needed and
    which no other Bench uses. `superuser`: everything runs as a superuser of the embedded server; of a scenario that
    needs one this holds anyway. After `give_up_after` seconds without an answer from the server, or under load without
    an operation that ends, the verdict is UNKNOWN. `standby`: the embedded server has a hot standby, which replays each
    commit `standby_delay` ms later; `consumer_dsn` names one of the user's server. Under load consumers read there, and
    on the primary as well. `pooler`: under load the sessions of workers pass PgBouncer in that mode, which must be
    installed; explorations simulate it for scripts, with at most `pool_size` sessions of the server. The schema keeps
    its name, so that an application that has connected once goes on; it is dropped at the end.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        server: int = 18,
        superuser: bool = False,
        give_up_after: float = GIVE_UP_SECONDS,
        standby: bool = False,
        standby_delay: float = 0,
        consumer_dsn: str | None = None,
        pooler: PoolerName | None = None,
        pool_size: int | None = None,
    ) -> None:
        if superuser and dsn:
            raise UsageProblem("superuser is for the embedded server; with a DSN, connect as a superuser yourself")
        if standby and dsn:
            raise UsageProblem("standby is for the embedded server; with a DSN give consumer_dsn, your own standby")
        if standby_delay and not standby:
            raise UsageProblem(f"standby_delay={standby_delay:g} needs standby=True")
        if consumer_dsn and not dsn:
            raise UsageProblem("consumer_dsn needs a dsn: the primary of that standby")
        self._version = server if dsn else places.version_of(server)
        self._pooling, self._pool_size = places.pooling_of(pooler, pool_size), pool_size
        self._standby = (standby, standby_delay, consumer_dsn)
        self._dsn, self._superuser = dsn, superuser
        self._patience = Patience(give_up_s=give_up_after)
        self._stack = contextlib.ExitStack()
        self._target: Target | None = None
        self._environments: dict[bool, Mapping[str, Any]] = {}
        self._schema = new_name()
        self._reuse: Reuse | None = None
        self._adopted = False

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the schema and stop the server, if there are any."""
        self._target = self._reuse = None
        self._stack.close()

    @property
    def dsn(self) -> str:
        """A URI of the schema, for an application that makes its own tables there (by migrations, say).

        Once it has been asked for, it is in RACEBENCH_DSN and DATABASE_URL too, and the schema is the application's:
        explorations find its tables and restore their rows, but do not create it again.
        """
        target = self._up()
        variables = addresses.variables(target, self._schema, ad_hoc.own_application_name())
        if not self._adopted:
            self._leave()
            self._stack.enter_context(empty_schema(target, self._schema))
            self._stack.enter_context(exported(variables))
            self._adopted = True
        return variables[addresses.VARIABLES[0]]

    def explore(
        self,
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
    ) -> Exploration:
        """Run every schedule of the sessions' steps.

        `subjects` are functions, programs, or requests to the service `serve` (its command, or a racebench.service),
        with which the sessions take turns, or one file of SQL; there are two sessions, or as many as subjects, unless
        `sessions` says otherwise. `setup` makes the tables that every schedule begins with;
        `invariant` is SQL that returns the rows that break it, or a function that returns what is wrong or fails an
        assert. Or the subject is a scenario's name, with the `strategy` and perhaps the `consumer` to explore.

        `budget` is in seconds; beyond it, or beyond `max_schedules`, the verdict is UNKNOWN if nothing was found. If
        neither is given, the search has 60 seconds, and ends after 400 schedules if one of them goes wrong; infinity
        (`math.inf`) is no limit. `crash`: how many connections are cut at most in a schedule, at any step.
        `jobs`: among how many processes the search of a script is divided, None for this one alone. `scheduler`: the
        address of a Dask scheduler, or "local"; the others run on its machines then, and None is one on each.
        Raises RacebenchError.
        """
        from racebench.exploration import explorer
        from racebench.exploration.request import ExplorationRequest, judged, with_default_limits

        scenario = scenario_of(subjects, setup, invariant, serve, named=strategy is not None).behind(self._pooling)
        with self._ready(scenario, strategy, [consumer] if consumer else []) as task:
            number = sessions_of(sessions, max(2, len(task.strategy.subjects)), alone=not task.consumers and not crash)
            request = ExplorationRequest(
                scenario=task.scenario,
                strategy=task.strategy,
                consumer=next(iter(task.consumers), None),
                sessions=number,
                pooler=places.simulated(self._pooling, self._pool_size, task.strategy, sessions=number, crash=crash),
                polls=search.polls,
                crash=from_0("crash", crash, MOST_CUT),
                reduce=search.reduce,
                budget_s=above_0("budget", budget),
                max_schedules=above_0("max_schedules", max_schedules),
                stop_at_first=stop_at_first,
                depth=search.depth,
                seed=seed_of(seed),
                step_s=search.step_timeout,
                draws=search.draws,
            )
            request = judged(with_default_limits(request), oracle=oracle, allow=allow)
            placed = _placed(request, task)
            with places.jobs(jobs, scheduler, placed, self._place(scenario), embedded=not self._dsn) as others:
                result = explorer.explore(task.target, placed, reuse=self._kept(), jobs=others)
        given = tuple(name for name, value in (("setup", setup), ("invariant", invariant)) if several(value))
        if serve is not None:
            given = (*given, "serve")
        return Exploration(result=result, environment=task.environment, given=given)

    def replay(
        self,
        *subjects: Subject,
        schedule: str,
        setup: SqlOrCallable = (),
        invariant: SqlOrCallable = (),
        serve: str | Service | None = None,
        oracle: OracleName | None = None,
        allow: Sequence[str] = (),
        step_timeout: float = _SEARCH.step_timeout,
    ) -> Replay:
        """Run one schedule again, as `explore` found it; without subjects, of the scenario that it names.

        Raises UsageProblem if the code is another now, or if the schedule cannot be followed.
        """
        from racebench.exploration import explorer, schedules
        from racebench.exploration.choices import cuts
        from racebench.exploration.request import judged

        wanted = schedules.parse(schedule)
        scenario = scenario_of(subjects or (wanted.scenario,), setup, invariant, serve, named=not subjects)
        scenario = scenario.behind(self._pooling)
        with self._ready(scenario, wanted.strategy, [wanted.consumer] if wanted.consumer else []) as task:
            request = replace(explorer.requested_by(wanted, task.scenario), step_s=step_timeout)
            pooler = places.simulated(
                self._pooling, self._pool_size, request.strategy, sessions=request.sessions, crash=cuts(wanted.steps)
            )
            request = judged(replace(request, pooler=pooler), oracle=oracle, allow=allow)
            placed = _placed(request, task)
            return Replay(result=explorer.replay(task.target, placed, wanted.steps, reuse=self._kept()))

    def hammer(
        self,
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
    ) -> Hammering:
        """Have worker processes run the subjects at full speed, for `seconds` (1) or `operations`, and check.

        Workers take turns with the functions, programs or requests; one instance of a service answers them unless it
        says otherwise. Or the subject is a scenario's name, with the `strategy` to load, and
        with its default consumer unless others are named (`()` for none). `scheduler`: the address of a Dask scheduler,
        or "local"; workers of a script are spread over its machines, at most `workers_per_machine` on each.
        Raises RacebenchError.
        """
        from racebench.load.driver import LoadDriver

        scenario = scenario_of(subjects, setup, invariant, serve, named=strategy is not None).behind(self._pooling)
        requested = load_of(scenario, load, workers=workers, seconds=seconds, operations=operations, seed=seed)
        requested = places.load_through(requested, self._pooling)
        names = names_of_consumers(scenario, consumer)
        machines = self._machines(scheduler, workers_per_machine, scenario, load)
        self._leave()
        with (
            self._ready(scenario, strategy, names, loaded=True) as task,
            places.executor(machines, task.target, workers=workers) as (target, executor),
        ):
            environment = self._pooled(task.environment, requested)
            driver = LoadDriver(
                target=target,
                executor=executor,
                environment=environment,
                schema=task.schema,
                in_place=task.in_place,
                patience=self._patience,
            )
            result = driver.run(task.scenario, task.strategy, task.consumers, requested, lambda _: None)
        return Hammering(result=result, environment=environment)

    def compare(
        self,
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
    ) -> Comparison:
        """Compare the throughput of strategies with that of a reference, in rounds that run each of them once.

        Each function, file of SQL, program or request is a strategy. Or the subject is a scenario's name, with the
        names or groups of the `strategies` to compare; the correct ones unless some are named. The rest is as for
        `hammer`, for each run. Raises RacebenchError.
        """
        from racebench.load import campaign
        from racebench.load import rounds as comparing

        scenario = contestants(subjects, setup, invariant, serve, named=strategies is not None).behind(self._pooling)
        own = scenario.origin is Origin.OWN_CODE
        names = [*(strategies or (["all"] if own else ["correct"])), *([reference] if reference else [])]
        compared, consumers = catalog.find_strategies(scenario, names), names_of_consumers(scenario, consumer)
        if len(compared) < 2:
            raise UsageProblem(f"compare needs two strategies or more, not {len(compared)}; name another")
        requested = load_of(scenario, load, workers=workers, seconds=seconds, operations=operations, seed=seed)
        machines = self._machines(scheduler, workers_per_machine, scenario, load)
        request = campaign.Request(
            scenario=scenario,
            strategies=compared,
            consumers=catalog.find_consumers(scenario, consumers),
            load=places.load_through(requested, self._pooling),
            rounds=rounds,
            named=frozenset({*names, *consumers}),
        )
        target, in_place = self._up(superuser=scenario.superuser), own and self._adopted
        schema = self._schema if own else None
        self._leave()
        with (
            naming_lost_connections(target),
            naming_parameters(),
            places.executor(machines, target, workers=workers) as (reached, executor),
            campaign.opened(
                request, reached, executor, schema=schema, in_place=in_place, patience=self._patience
            ) as opened,
        ):
            begun = comparing.begin(opened, reference or comparing.default_reference(scenario, compared))
            runs = tuple(opened.results(lambda _name, _share: None))
            return Comparison(result=begun.comparison(runs), runs=runs, environment=opened.environment)

    @contextlib.contextmanager
    def _ready(
        self, scenario: Scenario, strategy: str | None, consumers: Sequence[str], *, loaded: bool = False
    ) -> Iterator[_Task]:
        """What is asked for, in the schema that it is run in: the bench's for the user's own code, else a new one.

        Only under load (`loaded`) a standby and a pooler are used.
        """
        own, target = scenario.origin is Origin.OWN_CODE, self._up(superuser=scenario.superuser)
        if not loaded:
            target = replace(target, standby=None, pooler=None)
        if self._reuse is not None and not self._reuse.is_ours:  # this process is a fork of the one that made it
            self._reuse, self._schema = None, self._schema if self._adopted else new_name()
        schema = self._schema if own else new_name()
        with naming_lost_connections(target), ad_hoc.ready(scenario, target, schema) as read:
            chosen = strategy_of(read, strategy)
            readers = consumers_of(read, chosen, consumers)
            environment = self._environment(target, own_code=own)
            places.check(chosen, readers, target, environment)
            in_place = own and self._adopted
            try:
                yield _Task(
                    target=target,
                    scenario=replace(read, options=None) if in_place else read,  # no command finds these tables
                    strategy=chosen,
                    consumers=readers,
                    schema=schema,
                    in_place=in_place,
                    environment=environment,
                )
            except ScenarioProblem as problem:
                if in_place and getattr(problem.__cause__, "sqlstate", "") in _THERE_ALREADY:
                    raise ScenarioProblem(f"{problem}; {_KEPT}") from problem.__cause__
                raise

    def _kept(self) -> Reuse:
        """What explorations leave for the next; it is closed before the server is stopped."""
        from racebench.exploration.reuse import Reuse

        if self._reuse is None:
            self._reuse = self._stack.enter_context(Reuse())
        return self._reuse

    def _leave(self) -> None:
        """Drop the schema that is kept for the next exploration, if there is one."""
        if self._reuse is not None and self._reuse.is_ours:
            self._reuse.leave()

    def _environment(self, target: Target, *, own_code: bool) -> Mapping[str, Any]:
        """Where results are measured, asked once for the user's own code and once for scenarios."""
        from racebench.postgres import environment

        if own_code not in self._environments:
            self._environments[own_code] = environment.describe(target, own_code=own_code)
        return self._environments[own_code]

    def _machines(
        self, scheduler: str | None, workers_per_machine: int | None, scenario: Scenario, load: LoadOptions
    ) -> Machines | None:
        """The machines of a load, None for this one. Raises UsageProblem for what they cannot run."""
        return places.machines_of(
            scheduler,
            workers_per_machine,
            scenario,
            faults=tuple(load.faults),
            embedded=not self._dsn,
            pooled=self._pooling is not None,
        )

    def _pooled(self, environment: Mapping[str, Any], load: Load) -> Mapping[str, Any]:
        """Where a load is measured, with the pooler that its sessions pass."""
        if self._pooling is None:
            return environment
        from racebench.postgres import pgbouncer

        return {**environment, "pooler": pgbouncer.described(self._up(), load.sessions)}

    def _place(self, scenario: Scenario) -> Place:
        """The server of a job, which is as this one."""
        from racebench.exploration.jobs.messages import Place

        return Place(
            version=self._version,
            connections=_CONNECTIONS,
            superuser=self._superuser or scenario.superuser,
            give_up_s=self._patience.give_up_s,
        )

    def _standby_choice(self) -> StandbyChoice | None:
        from racebench.core.target import StandbyChoice
        from racebench.postgres.external import external

        embedded, delay, dsn = self._standby
        if dsn:
            return StandbyChoice(target=external(dsn))
        return StandbyChoice(delay_ms=round(delay)) if embedded else None

    def _up(self, *, superuser: bool = False) -> Target:
        """The server, started or checked when it is first needed. `superuser`: the scenario needs one."""
        from racebench.postgres import embedded
        from racebench.postgres.external import external
        from racebench.postgres.targets import open_target

        if self._target is None:
            named = external(self._dsn) if self._dsn else None
            connections = 1 if named is not None else _CONNECTIONS
            self._stack.enter_context(watched(self._patience))
            target = self._stack.enter_context(
                open_target(
                    named,
                    version=self._version,
                    connections=connections,
                    superuser=self._superuser,
                    pooler=self._pooling,
                    standby=self._standby_choice(),
                )
            )
            self._target = target
        return embedded.as_superuser(self._target) if superuser and self._dsn is None else self._target


def _placed(request: ExplorationRequest, task: _Task) -> ExplorationRequest:
    """A request in the schema of its task."""
    return replace(request, schema=task.schema, in_place=task.in_place)
