"""Runs a spec's permutations, and reports what happens in isolationtester's own words.

The order of events is isolationtester's: a step is sent, and is done when its answer is here and no marker delays it.
A step that waits for another session is reported as waiting, and again when it is done. Unlike isolationtester, the
runner does not wait in a permutation whose next step can never be taken: it calls it invalid at once, as
isolationtester did before version 13. The sessions have the settings that pg_isolation_regress gives them, on which
the expected output of a spec depends. place.py decides where a spec runs.
Source: PostgreSQL's src/test/isolation/README, and its expected outputs.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import pq

from racebench.core.errors import DatabaseProblem
from racebench.core.libpq import send_all
from racebench.core.plain_text import one_line
from racebench.core.signals import shielded
from racebench.exploration.isolationtester.place import Place
from racebench.exploration.isolationtester.specs import Kind, PermutationStep, Spec, SpecSession, SpecStep
from racebench.exploration.scheduler import released
from racebench.postgres.connection import connect

#: How long an answer may take before the server is asked which sessions block it, in seconds.
_PATIENCE_S = 0.005
#: The time limit for a step, in seconds.
STEP_LIMIT_S = 60.0

#: What pg_isolation_regress sets in the environment of isolationtester (src/test/regress/pg_regress.c).
SETTINGS = {
    "DateStyle": "Postgres, MDY",
    "TimeZone": "America/Los_Angeles",
    "IntervalStyle": "postgres_verbose",
}

_BLOCKERS = "SELECT pid, pg_blocking_pids(pid) || pg_safe_snapshot_blocking_pids(pid) FROM unnest(%s::int[]) AS pid"


class _Connection:
    """A session's connection, and the step it is in the middle of."""

    def __init__(self, connection: psycopg.Connection[Any], name: str, say: Callable[[str], None]) -> None:
        self.connection = connection
        self.pgconn = connection.pgconn
        self.name = name
        self.active: _Running | None = None
        self.notices = 0
        self._say = say
        self.pgconn.notice_handler = self._noticed

    @property
    def pid(self) -> int:
        return self.pgconn.backend_pid

    def _noticed(self, result: pq.abc.PGresult) -> None:
        field = result.error_field
        severity, message = (
            field(code) or b"" for code in (pq.DiagnosticField.SEVERITY, pq.DiagnosticField.MESSAGE_PRIMARY)
        )
        text = f"{self.name}: {severity.decode()}:  {message.decode(errors='replace')}\n"
        for word, code in (("DETAIL", pq.DiagnosticField.MESSAGE_DETAIL), ("HINT", pq.DiagnosticField.MESSAGE_HINT)):
            if said := field(code):
                text += f"{word}:  {said.decode(errors='replace')}\n"
        self.notices += 1
        self._say(text)


class _Running:
    """A step that has been sent, with what delays its completion."""

    def __init__(self, planned: PermutationStep, step: SpecStep) -> None:
        self.planned, self.step = planned, step
        self.targets: list[int] = []  # numbers of notices, one for each blocker


class Runner:
    """Runs specs in one place."""

    def __init__(self, place: Place, say: Callable[[str], None]) -> None:
        self._place = place
        self._say = say
        self._spec: Spec
        self._control: psycopg.Connection[Any]
        self._connections: list[_Connection] = []
        self._notified = False
        self._may_time_out = False

    def run(self, spec: Spec, name: str) -> None:
        """Run every permutation. Raises DatabaseProblem; no session is left on the server, whatever happens.

        `name` is the spec's: specs look up their sessions in pg_stat_activity as `isolation/name/session`.
        """
        self._spec = spec
        with contextlib.ExitStack() as stack:
            self._say(f"Parsed test spec with {len(spec.sessions)} sessions\n")

            def opened(session: str) -> psycopg.Connection[Any]:
                place, named = self._place, f"isolation/{name}/{session}"
                return stack.enter_context(
                    contextlib.closing(
                        connect(place.target, schema=place.schema, application_name=named, settings=SETTINGS)
                    )
                )

            self._control = opened("control connection")
            self._may_time_out = _has_timeouts(spec, self._control)
            self._connections = [
                _Connection(opened(session.name), session.name, self._tell) for session in spec.sessions
            ]
            stack.callback(self._end_sessions)
            for permutation in spec.all_permutations():
                self._permutation(permutation)

    def _end_sessions(self) -> None:
        """End the sessions that are in the middle of a statement: the server would not notice that their client went.

        Over a new connection: an interruption may have come in the middle of a statement of any other.
        """
        busy = [
            connection.info.backend_pid
            for connection in (self._control, *(session.connection for session in self._connections))
            if connection.info.transaction_status == pq.TransactionStatus.ACTIVE
        ]
        if not busy:
            return
        # Unless the server is gone, and they with it.
        with shielded(), contextlib.suppress(psycopg.Error, DatabaseProblem), connect(self._place.target) as connection:
            connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s::int[]) AS pid", (busy,))

    def _tell(self, text: str) -> None:
        self._notified = True
        self._say(self._public(text))

    def _permutation(self, permutation: Sequence[PermutationStep]) -> None:
        self._say(f"\nstarting permutation: {' '.join(planned.step for planned in permutation)}\n")
        spec = self._spec
        for text in spec.setups:
            self._exec(self._control.pgconn, text, "setup failed")
        for session, connection in zip(spec.sessions, self._connections, strict=True):
            if session.setup is not None:
                self._exec(connection.pgconn, session.setup, f"setup of session {session.name} failed")
        if not self._steps(permutation):
            self._say("invalid permutation detected\n")
            self._break_off()
        for session, connection in zip(spec.sessions, self._connections, strict=True):
            if session.teardown is not None:
                what = f"teardown of session {session.name} failed"
                self._exec(connection.pgconn, session.teardown, what, fatal=False)
        if spec.teardown is not None:
            self._exec(self._control.pgconn, spec.teardown, "teardown failed", fatal=False)

    def _steps(self, permutation: Sequence[PermutationStep]) -> bool:
        """Take the steps; False if the next can never be taken."""
        waiting: list[_Running] = []
        for planned in permutation:
            connection = self._of(planned.step)
            deadline = time.monotonic() + STEP_LIMIT_S
            while connection.active is not None:
                # What its session waits for may be another that waits for a marker, so all are looked at.
                before = len(waiting)
                waiting = self._try_all(waiting, may_wait=True)
                stuck = connection.active is not None and len(waiting) == before and self._is_stuck(connection)
                if stuck and (not self._may_time_out or time.monotonic() > deadline):
                    return False
            running = _Running(planned, self._spec.step(planned.step))
            try:
                connection.pgconn.send_query(running.step.sql.encode())
                send_all(connection.pgconn)
            except psycopg.Error as problem:
                raise DatabaseProblem(
                    f"step {planned.step} cannot be sent: {one_line(str(problem))}; "
                    "did an earlier step end the session?"
                ) from None
            connection.active = running
            running.targets = [
                blocker.notices + self._of(blocker.step).notices if blocker.kind is Kind.NOTICES else 0
                for blocker in planned.blockers
            ]
            must_wait = not self._try(running, again=False, may_wait=True)
            waiting = self._try_all(waiting, may_wait=True)
            if must_wait:
                waiting.append(running)
        deadline = time.monotonic() + STEP_LIMIT_S
        while waiting:
            before = len(waiting)
            waiting = self._try_all(waiting, may_wait=True)
            stuck = len(waiting) == before and all(self._is_stuck(self._of(step.step.name)) for step in waiting)
            if stuck and (not self._may_time_out or time.monotonic() > deadline):
                return False
        return True

    def _of(self, step: str) -> _Connection:
        return self._connections[self._spec.owners[step]]

    def _try_all(self, waiting: Sequence[_Running], *, may_wait: bool) -> list[_Running]:
        """Find the waiting steps that are done, again while that lets others be done; return the rest."""
        left = list(waiting)
        while True:
            self._notified = False
            before = len(left)
            left = [running for running in left if not self._try(running, again=True, may_wait=may_wait)]
            marked = any(running.planned.blockers for running in left)
            if not marked or (len(left) == before and not self._notified):
                return left

    def _try(self, running: _Running, *, again: bool, may_wait: bool) -> bool:
        """Wait until a step is done, or (may_wait) waits for another session; say so, and return whether it is done."""
        connection = self._of(running.step.name)
        pgconn, step = connection.pgconn, running.step
        if not again and any(blocker.kind is Kind.ONCE for blocker in running.planned.blockers):
            self._say(f"step {step.name}: {step.sql} <waiting ...>\n")
            return False
        deadline = time.monotonic() + STEP_LIMIT_S
        while pgconn.is_busy():
            readable, _, _ = select.select([pgconn.socket], [], [], _PATIENCE_S)
            if readable:
                self._consume(pgconn)
                continue
            if may_wait and self._is_blocked(connection):
                self._consume(pgconn)
                if not pgconn.is_busy():
                    break
                if not again:
                    self._say(f"step {step.name}: {step.sql} <waiting ...>\n")
                return False
            if time.monotonic() > deadline:
                raise self._endless(connection)
        if self._held_back(running):
            if not again:
                self._say(f"step {step.name}: {step.sql} <waiting ...>\n")
            return False
        self._say(f"step {step.name}: <... completed>\n" if again else f"step {step.name}: {step.sql}\n")
        while (result := self._next_result(connection, deadline)) is not None:
            self._result(result)
        self._consume(pgconn)
        while (notify := pgconn.notifies()) is not None:
            senders = {other.pid: other.name for other in self._connections}
            sender = senders.get(notify.be_pid, f"PID {notify.be_pid}")
            channel, payload = (part.decode(errors="replace") for part in (notify.relname, notify.extra))
            self._say(f'{connection.name}: NOTIFY "{channel}" with payload "{payload}" from {sender}\n')
            self._consume(pgconn)
        connection.active = None
        return True

    def _next_result(self, connection: _Connection, deadline: float) -> pq.abc.PGresult | None:
        """The next of a step's results; of several statements a later one may have to wait."""
        pgconn = connection.pgconn
        while pgconn.is_busy():
            if select.select([pgconn.socket], [], [], _PATIENCE_S)[0]:
                if _is_closed(pgconn.socket):
                    break  # libpq says so best when it is asked for the result
                self._consume(pgconn)
            elif time.monotonic() > deadline:
                raise self._endless(connection)
        return pgconn.get_result()

    def _endless(self, connection: _Connection) -> DatabaseProblem:
        assert connection.active is not None
        step = connection.active.step
        said = f"step {step.name} ({one_line(step.sql)}) did not end in {STEP_LIMIT_S:g} s"
        return DatabaseProblem(said + self._strangers(connection))

    def _consume(self, pgconn: pq.abc.PGconn) -> None:
        if pgconn.status != pq.ConnStatus.OK:
            return
        with contextlib.suppress(psycopg.OperationalError):  # the results say what happened
            pgconn.consume_input()

    def _held_back(self, running: _Running) -> bool:
        for blocker, target in zip(running.planned.blockers, running.targets, strict=True):
            if blocker.kind is Kind.ONCE:
                continue
            other = self._of(blocker.step)
            if blocker.kind is Kind.NOTICES and other.notices < target:
                return True
            if blocker.kind is Kind.STEP and other.active is not None and other.active.step.name == blocker.step:
                return True
        return False

    def _blockers(self) -> Mapping[int, tuple[int, ...]]:
        pids = [
            session.pid for session in self._connections if session.active is not None and not session.connection.closed
        ]
        try:
            rows = self._control.execute(_BLOCKERS, (pids,), prepare=True).fetchall()
        except psycopg.Error as problem:
            raise DatabaseProblem(
                f"the server does not say which sessions wait (pg_blocking_pids): {one_line(str(problem))}"
            ) from None
        return {int(pid): tuple(blockers) for pid, blockers in rows}

    def _is_blocked(self, connection: _Connection) -> bool:
        """Whether a session waits for another of the spec."""
        ours = {other.pid for other in self._connections}
        return bool(ours & set(self._blockers().get(connection.pid, ())))

    def _is_stuck(self, connection: _Connection) -> bool:
        """Whether a session waits, however indirectly, for one that has no step under way, so that it never goes on."""
        blockers = self._blockers()
        active = {other.pid for other in self._connections if other.active is not None}
        ours = {other.pid for other in self._connections}
        if connection.pgconn.is_busy():
            busy = {other.pid for other in self._connections if other.active is not None and other.pgconn.is_busy()}
            return connection.pid in released(busy, ours, blockers)
        # Its answer is here: a marker holds it back, and what the marker names is not on its way.
        running = connection.active
        assert running is not None
        for blocker in running.planned.blockers:
            other = self._of(blocker.step) if blocker.step else None
            if other is not None and other.active is not None and other is not connection:
                return other.pid in active and self._is_stuck(other)
        return True

    def _strangers(self, connection: _Connection) -> str:
        ours = {other.pid for other in self._connections}
        strangers = [pid for pid in self._blockers().get(connection.pid, ()) if pid not in ours]
        return f": it waits for session {strangers[0]}, which is not of the spec" if strangers else ""

    def _break_off(self) -> None:
        """Cancel what waits and roll back every session, so that none blocks the teardown."""
        for connection in self._connections:
            if connection.active is not None:
                connection.connection.cancel()
                while connection.pgconn.get_result() is not None:
                    pass
                connection.active = None
                # What this lets go on is canceled too: it may hold what the next one waits for.
        for connection in self._connections:
            if connection.pgconn.transaction_status != pq.TransactionStatus.IDLE:
                connection.pgconn.exec_(b"ROLLBACK")

    def _exec(self, pgconn: pq.abc.PGconn, text: str, what: str, *, fatal: bool = True) -> None:
        result = pgconn.exec_(text.encode())
        if result.status == pq.ExecStatus.TUPLES_OK:
            self._say(table(result, self._place.schema))
        elif result.status != pq.ExecStatus.COMMAND_OK:
            message = one_line(pgconn.get_error_message())
            if fatal:
                raise DatabaseProblem(f"{what}: {message}")
            self._say(f"{what}: {message}\n")

    def _public(self, text: str) -> str:
        """A message in which the place's schema is called `public`, for which it stands."""
        return text.replace(self._place.schema, "public") if self._place.schema else text

    def _result(self, result: pq.abc.PGresult) -> None:
        if result.status == pq.ExecStatus.TUPLES_OK:
            self._say(table(result, self._place.schema))
        elif result.status == pq.ExecStatus.FATAL_ERROR:
            severity = result.error_field(pq.DiagnosticField.SEVERITY)
            message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
            if severity and message:
                text = self._public(message.decode(errors="replace"))
                self._say(f"{severity.decode()}:  {text}\n")
            else:
                self._say(f"{(result.error_message or b'').decode(errors='replace')}\n")
        elif result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY):
            self._say(f"unexpected result status: PGRES_{pq.ExecStatus(result.status).name}\n")


def _is_closed(number: int) -> bool:
    """Whether the server has hung up and all that it said was read."""
    with socket.socket(fileno=os.dup(number)) as same:
        return not same.recv(1, socket.MSG_PEEK)


def _has_timeouts(spec: Spec, connection: psycopg.Connection[Any]) -> bool:
    """Whether a step that waits may end by itself: the spec, or the server, says something of a time-out."""
    texts = [*spec.setups, *(text for session in spec.sessions for text in (session.setup, *_steps(session)) if text)]
    settings = connection.execute(
        "SELECT count(*) FROM pg_show_all_settings() WHERE setting <> '0' AND name = ANY(%s)",
        (["statement_timeout", "lock_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"],),
    ).fetchone()
    return any("timeout" in text.lower() for text in texts) or settings != (0,)


def _steps(session: SpecSession) -> list[str]:
    return [step.sql for step in session.steps]


_NUMERIC = frozenset(b"0123456789.Ee -")
_DIGITS = frozenset(b"0123456789")


def table(result: pq.abc.PGresult, schema: str | None = None) -> str:
    """A result as libpq's PQprint aligns it: a column of numbers to the right, widths in bytes.

    The schema is called `public`, for which it stands.
    """
    count = result.nfields
    if not count:
        return ""
    names = [result.fname(column) or b"" for column in range(count)]
    rows = [[result.get_value(row, column) or b"" for column in range(count)] for row in range(result.ntuples)]
    if schema:
        rows = [[value.replace(schema.encode(), b"public") for value in row] for row in rows]
    widths = [max([len(name), *(len(row[column]) for row in rows)]) for column, name in enumerate(names)]
    right = [all(_is_number(row[column]) for row in rows if row[column]) for column in range(count)]

    def line(values: Sequence[bytes]) -> bytes:
        return b"|".join(
            value.rjust(width) if numeric else value.ljust(width)
            for value, width, numeric in zip(values, widths, right, strict=True)
        )

    border = b"+".join(b"-" * width for width in widths)
    lines = [line(names), border, *map(line, rows), b"(%d row%s)" % (len(rows), b"" if len(rows) == 1 else b"s"), b""]
    return b"\n".join(lines).decode(errors="replace") + "\n"


def _is_number(value: bytes) -> bool:
    return set(value) <= _NUMERIC and value[-1] in _DIGITS and value[0] not in b"Ee"
