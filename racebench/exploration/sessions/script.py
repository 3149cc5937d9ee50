"""Sessions that run a strategy's script: a statement, or what a pipeline sends at once, is a step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, ExitStack
from typing import ClassVar

from psycopg import sql

from racebench.core.errors import UsageProblem
from racebench.core.faults import CONNECTION_LOST, EXPIRED, is_fault, stops_a_schedule
from racebench.core.model import Outcome, Statement, Strategy
from racebench.core.refusals import is_refusal
from racebench.core.target import Target
from racebench.exploration.choices import Cut
from racebench.exploration.draws import Draws, server_seed
from racebench.exploration.faults import Fault, sets_timeout
from racebench.exploration.independence import POOLED, Footprint
from racebench.exploration.leftovers import Leftover, custom_settings
from racebench.exploration.sessions.cleaning import clean, kept
from racebench.exploration.sessions.pooled import PooledConnections
from racebench.exploration.sessions.script_footprints import ScriptFootprints, is_begin
from racebench.exploration.sessions.session import GeneratorSession, Session, State, Steps, Surroundings
from racebench.exploration.steps import CUT_ANSWERS, describe, values_of, with_values
from racebench.exploration.told import Answers, Told, shown, texts
from racebench.postgres.compiler.transactions import begins, ends
from racebench.postgres.connection import connect
from racebench.postgres.prepared import Prepared
from racebench.postgres.session import Session as ServerSession
from racebench.postgres.transport import See, Variables
from racebench.postgres.wire import Reply
from racebench.workloads.retry import Tries

#: The most tries of a retry rule that are explored: no other session is left that could refuse one more.
_MOST_TRIES = 20
_DEADLOCK = "40P01"
#: How long a cancellation may take, in seconds.
_CANCEL_S = 5.0
#: Variables that differ between sessions that are alike; symmetry.py makes sure that nothing depends on them.
_OWN_VARIABLES = frozenset({"client_id", "operation"})
#: A session waits between its steps, and for other sessions that do: disable the server's timeouts.
_NO_TIMEOUTS = {"idle_in_transaction_session_timeout": "0", "statement_timeout": "0", "lock_timeout": "0"}


class ScriptSessions:
    """The kind of a strategy that is a script."""

    may_be_abandoned: ClassVar[bool] = True
    strands: ClassVar[Sequence[Session]] = ()
    notes: ClassVar[Sequence[str]] = ()
    unseen: ClassVar[None] = None
    spoiled: ClassVar[bool] = False

    def environment(self, target: Target, schema: str) -> AbstractContextManager[None]:  # noqa: ARG002 - SQL needs none
        return contextlib.nullcontext()

    def open(self, surroundings: Surroundings, stack: ExitStack) -> Sequence[ScriptSession]:
        strategy, level = surroundings.strategy, surroundings.strategy.isolation
        settings = _NO_TIMEOUTS | ({"default_transaction_isolation": level} if level else {})
        pooled = surroundings.pooled
        shares = pooled is not None and pooled.shares
        footprints = ScriptFootprints(strategy.script, level, surroundings.facts, surroundings.reached, shares=shares)
        custom = custom_settings([strategy.script.text])

        def open_session(see: See) -> ServerSession:
            with ExitStack() as opening:
                session = open_connected(see, opening)
                opening.pop_all()
                return session

        def open_connected(see: See, opening: ExitStack) -> ServerSession:
            connection = connect(
                surroundings.target,
                schema=surroundings.schema,
                settings=settings,
                application_name=surroundings.application_name,
                own_code=surroundings.own_code,
            )
            opening.callback(connection.close)
            # Preparing needs locks too, which no session of the exploration holds yet.
            own = connection.execute("SELECT current_setting('lock_timeout')").fetchone()
            connection.execute(sql.SQL("SET lock_timeout = {}").format(surroundings.step_limit))
            for name in custom:
                # Empty in the first schedule too, as it is in a session that has set it once.
                connection.execute("SELECT set_config(%s, '', false)", (name,))
                connection.execute(sql.SQL("RESET {}").format(sql.Identifier(*name.split("."))))
            session = ServerSession(
                connection,
                strategy.script,
                gated=True,
                zero=frozenset({"think", "hold"}),
                see=see,
                every_row=surroundings.compares_answers,
                text=strategy.text,
                switches=shares,
            )
            session.configure("lock_timeout", str(own[0]) if own else "0")
            return session

        sessions = []
        for number in range(1, surroundings.sessions + 1):
            facts = surroundings.facts
            session = ScriptSession(
                number,
                strategy,
                open_session,
                footprints,
                facts.draws,
                facts.leaves,
                serializable=facts.serializable,
                compares_answers=surroundings.compares_answers,
                crash=surroundings.crash,
                implicit=surroundings.implicit,
                pooled=pooled,
            )
            session.cutter = surroundings.cutter
            stack.callback(session.close)
            sessions.append(session)
        return sessions

    def renew(self) -> None:
        """Nothing: the tables are all that a schedule begins with."""

    def run_alone(self, renew: Callable[[], object], violations: Callable[[], int]) -> None:
        """Nothing: the server says what a script's statements may touch."""

    def callables(self, strategy: Strategy, sessions: int) -> Mapping[str, str]:  # noqa: ARG002 - it has none
        return {}

    def stuck(self, waiting: Sequence[str], holders: Sequence[str]) -> UsageProblem:
        return UsageProblem(
            f"{' and '.join(waiting)} cannot go on, though {' and '.join(holders)} reached the end of the script: it "
            "leaves a lock of its session behind; have it unlock what it locks, in the same try"
        )


class ScriptSession(GeneratorSession):
    """Runs the script once in each schedule, and again if the retry rule says so.

    `session` is the server session, whose script has BEGIN and COMMIT where they were added. `pooled`: the server
    sessions of a pooler, of which it uses one at a time; `hung`: it would have waited for ever.
    """

    swallowed = ""
    returned = None
    drawn = 0  # each try draws the same
    draw = 0
    told_apart = False  # the server is asked about a script before the search
    batches: AbstractSet[str] = frozenset()
    functions: AbstractSet[str] = frozenset()  # before the search, too

    def __init__(
        self,
        number: int,
        strategy: Strategy,
        open_session: Callable[[See], ServerSession],
        footprints: ScriptFootprints,
        draws: Draws,
        leaves: Mapping[Leftover, str],
        *,
        serializable: bool = False,
        compares_answers: bool = False,
        crash: int = 0,
        implicit: frozenset[int] = frozenset(),
        pooled: PooledConnections | None = None,
    ) -> None:
        super().__init__(number)
        self._pooled = pooled
        self.hung = False
        self._open_session = open_session
        self._leaves = leaves
        self._serializable = serializable
        #: Settings that the session has besides those of its connection string.
        self._settings: dict[str, str] = {}
        self.told = Answers(wanted=compares_answers)
        self.session = open_session(self._see)
        self.statements = self.session.script.statements
        self.operation = self.deadlocks = 0
        self.sqlstate = ""
        self._retry = strategy.retry
        self._tries = Tries(None)
        self._reconnects = strategy.retry is not None and (
            strategy.retry.lost or any(map(is_fault, strategy.retry.sqlstates))
        )
        #: Sessions for tries that follow a cut: to prepare statements takes locks, which others hold by then.
        self._spares: list[ServerSession] = []
        self._most_spares = crash if self._reconnects else 0
        #: What the last step of this try may have touched; None if it has taken none.
        self._touched: Footprint | None = None
        self._in_transaction = False
        self._implicit = implicit
        #: The last step began a transaction that the server begins by itself.
        self._began_implicitly = False
        self._may_expire = sets_timeout(strategy.script)
        self._footprints = footprints
        self.draws = draws
        self._variables: Variables = {}
        if pooled is not None:
            pooled.add(self)

    @property
    def pid(self) -> int:
        return self.session.connection.info.backend_pid if self.session.alive and self._may_send else 0

    @property
    def socket(self) -> int:
        return self.session.socket if self.session.alive and self._may_send else -1

    @property
    def _may_send(self) -> bool:
        """Whether it has a connection; a client of a pooler has none between its transactions."""
        return self._pooled is None or self._pooled.may_send(self)

    @property
    def outcome(self) -> Outcome:
        outcome: Outcome = self.result
        return outcome

    @property
    def tries(self) -> int:
        return self._tries.number

    @property
    def refused(self) -> bool:
        return self.outcome is Outcome.FAIL and is_refusal(self.sqlstate)

    @property
    def likeness(self) -> str:
        return "script"

    @property
    def memory(self) -> Hashable:
        # In the order in which the script has set them.
        return (self.tries, *[item for item in self._variables.items() if item[0] not in _OWN_VARIABLES])

    @property
    def footprint(self) -> Footprint:
        if self._may_send:
            return self._footprints.of(self.next_step)
        # Who takes a server session first decides which one the others get.
        if is_begin(self.next_step) and not self.joins_next and not self._footprints.begin_is_seen:
            return POOLED
        return self._footprints.of(self.next_step) | POOLED

    @property
    def changes_catalog(self) -> bool:
        return self._footprints.change_catalog(self.next_step)

    @property
    def joins_next(self) -> bool:
        if not is_begin(self.next_step):
            return False
        # One that the server begins by itself is sent with its statement, and takes a server session with it.
        implicit = self._pooled is not None and id(self.next_step[0]) in self._implicit
        return self._footprints.begin_is_free or (implicit and not self._footprints.begin_is_seen)

    @property
    def in_transaction(self) -> bool:
        """Whether it was in a transaction after the last answer."""
        return self._in_transaction

    @property
    def serializable(self) -> bool:
        return self._serializable

    def configure(self, name: str, value: str) -> None:
        self._settings[name] = value
        for session in (self.session, *self._spares):
            session.configure(name, value)

    def cuts(self, *, reduce: bool) -> Sequence[Cut]:
        possible = super().cuts(reduce=reduce)
        if id(self.next_step[0]) in self._implicit:
            # The server does not wait for its client before it commits by itself.
            possible = possible[1:] if ends(self.next_step[0]) else possible[:1]
        elif self._began_implicitly:
            possible = possible[:1]
        if not reduce or self._reconnects:
            return possible
        # The client is gone, whichever of its answers were lost. So a cut after a step is one before the next step,
        # unless the step commits; and one before a step is one before the last step, unless that has left something.
        step = self.next_step
        commits = any(map(ends, step)) or (not self._in_transaction and not begins(step[0]))
        nothing = self._touched is not None and self._touched.is_harmless and not self._touched.guards
        useful = (*(() if nothing else (Cut.BEFORE,)), *((Cut.AFTER,) if commits else ()))
        return [cut for cut in possible if cut in useful]

    def mend(self) -> None:
        if self._pooled is not None:
            self._pooled.bring_home(self)
        if not self.session.alive:
            self.session.close()
            self.session = self._opened()
        while len(self._spares) < self._most_spares:
            self._spares.append(self._opened())

    def _opened(self) -> ServerSession:
        session = self._open_session(self._see)
        for name, value in self._settings.items():
            session.configure(name, value)
        return session

    def advance(self) -> None:
        if self.cutter is not None and self.state is State.READY and self.next_step:
            first = self.next_step[0]
            self._touched = self.footprint
            self._began_implicitly = id(first) in self._implicit and not ends(first)
        if self._pooled is None:
            super().advance()
            return
        if self.state is State.READY and self.next_step and not self._pooled.take(self):
            self.state, self.inside = State.WAITING, True
            return
        super().advance()
        if self.state is State.DONE:
            self._pooled.disconnected(self, self._settings)
        elif self.state is State.READY:
            self._pooled.answered(self, in_transaction=self._in_transaction)

    def granted(self) -> None:
        """Send the step that has waited for a server session of the pooler."""
        self.inside = False
        super().advance()

    def hang(self) -> None:
        """End a wait that would never end; its statement is cancelled, if one was sent."""
        self.hung = True
        if self.inside and self._steps is not None:
            self._steps.close()
            self.state, self.inside, self.result = State.DONE, False, Outcome.UNKNOWN
        else:
            self.session.connection.cancel_safe(timeout=_CANCEL_S)

    @property
    def leaves(self) -> Mapping[Leftover, str]:
        return self._leaves

    def clean(self) -> None:
        if self._leaves:
            clean(self.session.connection.pgconn, self._leaves, self._settings)

    def prepare_again(self) -> None:
        for session in (self.session, *self._spares):
            session.prepare_again()

    def kept(self) -> Sequence[str]:
        return kept(self.session.connection.pgconn, {*self._settings, "lock_timeout"})

    def take_numbers(self, sequences: Sequence[str]) -> None:
        pgconn = self.session.connection.pgconn
        pgconn.exec_(b"DISCARD SEQUENCES")
        for sequence in sequences:
            pgconn.exec_params(b"SELECT nextval($1::text::regclass)", [sequence.encode()])

    def start(self, tenant: int, run: int) -> None:
        self.operation = (self.number << 32) + run
        self.hung, self.inside, self.next_step = False, False, ()
        self.answers.clear()
        self.told.begin()
        self._tries = Tries(self._retry, _MOST_TRIES)
        self.deadlocks, self.sqlstate = 0, ""
        variables: Variables = {
            "think": b"0",
            "hold": b"0",
            "tenants": b"1",
            "tenant": b"%d" % tenant,
            "client_id": b"%d" % (self.number - 1),
            "random_seed": b"0",
            "operation": b"%d" % self.operation,
            "version": None,
        }
        self._variables = variables
        self.begin(self._operation(variables))

    def literal(self) -> str:
        return with_values(self.next_step, self._variables)

    def whole_text(self, *, own: bool) -> str:
        """The next step with the values in it; `own`: those that tell the session from others too."""
        if own:
            return self.literal()
        return with_values(self.next_step, {**self._variables, **dict.fromkeys(_OWN_VARIABLES, b"0")})

    def values(self) -> tuple[str, ...]:
        return values_of(self.next_step, self._variables)

    def _operation(self, variables: Variables) -> Steps:
        while True:
            session = self.session
            self._touched, self._in_transaction, self._began_implicitly = None, False, False
            # The same for all sessions, so that they meet; and for each try, as pgbench has it.
            session.reseed(f"{self.draw}" if self.draw else "")
            if self.draws.server and (self._pooled is None or self.tries == 1):
                session.connection.pgconn.exec_(server_seed(self.draw, self.number))
            outcome = yield from session.steps(variables)
            if self.cut_now is not None and not session.alive:
                self.answers.append(CUT_ANSWERS[self.cut_now])
                self.sqlstate = CONNECTION_LOST
                self.told.settle(undone=True)
                if not self._tries.again(outcome, self.sqlstate):
                    return Outcome.UNKNOWN
                session.close()
                self.session = self._spares.pop()
                variables["version"] = None
                continue
            if not session.alive or self._is_fault(session.sqlstate):
                raise self._fault("lost its connection at" if not session.alive else "was stopped at")
            self.sqlstate = session.sqlstate
            self.deadlocks += self.sqlstate == _DEADLOCK
            if self.sqlstate:
                self.answers.append(f"ERROR {self.sqlstate}: {session.message}")
            if outcome is not Outcome.OK:
                self.told.settle(undone=True)
                yield from session.rolling_back()
                if not session.alive:
                    raise self._fault("lost its connection in the rollback after")
                self._in_transaction = False
            if self.hung:
                return Outcome.UNKNOWN
            if not self._tries.again(outcome, self.sqlstate):
                return outcome
            variables["version"] = None

    def _is_fault(self, sqlstate: str) -> bool:
        # A script that sets a time-out has it expire; one that waits for ever is cancelled.
        return stops_a_schedule(sqlstate) and not (sqlstate in EXPIRED and (self._may_expire or self.hung))

    def _fault(self, happened: str) -> Fault:
        sqlstate = self.session.sqlstate
        return Fault(
            f"{self.name} {happened} '{describe(self.next_step)}': {self.session.message}",
            sqlstate if stops_a_schedule(sqlstate) else CONNECTION_LOST,
        )

    def _see(self, statements: Sequence[Statement], prepared: Sequence[Prepared], reply: Reply) -> None:
        self._in_transaction = reply.status == b"T"
        if self.told.wanted:
            self._remember(statements, prepared, reply)
        for known, result in zip(prepared, reply.results, strict=False):
            if result.rows and known.columns:
                self.answers.append(shown(known.columns, texts(result.last), result.rows))
            else:
                self.answers.append(result.tag.decode())

    def _remember(self, statements: Sequence[Statement], prepared: Sequence[Prepared], reply: Reply) -> None:
        for statement, known, result in zip(statements, prepared, reply.results, strict=False):
            if result.tag == b"ROLLBACK" and reply.status == b"I":  # not to a savepoint
                self.told.settle(undone=True)
                continue
            rows = tuple(map(texts, result.all))
            self.told.add(Told(statement=statement.sql, columns=known.columns, rows=rows, tag=result.tag.decode()))
        if reply.status == b"I":
            self.told.settle(undone=False)

    def release(self) -> None:
        if self._may_send:
            self.session.start_afresh()
        if self._pooled is not None:
            self._in_transaction = False
            self._pooled.disconnected(self, self._settings)

    def close(self) -> None:
        if self._pooled is not None:
            self._pooled.bring_home(self)
        for session in (self.session, *self._spares):
            session.close()
