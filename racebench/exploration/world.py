"""The world of a search on a server: a schema, its sessions on a scheduler, and fresh world for every schedule."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import permutations
from typing import Any

import psycopg
from psycopg import sql

from racebench.core.errors import DatabaseProblem, ScenarioProblem, UsageProblem
from racebench.core.model import Consumer, Outcome, Script
from racebench.core.target import Target
from racebench.exploration import isolation
from racebench.exploration.actors import Actor, Poller, State, Writer, describe, with_values
from racebench.exploration.callers import Caller, Surroundings
from racebench.exploration.independence import Footprint, footprint
from racebench.exploration.inspection import (
    after_begin,
    cached_sequences,
    columns,
    decoded,
    may_set,
    sources,
    triggers,
    volatile_functions,
)
from racebench.exploration.outcome import Judge, ScheduleResult
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.scheduler import Scheduler
from racebench.exploration.schedules import Step
from racebench.exploration.search import Choice
from racebench.exploration.sessions.interception import Interception
from racebench.exploration.symmetry import Pasts, alike, begin_is_seen, in_pipelines, warm
from racebench.exploration.transactions import in_transactions
from racebench.postgres.schemas import application_name, fill, fresh_schema, new_name
from racebench.postgres.session import Query, Session, connect
from racebench.postgres.snapshot import Snapshot
from racebench.postgres.transport import See, Variables
from racebench.workloads import callables
from racebench.workloads.ad_hoc import APPLICATION

#: Sessions whose calls are run one after the other in every order.
_MOST_PERMUTED = 3
#: The shortest deadlock_timeout of a session; sessions must come to wait for each other within it.
_DEADLOCK_MS = 30
#: A session is parked between its steps, and may wait for a parked one: the server is not to lose patience with it.
_PARKED = {"idle_in_transaction_session_timeout": "0", "statement_timeout": "0", "lock_timeout": "0"}

#: No commit waits for the disk, unless a slot reads what is there: who sees it when is the same.
_HURRIED = {"synchronous_commit": "off"}


class ServerWorld:
    """The world of a search: a schema on the server, its sessions on a scheduler, a fresh tenant for each schedule."""

    def __init__(self, target: Target, asked: ExplorationRequest, ended: Callable[[ScheduleResult], None]) -> None:
        self._target, self._asked, self.ended = target, asked, ended
        self._stack = contextlib.ExitStack()
        self._runs = 0
        self._tenant = 0
        self._raced = False
        self._taken: list[int] = []
        self._pasts = Pasts()
        self.prepared: tuple[str, ...] = ()
        self._open()

    def close(self) -> None:
        self._stack.close()

    @property
    def tenant(self) -> int:
        """Whose rows the schedule that is being run writes."""
        return self._tenant

    def _open(self) -> None:
        """Make the schema, the sessions and the scheduler; what was made is undone if the rest cannot be."""
        with contextlib.ExitStack() as opening:
            self._set_up(opening)
            self._stack = opening.pop_all()

    def _set_up(self, stack: contextlib.ExitStack) -> None:
        asked, target = self._asked, self._target
        consumers = [asked.consumer] if asked.consumer else []
        schema = self.schema = asked.schema or new_name()
        if asked.strategy.calls:
            stack.enter_context(callables.exported(callables.variables(target, schema, APPLICATION)))
        if not asked.in_place:
            stack.enter_context(fresh_schema(target, schema, asked.scenario, asked.strategy, consumers))
        named = application_name(schema, "session")
        patience = {"statement_timeout": _milliseconds(asked.step_s)}
        monitor = connect(target, schema=schema, settings=patience)
        stack.callback(monitor.close)  # as it is: an interruption may have left it in the middle of a question
        if asked.in_place:
            stack.callback(Snapshot(monitor, schema).restore)
            fill(target, schema, asked.scenario, asked.strategy, consumers)
        self._monitor = monitor
        self.triggers = triggers(monitor, schema)
        volatile = self._volatile = volatile_functions(monitor, asked.strategy, asked.consumer)
        script = in_transactions(asked.strategy.script, volatile)
        self._piped = in_pipelines(script)
        #: By the identities of a gate's statements, which the sessions keep alive.
        self._footprints: dict[tuple[int, ...], Footprint] = {}
        self._after_begin = after_begin(script, asked.strategy.isolation, volatile)
        level = asked.strategy.isolation
        settings = _PARKED | ({"default_transaction_isolation": level} if level else {})
        self._chooses_victims = may_set(monitor, "deadlock_timeout")
        actors: list[Actor] = []
        self.writers: list[Writer | Caller] = []
        # Registered before there is one: what has been opened is closed even if the next cannot be.
        stack.callback(_close, actors)
        surroundings = self._surroundings = Surroundings(monitor, schema, target.label, volatile)
        if asked.strategy.calls:
            interception = Interception()
            stack.enter_context(interception.installed())

        def open_session(see: See) -> Session:
            connection = connect(target, schema=schema, settings=settings, application_name=named)
            # Preparing needs locks too, and nobody of ours has any yet.
            own = connection.execute("SELECT current_setting('lock_timeout')").fetchone()
            connection.execute(sql.SQL("SET lock_timeout = {}").format(_milliseconds(asked.step_s)))
            session = Session(connection, script, gated=True, zero=frozenset({"think", "hold"}), see=see)
            session.configure("lock_timeout", str(own[0]) if own else "0")
            return session

        def open_connection() -> psycopg.Connection[Any]:
            return connect(target, schema=schema, application_name=named, autocommit=False)

        for number in range(1, asked.sessions + 1):
            writer: Writer | Caller
            if asked.strategy.calls:
                call = asked.strategy.calls[(number - 1) % len(asked.strategy.calls)]
                writer = Caller(number, call, interception, surroundings, open_connection)
            else:
                writer = Writer(number, asked.strategy, open_session)
            self.writers.append(writer)
            actors.append(writer)
        self.poller: Poller | None = None
        if asked.consumer is not None:
            connection = connect(target, schema=schema, application_name=named)
            stack.callback(connection.close)
            for part in asked.consumer.opening:
                connection.execute(part.text.encode())
            query = Query(connection, asked.consumer.script, asked.consumer.tolerate)
            self.poller = Poller(asked.sessions + 1, asked.consumer, query, connection, asked.strategy.zero)
            actors.append(self.poller)
        hurried = {} if decoded(monitor) else _HURRIED
        self._hurry(monitor, hurried)
        self._before: Session | None = None
        if asked.scenario.explore is not None:
            connection = connect(target, schema=schema, application_name=named, settings=hurried)
            self._before = Session(connection, asked.scenario.explore)
            stack.callback(self._before.close)
        self.scheduler = Scheduler(actors, monitor, asked.step_s)
        self._cached = cached_sequences(monitor, schema)
        self._inspect(script, consumers)
        self.order_victims()
        self._isolation = isolation.choose(asked.scenario, monitor, schema)
        self._judge = Judge(monitor, asked.scenario, whole_tables=self._isolation.whole_tables)
        if asked.strategy.calls:
            self._run_alone()
        self._tenant = 0
        self._judge.forget()

    def _inspect(self, script: Script, consumers: Sequence[Consumer]) -> None:
        """Find out whether sessions are alike, and whether anybody sees when a transaction began."""
        asked = self._asked
        scripts = [script, *(each.script for each in consumers)]
        statements = [statement for each in scripts for statement in each.statements]
        hidden = sources(self._monitor, self.schema, statements)
        tables = columns(self._monitor, self.schema)
        read = [statement.text for each in consumers for statement in each.script.statements]
        self._alike = alike(script, tables, [*hidden, *read]) and not self._cached
        ddl = [*asked.scenario.schema, *asked.strategy.schema, *(part for each in consumers for part in each.schema)]
        #: Whether a failed try leaves nothing: a function may have locked for the session.
        self._forgets = not hidden
        self._glues = not begin_is_seen([*(each.text for each in scripts), *(each.text for each in ddl), *hidden])

    def order_victims(self, *, last_first: bool = False) -> None:
        """Have the server end the first session of a deadlock, or the last: the one that looks for one soonest.

        Only a superuser may; for others the server decides, after its own deadlock_timeout.
        """
        if not self._chooses_victims:
            return
        for place, writer in enumerate(reversed(self.writers) if last_first else self.writers, 1):
            writer.configure("deadlock_timeout", f"{_DEADLOCK_MS * place}ms")

    def _hurry(self, monitor: psycopg.Connection[Any], settings: Mapping[str, str]) -> None:
        """Change settings of every session that there is by now."""
        for name, value in settings.items():
            for writer in self.writers:
                writer.configure(name, value)
            for connection in (monitor, *([self.poller.connection] if self.poller is not None else [])):
                connection.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), value))

    # What a search asks of its world

    def begin(self) -> None:
        if not self._isolation.renew():
            self._stack.close()
            self._open()
            self._isolation.renew()
        if self._isolation.whole_tables:
            self._judge.forget()
        self._runs += 1
        self._tenant += 1
        self._raced = self.scheduler.deadlocked = False
        self._taken = []
        self._pasts = Pasts()
        if self._before is not None:
            before: Variables = {"tenant": b"%d" % self._tenant, "operation": b"%d" % self._runs}
            if self._before.run(before) is not Outcome.OK:
                if not self._before.alive:
                    raise DatabaseProblem(f"the connection that prepares schedules was lost: {self._before.message}")
                raise ScenarioProblem(f"{self._before.script.path}: the server refuses this: {self._before.message}")
            self.prepared = tuple(with_values([each], before) for each in self._before.script.statements)
        if self.poller is not None:
            self.poller.polls = self._asked.polls
        if self._cached:
            warm([each.session.connection for each in self.writers if isinstance(each, Writer)], self._cached)
        for actor in self.scheduler.sessions:
            actor.start(self._tenant, self._runs)

    def choices(self) -> Sequence[Choice]:
        return [
            Choice(
                actor.number,
                self._touches(actor),
                self._like(actor),
                actor.sends,
            )
            for actor in self.scheduler.sessions
            if actor.state is State.READY
        ]

    def _like(self, actor: Actor) -> Hashable:
        """What it has in common with sessions that only their names tell from it; None if it is like no other."""
        if not self._asked.reduce or not self._alike or not actor.like:
            return None
        past = self._pasts.of(actor.number)
        if past is None:
            return None
        return actor.like, past, actor.memory, actor.sends

    def take(self, session: int) -> Footprint | None:
        actor = self.scheduler.sessions[session - 1]
        glued = self._asked.reduce and self._glues and isinstance(actor, Writer) and _is_begin(actor)
        self._step(actor)
        others = bool(self.scheduler.woken)
        if glued and actor.state is State.READY:
            self._step(actor)
            others |= bool(self.scheduler.woken)
        # What went on because of it may have committed, and what was refused has rolled back.
        return Footprint.ANYTHING if others or (isinstance(actor, Writer) and actor.sqlstate) else None

    def _step(self, actor: Actor) -> None:
        self._taken.append(actor.number)
        touches, tries = self._touches(actor), [writer.tries for writer in self.writers]
        self.scheduler.step(actor)
        self._raced |= len(self.scheduler.woken) > 1
        again = {writer.number for writer, before in zip(self.writers, tries, strict=True) if writer.tries > before}
        self._pasts.took(actor.number, touches, undone=actor.number in again, waits=actor.state is State.WAITING)
        for session in again if self._forgets else ():
            self._pasts.begins_again(session)

    def end(self, schedule: Sequence[int], *, complete: bool) -> None:  # noqa: ARG002 - BEGINs are steps of their own
        if not complete:
            if not self._asked.strategy.calls:
                self.scheduler.abandon()
                return
            self._run_out()
        if waiting := [actor.name for actor in self.scheduler.sessions if actor.state is State.WAITING]:
            if self._asked.strategy.calls:
                raise UsageProblem(
                    f"{' and '.join(waiting)} wait for each other over several connections, which the server does not "
                    "see: use one connection in a call"
                )
            holders = {pid for pids in self.scheduler.waits.values() for pid in pids}
            held = [actor.name for actor in self.scheduler.sessions if actor.pid in holders]
            raise UsageProblem(
                f"{' and '.join(waiting)} cannot go on, though {' and '.join(held)} came to the end of the script: it "
                "leaves a lock of its session behind; have it unlock what it locks, in the same try"
            )
        if complete:
            self.ended(self._conclude(tuple(self._taken)))

    def _run_out(self) -> None:
        """Have calls come to their ends by themselves: only the application knows what it has to put back."""
        while ready := [actor for actor in self.scheduler.sessions if actor.state is State.READY]:
            self._step(ready[0])

    def follow(self, schedule: Sequence[int]) -> list[Step]:
        """Run one schedule from its start to its end and say what happened."""
        self.begin()
        steps = []
        for number, session in enumerate(schedule, 1):
            able = [choice.session for choice in self.choices()]
            if session not in able:
                self.scheduler.abandon()
                can = ", ".join(f"s{each}" for each in able) or "nobody"
                raise UsageProblem(
                    f"the schedule cannot be followed: at step {number} s{session} cannot go on, {can} can; "
                    "the script, the scenario or the server has changed since: explore again"
                )
            steps.append(self.watch(session))
        if left := [f"s{choice.session}" for choice in self.choices()]:
            self.scheduler.abandon()
            raise UsageProblem(f"the schedule ends before the sessions do: {', '.join(left)} can go on")
        self.end(schedule, complete=True)
        return steps

    def follow_as_far_as_it_goes(self, schedule: Sequence[int]) -> None:
        """Run a schedule, and where it cannot be followed any more, whoever can go on."""
        self.begin()
        rest = list(schedule)
        while choices := self.choices():
            able = [choice.session for choice in choices]
            session = rest.pop(0) if rest and rest[0] in able else able[0]
            if session != (schedule[len(self._taken)] if len(self._taken) < len(schedule) else None):
                rest = []
            self._step(self.scheduler.sessions[session - 1])
        self.end(schedule, complete=True)

    def watch(self, session: int) -> Step:
        """Have a session that can go on take its step, and say what happened."""
        actors = self.scheduler.sessions
        for each in actors:
            each.answers.clear()
        actor = actors[session - 1]
        sent, where, literal = describe(actor.gate), actor.where, actor.literal()
        waiting = [each for each in actors if each.state is State.WAITING]
        self._step(actor)
        by_pid = {pid: each.name for each in actors for pid in each.pids}
        return Step(
            session=actor.name,
            sent=sent,
            answered=tuple(actor.answers),
            where=where,
            literal=literal,
            waits_for=tuple(by_pid.get(pid, str(pid)) for pid in self.scheduler.waits.get(actor.pid, ()))
            if actor.state is State.WAITING
            else (),
            went_on=tuple((each.name, tuple(each.answers)) for each in waiting if each.state is not State.WAITING),
        )

    def _touches(self, actor: Actor) -> Footprint:
        if isinstance(actor, Caller):
            return actor.touches
        key = (isinstance(actor, Poller), *map(id, actor.gate))
        if (known := self._footprints.get(key)) is None:
            known = self._footprints[key] = self._footprint(actor)
        return known

    def _footprint(self, actor: Actor) -> Footprint:
        if _is_begin(actor) and not self._glues:
            return Footprint.WRITE  # it says what now() is
        if _is_begin(actor):
            return self._after_begin.get(id(actor.gate[0]), Footprint.ANYTHING)
        if any(id(statement) in self._piped for statement in actor.gate):
            return Footprint.ANYTHING  # without a transaction it commits at its end
        level = None if isinstance(actor, Poller) else self._asked.strategy.isolation
        return footprint(actor.gate, isolation=level, volatile=self._volatile)

    def _conclude(self, schedule: tuple[int, ...]) -> ScheduleResult:
        found = self._judge.judge(self.writers, self.poller, self._tenant, self.scheduler.wait)
        return ScheduleResult(
            schedule=schedule,
            counts=found.counts,
            signature=found.signature,
            raced=self._raced,
            deadlocked=self.scheduler.deadlocked,
            victims=tuple(w.number for w in self.writers if w.deadlocks),
            swallowed=tuple(w.swallowed for w in self.writers if w.swallowed),
        )

    def broken(self) -> tuple[str, ...]:
        """What breaks an invariant now, in words."""
        return self._judge.broken(self._tenant)

    def _run_alone(self) -> None:
        """Run the calls one after the other, in every order: what fails or breaks so is no race.

        Sessions of the same call are alike. It also fills the application's pools and caches, so that every order
        begins alike.
        """
        callers = [writer for writer in self.writers if isinstance(writer, Caller)]
        every = permutations(callers) if len(callers) <= _MOST_PERMUTED else (callers, callers[::-1])
        orders = {tuple(caller.like for caller in order): order for order in every}.values()
        alone: set[str] = set()
        for order in orders:
            self._isolation.renew()
            for place, caller in enumerate(order):
                if (error := caller.run_alone()) and not place:
                    raise UsageProblem(
                        f"{caller.call} fails when it runs alone, right after the setup: {caller.answers[-1]}; "
                        "is the setup complete?"
                    )
                alone.add(error)
            self._judge.forget()
            if broken := self._judge.violations():
                raise UsageProblem(
                    f"{broken} rows break the invariant when the calls run one after the other: that is no race; "
                    "look at the calls, or at the invariant"
                )
        for caller in callers:
            caller.alone = alone - {""}
        texts = set().union(*(caller.texts for caller in callers))
        self._surroundings.begin_is_seen = not self._glues or begin_is_seen(texts)


def _close(actors: Sequence[Actor]) -> None:
    for actor in actors:
        actor.close()


def _milliseconds(seconds: float) -> str:
    """A length of time as a setting; never 0, which would be no limit."""
    return f"{max(1, round(seconds * 1000))}ms"


def _is_begin(actor: Actor) -> bool:
    return len(actor.gate) == 1 and actor.gate[0].keyword in ("BEGIN", "START")
