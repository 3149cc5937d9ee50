"""A session that runs a Python callable: its steps are the round trips that the application's code makes.

The code runs in a thread of its own, which stops at every gate (gates.py); what it was about to send is sent by the
thread that schedules, so that waiting is seen as it is with a script's session. A statement that the connection would
commit by itself is sent as BEGIN, statement, COMMIT: two steps, the last of them the COMMIT.
"""

from __future__ import annotations

import re
import select
import weakref
from collections.abc import Callable, Generator, Hashable
from typing import Any

import psycopg
from psycopg import pq, sql

from racebench.core.errors import UsageProblem, one_line
from racebench.core.model import Call, Outcome, Statement
from racebench.exploration import inspection
from racebench.exploration.actors import State, Stepping, Steps, describe
from racebench.exploration.independence import Footprint, calls, footprint
from racebench.exploration.sessions.interception import Interception
from racebench.exploration.sessions.threads import Finished, RoundTrip
from racebench.postgres.compiler.transactions import begins, ends
from racebench.workloads.callables import left_open, signature

_READ, _WRITE = 1, 2
#: What may differ from one run to the next: values, and names of savepoints (Django numbers them from the first on).
_LITERAL = re.compile(r"'(?:[^']|'')*'|(?i:(?<=savepoint )(?!to\b).+)|\b\d+\b")
_LONGEST = 200
_PLAIN_LEVELS = ("read committed", "repeatable read", "read uncommitted")
#: What only runs outside a transaction, or is none of a transaction's business.
_SPLIT = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "SELECT", "WITH", "VALUES"})
_STARTED = "(SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid())"

#: What follows a refused statement without making up for it.
_CLEANING = frozenset({"ROLLBACK", "RELEASE", ""})


class Surroundings:
    """What the callers of an exploration share: where racebench's tables are, and what is known of the server.

    `always` are names that any statement counts as naming. `begin_is_seen`: somebody asks when a transaction began.
    """

    def __init__(
        self, monitor: psycopg.Connection[Any], schema: str, label: str, always: frozenset[str] = frozenset()
    ) -> None:
        self._monitor, self._schema, self._label, self._always = monitor, schema, label, always
        self.begin_is_seen = False
        self._levels: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._volatile: dict[str, bool] = {}
        self._settings: weakref.WeakKeyDictionary[Any, dict[str, str]] = weakref.WeakKeyDictionary()

    def level(self, call: Call, connection: psycopg.Connection[Any]) -> str:
        """The default isolation level of a connection; raises UsageProblem if its tables are not racebench's."""
        # Of a backend: it stays what it is, whichever connection has it.
        if connection.pgconn not in self._levels:
            # Of a server that goes by the monitor's own name the pid is enough; more takes new sessions long to answer.
            started = "NULL" if _place(connection) == _place(self._monitor) else _STARTED
            query = "SELECT pg_backend_pid(), current_schema(), current_setting('default_transaction_isolation'), "
            row = _ask(connection, query + started)
            if row is None:
                return ""
            pid, schema, level, begun = row
            known = self._monitor.execute(
                "SELECT backend_start::text FROM pg_stat_get_activity(%s)"
                " WHERE datid = (SELECT oid FROM pg_database WHERE datname = current_database())",
                (int(pid or 0),),
                prepare=True,
            ).fetchone()
            if known is None or begun not in (None, known[0]):
                raise UsageProblem(
                    f"{call} connects to another database than {self._label}; have it connect to the one in "
                    "RACEBENCH_DSN (or DATABASE_URL), or name its own with --dsn"
                )
            if schema != self._schema:
                raise UsageProblem(
                    f"{call} works in schema '{schema}', racebench's tables are in '{self._schema}'; have it connect "
                    "to RACEBENCH_DSN (or DATABASE_URL) as it is: its search_path says where"
                )
            self._levels[connection.pgconn] = level or ""
        return self._levels[connection.pgconn]

    def configure(self, connection: psycopg.Connection[Any], settings: dict[str, str]) -> None:
        """Change settings of an idle connection that have not been changed yet."""
        done = self._settings.setdefault(connection, {})
        if new := {name: value for name, value in settings.items() if done.get(name) != value}:
            done.update(new)
            commands = (
                sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in new.items()
            )
            connection.pgconn.exec_(sql.SQL("; ").join(commands).as_bytes(connection))

    def volatile(self, names: set[str]) -> set[str]:
        """Of functions, those that may do anything."""
        if new := names - self._volatile.keys():
            found = inspection.volatile(self._monitor, new)
            self._volatile |= {name: name in found for name in new}
        return {name for name in names if self._volatile[name]} | self._always


class Caller(Stepping):
    """A session of a strategy that is Python: runs its call once."""

    tries = 1

    def __init__(
        self,
        number: int,
        call: Call,
        interception: Interception,
        surroundings: Surroundings,
        connect: Callable[[], Any],
    ) -> None:
        super().__init__()
        self.number = number
        self.name = f"s{number}"
        self.call = call
        self.operation = 0
        self.deadlocks = 0
        self.sqlstate = ""
        #: Errors that the calls raise also when they run one after the other: the application's own affair.
        self.alone: set[str] = set()
        self.answers: list[str] = []
        #: The error of the last statement, if the call returned all the same; "" if it did not.
        self.swallowed = ""
        self.touches = Footprint.ANYTHING
        self._interception = interception
        self._thread = interception.thread(self.name)
        self._surroundings = surroundings
        self._settings: dict[str, str] = {}
        self._given: psycopg.Connection[Any] | None = connect() if call.takes_connection else None
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None
        self._used: list[psycopg.Connection[Any]] = []
        self._suspect = False
        #: Connections in whose transaction there was a savepoint.
        self._nested: weakref.WeakSet[psycopg.Connection[Any]] = weakref.WeakSet()

    @property
    def pid(self) -> int:
        if self._connection is None or self._connection.closed:
            return 0
        return self._connection.pgconn.backend_pid

    @property
    def pids(self) -> frozenset[int]:
        return frozenset(each.pgconn.backend_pid for each in self._used if not each.closed)

    @property
    def socket(self) -> int:
        if self._connection is None or self._connection.closed:
            return -1
        return self._connection.pgconn.socket

    @property
    def outcome(self) -> Outcome:
        outcome: Outcome = self.result
        return outcome

    @property
    def refused(self) -> bool:
        """Whether the call failed as it does not when it runs alone."""
        return self.outcome is Outcome.FAIL and self.sqlstate not in self.alone

    @property
    def like(self) -> str:
        return str(self.call)

    @property
    def texts(self) -> set[str]:
        """What was sent when it ran alone."""
        return self._thread.texts

    @property
    def memory(self) -> Hashable:
        return tuple(self.answers)

    @property
    def sends(self) -> tuple[Statement, ...]:
        """The next step without the values in it."""
        return (_statement(_LITERAL.sub("?", describe(self.gate))[:_LONGEST]),)

    def configure(self, name: str, value: str) -> None:
        """Change a setting of whatever connection the session uses, before its next transaction."""
        self._settings[name] = value

    def run_alone(self) -> str:
        """Run the call to its end, past all gates; return the error it ended with, "" for none."""
        self._thread.free = True
        try:
            self._begin_call()
            while not isinstance(met := self._thread.next(), Finished):
                self._thread.answer(error=UsageProblem("a gate was met where there is none"))
        finally:
            self._thread.free = False
        self._end(met)
        if not self._thread.passed and not self.sqlstate:
            raise UsageProblem(_unseen(self.call))
        return self.sqlstate

    def start(self, tenant: int, run: int) -> None:  # noqa: ARG002 - the application knows no tenants of ours
        self.operation = (self.number << 32) + run
        self.deadlocks, self.sqlstate, self.swallowed = 0, "", ""
        self.answers.clear()
        self.begin(self._operation())

    def _begin_call(self) -> None:
        function = self.call.function
        self._thread.passed = 0
        assert function is not None  # loaded
        self._used = []
        if self._given is not None and self._given.closed:
            self._given = self._connect()
        given = self._given
        if given is not None:
            self._used.append(given)
        self._thread.call(function if given is None else lambda: function(given))

    def _operation(self) -> Steps:
        self._begin_call()
        while isinstance(request := self._thread.next(), RoundTrip):
            connection = request.connection
            if connection not in self._used:
                self._used.append(connection)
            self._connection, self.where = connection, request.where
            status = connection.pgconn.transaction_status
            if status == pq.TransactionStatus.IDLE:
                level = self._surroundings.level(self.call, connection)
                self._surroundings.configure(connection, self._settings)
            else:
                level = ""
            statement = _statement(request.text)
            self.touches = self._footprint(statement, connection, level)
            alone = (
                connection.autocommit
                and status == pq.TransactionStatus.IDLE
                and connection.pgconn.pipeline_status == pq.PipelineStatus.OFF
                and statement.keyword in _SPLIT
                and self.touches not in (Footprint.READ, Footprint.SERIALIZABLE_READ)
            )
            value: Any = None
            error: BaseException | None = None
            try:
                if self._surroundings.begin_is_seen and _begins_unasked(connection, statement, status):
                    touches, self.touches = self.touches, Footprint.WRITE
                    yield (_statement("BEGIN"),)
                    connection.pgconn.exec_(connection._get_tx_start_command())
                    self.touches = touches
                if request.text:
                    yield (statement,)
                if alone:
                    connection.pgconn.exec_(b"BEGIN")
                value = yield from _carried_out(request)
                self._note(request)
                if statement.keyword not in _CLEANING:
                    self.swallowed = ""
                if alone:
                    self.touches = Footprint.ANYTHING
                    yield (_statement("COMMIT"),)
                    yield from _committed(connection)
            except Exception as problem:  # noqa: BLE001 - psycopg's, and the application's to handle
                error = problem
                if alone and not connection.closed:
                    connection.pgconn.exec_(b"ROLLBACK")
                state = str(getattr(problem, "sqlstate", "") or "")
                self.deadlocks += state == "40P01"
                self.swallowed = state
                self.answers.append(f"ERROR {state or type(problem).__name__}: {one_line(str(problem))}")
            self._thread.answer(value, error)
        self._end(request)
        self.swallowed = self.swallowed if not self.sqlstate else ""
        return Outcome.FAIL if self.sqlstate else Outcome.OK

    def _footprint(self, statement: Statement, connection: psycopg.Connection[Any], level: str) -> Footprint:
        if level:
            self._nested.discard(connection)  # a transaction begins here
        if "savepoint" in statement.sql.lower():
            self._nested.add(connection)
        if "serializable" in statement.sql.lower() or "set_config" in statement.sql.lower():
            self._suspect = True
        if level and level not in _PLAIN_LEVELS:
            self._suspect = True
        plain = not self._suspect and connection.isolation_level != psycopg.IsolationLevel.SERIALIZABLE
        aborted = connection.pgconn.transaction_status == pq.TransactionStatus.INERROR
        if aborted and ends(statement) and plain and connection not in self._nested:
            return Footprint.NOTHING  # the server let go of everything at the error, unless there was a savepoint
        if begins(statement) and self._surroundings.begin_is_seen:
            return Footprint.WRITE  # it says what now() is
        volatile = self._surroundings.volatile(calls(statement))
        return footprint([statement], isolation=None if plain else "serializable", volatile=volatile)

    def _note(self, request: RoundTrip) -> None:
        """Say what the server answered."""
        result = getattr(request.cursor, "pgresult", None)
        if result is None or not request.text:
            self.answers.append(request.text or "…")
        elif result.nfields and result.ntuples:
            names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
            values = [result.get_value(result.ntuples - 1, column) for column in range(result.nfields)]
            shown = ("NULL" if value is None else _legible(value) for value in values)
            pairs = ", ".join(f"{name} = {value}" for name, value in zip(names, shown, strict=True))
            self.answers.append(pairs + (f" ({result.ntuples} rows)" if result.ntuples > 1 else ""))
        else:
            self.answers.append((result.command_status or b"").decode())

    def _end(self, met: Finished) -> None:
        """See how a call ended, and that it left nothing open. Raises UsageProblem for what no application may do."""
        error = met.error
        open_ = [
            each
            for each in self._used
            if not each.closed and each.pgconn.transaction_status != pq.TransactionStatus.IDLE
        ]
        for each in open_:
            each.pgconn.exec_(b"ROLLBACK")
        self.sqlstate = "" if error is None else signature(error)
        if strange := self._interception.unscheduled():
            raise UsageProblem(
                f"{self.call}: {strange} sends statements from a thread that racebench cannot schedule; "
                "have the call send them in the thread that calls it"
            )
        if isinstance(error, UsageProblem):
            raise error
        if isinstance(error, SystemExit):
            raise UsageProblem(f"{self.call} called sys.exit({error.code}); a call must return, or raise an exception")
        if isinstance(error, KeyboardInterrupt):
            raise UsageProblem(f"{self.call} raised KeyboardInterrupt; a call must return, or raise an exception")
        if error is not None and self.sqlstate:
            said = f"raises {type(error).__name__}: {one_line(str(error))}"
            if not self.answers or not self.answers[-1].startswith("ERROR"):
                self.answers.append(said)
        if open_ and error is None:
            raise UsageProblem(left_open(self.call))

    def abandon(self) -> None:
        if self.state is State.READY and self._steps is not None:
            self._steps.close()
            self._thread.abandon()
            for each in self._used:
                if not each.closed and each.pgconn.transaction_status != pq.TransactionStatus.IDLE:
                    each.pgconn.exec_(b"ROLLBACK")
        self.state = State.DONE

    def close(self) -> None:
        for each in self._used:
            if not each.closed and each.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                each.pgconn.get_cancel().cancel()  # its backend would not see that its client went away while it waits
        self._thread.close()
        for each in self._used:
            if not each.closed and each.pgconn.transaction_status != pq.TransactionStatus.IDLE:
                each.close()  # in the middle of something, and nobody is left to end it
        if self._given is not None:
            self._given.close()


_OTHER_DRIVERS = ("psycopg2", "asyncpg", "pg8000", "aiopg", "py_postgresql")


def _unseen(call: Call) -> str:
    import sys

    others = [name for name in _OTHER_DRIVERS if name in sys.modules]
    why = f"it may use {' or '.join(others)}" if others else "does it reach the database at all?"
    return (
        f"{call} made no round trip that racebench sees: only synchronous psycopg 3 (also under SQLAlchemy and Django) "
        f"can be scheduled; {why}"
    )


def _begins_unasked(connection: psycopg.Connection[Any], statement: Statement, status: int) -> bool:
    """Whether psycopg sends a BEGIN of its own before a statement."""
    return (
        bool(statement.text)
        and not connection.autocommit
        and status == pq.TransactionStatus.IDLE
        and connection.pgconn.pipeline_status == pq.PipelineStatus.OFF
        and not begins(statement)
        and not ends(statement)
    )


def _statement(text: str) -> Statement:
    return Statement(line=0, text=text, sql=text, parameters=(), fragments=(text,))


def _carried_out(request: RoundTrip) -> Generator[None, None, Any]:
    """Drive psycopg's own generator, yielding where it waits for an answer."""
    return (yield from _driven(request.work, request.connection))


def _committed(connection: psycopg.Connection[Any]) -> Generator[None, None, None]:
    from psycopg.generators import execute

    connection.pgconn.send_query(b"COMMIT")
    results = yield from _driven(execute(connection.pgconn), connection)
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)


def _driven(work: Generator[Any, Any, Any], connection: psycopg.Connection[Any]) -> Generator[None, None, Any]:
    """As psycopg's own waiting does, but for the waiting. Source: psycopg.waiting.wait_select."""
    try:
        wanted = next(work)
        while True:
            socket = connection.pgconn.socket
            readable, writable, _ = select.select(
                [socket] if wanted & _READ else [], [socket] if wanted & _WRITE else [], [], 0
            )
            if readable or writable:
                wanted = work.send(_READ * bool(readable) | _WRITE * bool(writable))
            elif wanted & _WRITE:
                select.select([], [socket], [], 1.0)
            else:
                yield None
    except StopIteration as done:
        return done.value


def _place(connection: psycopg.Connection[Any]) -> tuple[bytes, ...]:
    """What the client calls the server and the database that it is connected to."""
    pgconn = connection.pgconn
    return pgconn.host, pgconn.hostaddr if pgconn.host else b"", pgconn.port, pgconn.db


def _ask(connection: psycopg.Connection[Any], query: str) -> tuple[str | None, ...] | None:
    """One row, asked beside psycopg: nothing of it is a step, or opens a transaction."""
    result = connection.pgconn.exec_(query.encode())
    if result.status != pq.ExecStatus.TUPLES_OK:
        return None
    values = (result.get_value(0, column) for column in range(result.nfields))
    return tuple(None if value is None else value.decode(errors="replace") for value in values)


def _legible(value: bytes) -> str:
    text = value.decode(errors="replace")
    return text if text.isprintable() else f"{len(value)} bytes"
