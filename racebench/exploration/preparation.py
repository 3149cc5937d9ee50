"""Makes the world of a search on a server: the schema, the facts about it, the sessions, and the other connections.

Everything is registered on one stack, which removes it at the end, also if a later part cannot be made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import pq, sql

from racebench.core.model import Origin, Script
from racebench.core.plain_text import one_line
from racebench.core.target import Target
from racebench.exploration import isolation
from racebench.exploration.faults import PROBLEMS
from racebench.exploration.freezing import Freezer
from racebench.exploration.hidden_effects import Objects
from racebench.exploration.inspection import Facts, decoded, inspect, may_set, volatile_functions
from racebench.exploration.isolation import Ground, Isolation, RestoredTables
from racebench.exploration.known import Known
from racebench.exploration.observation import Observer, may_surprise
from racebench.exploration.oracle.effects import Oracle
from racebench.exploration.outcome import AnomalyCounter
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.resources import Reached
from racebench.exploration.reuse import Reuse, place
from racebench.exploration.scheduler import Scheduler
from racebench.exploration.sessions import kind_of
from racebench.exploration.sessions.consumer import ConsumerSession
from racebench.exploration.sessions.cutting import Cutter
from racebench.exploration.sessions.pooled import PooledConnections
from racebench.exploration.sessions.session import Session, SessionKind, StrategySession, Surroundings
from racebench.exploration.transactions import implicit, in_transactions
from racebench.postgres.connection import connect
from racebench.postgres.requirements import check_steps
from racebench.postgres.schemas import application_name, fill, new_name, remake
from racebench.postgres.session import Session as ServerSession
from racebench.postgres.snapshot import Snapshot
from racebench.postgres.storage import keep_from_autovacuum

#: Commits do not wait for the disk. That does not change when other sessions see them.
_FAST_COMMITS = {"synchronous_commit": "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """The parts of a world on the server. `prologue` runs the scenario's script before each schedule, if it has one.

    `chooses_victims`: this role may decide which session of a deadlock the server aborts. `observer`: None where no
    step can lock more than its footprint says, or nothing depends on footprints. `restored`: the tables, if the effect
    of a schedule on them is wanted. `known`: what was asked of the catalogs. `pooled`: the server sessions of the
    pooler that is simulated; None without one.
    """

    schema: str
    monitor: psycopg.Connection[Any]
    known: Known
    facts: Facts
    kind: SessionKind
    strategy_sessions: Sequence[StrategySession]
    consumer: ConsumerSession | None
    prologue: ServerSession | None
    scheduler: Scheduler
    isolation: Isolation
    anomalies: AnomalyCounter
    chooses_victims: bool
    observer: Observer | None
    restored: RestoredTables | None
    pooled: PooledConnections | None = None


def prepare(
    target: Target,
    request: ExplorationRequest,
    stack: ExitStack,
    tell: Callable[[str], None],
    reuse: Reuse | None = None,
) -> Preparation:
    """Make the world that a request needs; `stack` undoes it. Raises RacebenchError.

    `tell` is called when it is undone, with a sentence about what was made outside the schema, if anything was.
    `reuse`: what explorations before have left open, and where this one leaves it.
    """
    check_steps(target)
    scenario, strategy = request.scenario, request.strategy
    consumers = [request.consumer] if request.consumer is not None else []
    schema = request.schema or new_name()
    kind = kind_of(strategy)
    stack.enter_context(kind.environment(target, schema))
    step_limit = _milliseconds(request.step_s)
    here = None
    if not request.in_place:
        definition = (scenario, strategy, consumers)
        here = stack.enter_context(place(target, schema, definition, reuse, step_limit, tell))
        monitor = here.monitor
    else:
        monitor = connect(target, schema=schema, settings={"statement_timeout": step_limit}, prepares=True)
        stack.callback(monitor.close)  # in whatever state: an interruption may have left it in the middle of a query
    after_sessions = stack.enter_context(ExitStack())
    original = None
    if here is None:
        original = Snapshot(monitor, schema)
        stack.push(_at_the_end(original.restore, monitor, target, schema))
        fill(target, schema, scenario, strategy, consumers)
    known = Known() if here is None else here.known
    objects = known.names.objects = known.names.objects or Objects(monitor)
    volatile = known.once(
        ("volatile", strategy.script.text), lambda: volatile_functions(monitor, strategy, request.consumer, objects)
    )
    explored = replace(strategy, script=in_transactions(strategy.script, volatile))
    # A place with a consumer is not kept.
    asked = (strategy.script.text, strategy.isolation, *scenario.invariants.items(), bool(scenario.checks))
    facts = known.once(("facts", *asked), lambda: inspect(monitor, schema, request, explored.script, volatile))
    pooled = _pooled(request, facts)
    shares = pooled is not None and pooled.shares
    surroundings = Surroundings(
        target=target,
        schema=schema,
        application_name=application_name(schema, "session"),
        strategy=explored,
        implicit=implicit(strategy.script, explored.script),
        sessions=request.sessions,
        monitor=monitor,
        known=known,
        facts=facts,
        # The sessions of an application share its memory too, of which nothing is known.
        reached=_reached(objects, explored.script, request, facts)
        if request.reduce and not strategy.is_application
        else None,
        step_limit=step_limit,
        own_code=scenario.origin is Origin.OWN_CODE,
        compares_answers=request.oracle is Oracle.ANSWERS,
        backends=reuse.backends if reuse is not None and target.exclusive else None,
        cutter=Cutter(monitor, request.step_s) if request.crash else None,
        crash=request.crash,
        pooled=pooled,
    )
    strategy_sessions = kind.open(surroundings, stack)
    consumer = _open_consumer(request, surroundings, stack)
    sessions: list[Session] = [*strategy_sessions, *([consumer] if consumer is not None else []), *kind.strands]
    commits = {} if decoded(monitor) else _FAST_COMMITS  # a slot reads only what is on the disk
    _configure(sessions, monitor, {**commits, **_no_timeouts(target)})
    prologue = None
    if scenario.explore is not None:
        settings = {**commits}
        connection = connect(target, schema=schema, application_name=surroundings.application_name, settings=settings)
        prologue = ServerSession(connection, scenario.explore)
        stack.callback(prologue.close)
    freezer = None
    if target.server_pid is not None:
        freezer = Freezer(target.server_pid)
        stack.callback(freezer.close)
    idle = pooled.pids if pooled is not None else frozenset[int]()
    scheduler = Scheduler(sessions, monitor, request.step_s, freezer, idle=idle)

    def made_again() -> None:
        remake(monitor, target, schema, scenario, strategy, consumers)
        keep_from_autovacuum(monitor, schema)

    ground = Ground(
        connection=monitor,
        schema=schema,
        sessions=sessions,
        exclusive=target.exclusive,
        remake=None if request.in_place else made_again,
        expected=None if strategy.is_application else facts.leaves,
        original=original,
        standing=None if here is None else here.standing,
        known=known,
    )
    chosen = isolation.choose(scenario, ground, whole_tables=request.oracle is not None)
    after_sessions.push(_at_the_end(chosen.close, monitor, target, schema))
    if here is not None and isinstance(chosen, RestoredTables):
        here.left = chosen
    return Preparation(
        schema=schema,
        monitor=monitor,
        known=known,
        facts=facts,
        kind=kind,
        strategy_sessions=strategy_sessions,
        consumer=consumer,
        prologue=prologue,
        scheduler=scheduler,
        isolation=chosen,
        anomalies=AnomalyCounter(monitor, scenario, whole_tables=chosen.whole_tables),
        # The setting belongs to a server session, and a pooler gives that to one session after the other.
        chooses_victims=may_set(monitor, "deadlock_timeout") and not (shares and freezer is None),
        observer=Observer(monitor)
        if request.reduce and known.once("surprises", lambda: may_surprise(monitor))
        else None,
        restored=chosen if request.oracle is not None and isinstance(chosen, RestoredTables) else None,
        pooled=pooled,
    )


def _pooled(request: ExplorationRequest, facts: Facts) -> PooledConnections | None:
    """The server sessions of the pooler that a request asks for.

    Which server session a client has does not matter if the scripts do nothing that depends on it, and none waits.
    """
    if request.pooler is None:
        return None
    shares = facts.of_session or request.pooler.size < request.sessions
    return PooledConnections(request.pooler, shares=shares, left=facts.leaves, cached=bool(facts.cached_sequences))


def _at_the_end(
    restore: Callable[[psycopg.Connection[Any]], None], monitor: psycopg.Connection[Any], target: Target, schema: str
) -> Callable[[object, BaseException | None, object], None]:
    """An exit function that restores over a connection that can be used; a failure is a note of what failed before.

    The monitor may be lost, or an interruption may have come in the middle of one of its queries.
    """

    def leave(_kind: object, first: BaseException | None, _traceback: object) -> None:
        try:
            if monitor.pgconn.transaction_status == pq.TransactionStatus.IDLE:
                restore(monitor)
                return
            with connect(target, schema=schema) as connection:
                restore(connection)
        except PROBLEMS as second:
            if first is None:
                raise
            if target.kind == "external":
                first.add_note(one_line(str(second)))

    return leave


def _reached(objects: Objects, script: Script, request: ExplorationRequest, facts: Facts) -> Reached:
    """Finds what the scripts' statements reach, which is asked for at once."""
    reached = Reached(objects, facts.leaves)
    scripts = [script, *([request.consumer.script] if request.consumer is not None else [])]
    statements = [statement.sql for part in scripts for statement in part.statements]
    reached.load([*statements, *request.scenario.invariants.values()])
    return reached


def _open_consumer(request: ExplorationRequest, surroundings: Surroundings, stack: ExitStack) -> ConsumerSession | None:
    if request.consumer is None:
        return None
    connection = connect(
        surroundings.target, schema=surroundings.schema, application_name=surroundings.application_name
    )
    stack.callback(connection.close)
    return ConsumerSession(
        request.sessions + 1,
        request.consumer,
        connection,
        surroundings.facts,
        reached=surroundings.reached,
        polls=request.polls,
        zero=request.strategy.zero,
    )


def _configure(sessions: Sequence[Session], monitor: psycopg.Connection[Any], settings: dict[str, str]) -> None:
    for name, value in settings.items():
        for session in sessions:
            session.configure(name, value)
        if name in _FAST_COMMITS:
            monitor.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), value))


def _no_timeouts(target: Target) -> dict[str, str]:
    """Sessions of the user's own code have the role's timeouts, and wait between their steps."""
    return {name: "0" for name in target.found if name.endswith("_timeout")}


def _milliseconds(seconds: float) -> str:
    """A length of time as a setting; never 0, which would be no limit."""
    return f"{max(1, round(seconds * 1000))}ms"
