"""The connections that an application makes: what racebench sends on them besides the application's statements.

All of it is sent over libpq, past psycopg. `carry_out` and `commit` yield to wait for the answer: they are parts of
steps. The rest is no step, and waits itself.
"""

from __future__ import annotations

import contextlib
import re
import select
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence, Set
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import pq, sql
from psycopg.generators import execute

from racebench.core.errors import UsageProblem
from racebench.exploration import inspection
from racebench.exploration.draws import Draws, in_sql, server_seed
from racebench.exploration.hidden_effects import Objects, bodies, does_more_than_write
from racebench.exploration.independence import may_be_serializable, names_in
from racebench.exploration.inner_statements import with_several_statements
from racebench.exploration.known import Names
from racebench.exploration.leftovers import Leftover, custom_settings, leaves
from racebench.exploration.sessions.round_trips import AnyConnection, Explored
from racebench.exploration.sessions.unseen import Unseen
from racebench.exploration.symmetry import tells_apart

_READ, _WRITE = 1, 2
#: How long a cancellation, and then the end of the statement, is awaited, in seconds.
_CANCEL_S = 2.0
#: Stands for code that could not be read: it may do anything.
_NOT_KNOWN = "EXECUTE"
#: What may stay in a backend beyond DISCARD ALL: settings of the code's own, and what code in another language keeps.
_KEPT_BY_BACKENDS = frozenset({Leftover.SETTINGS, Leftover.HIDDEN})
_STAYS = re.compile(r"\b(?:setseed|load)\b", re.IGNORECASE)
_STARTED = "(SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid())"


class Connections:
    """What is known of the connections of one search, and of the functions that their statements name.

    `always` are names that any statement counts as naming. `told_apart`: a statement or the application may ask
    which session it is. `serializable`: a statement may begin a serializable transaction. `draws`: what the server was
    asked to draw. `functions`: those that statements run, and that run several statements themselves.
    `settings_before`: of connections on which a statement may change settings, those before it; `own_settings`: the
    names of settings that the code itself has made. `known`: what searches before have learned of names.
    """

    def __init__(
        self,
        monitor: psycopg.Connection[Any],
        schema: str,
        label: str,
        always: frozenset[str] = frozenset(),
        known: Names | None = None,
    ) -> None:
        self._monitor, self._schema, self._label, self._always = monitor, schema, label, always
        self._levels: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._settings: weakref.WeakKeyDictionary[Any, dict[str, str]] = weakref.WeakKeyDictionary()
        self._known = known or Names()
        self.told_apart = self.serializable = False
        self.draws = Draws()
        self.functions: set[str] = set()
        self._seeded: weakref.WeakKeyDictionary[Any, tuple[int, int, int]] = weakref.WeakKeyDictionary()
        self._read: set[str] = set()
        self._named: set[str] = set()
        self.settings_before: weakref.WeakKeyDictionary[Explored, dict[str, str]]
        self.settings_before = weakref.WeakKeyDictionary()
        self.own_settings: set[str] = set()
        self._leaves: dict[str, frozenset[Leftover]] = {}
        #: Whether a statement may have left something in its session that DISCARD ALL does not remove.
        self._stays = False

    def level(self, call: object, connection: Explored) -> str:
        """The default isolation level of a connection; raises UsageProblem if its tables are not racebench's."""
        # Kept by backend: it stays the same, whichever connection has the backend.
        if connection.pgconn not in self._levels:
            # If both connect to the same place the pid is enough; to ask more takes a new session long.
            started = "NULL" if _place(connection) == _place(self._monitor) else _STARTED
            query = "SELECT pg_backend_pid(), current_schema(), current_setting('default_transaction_isolation'), "
            row = _ask(connection, query + started)
            if row is None:
                return ""
            pid, schema, level, begun = row
            backend = self._monitor.execute(
                "SELECT backend_start::text FROM pg_stat_get_activity(%s)"
                " WHERE datid = (SELECT oid FROM pg_database WHERE datname = current_database())",
                (int(pid or 0),),
                prepare=True,
            ).fetchone()
            if backend is None or begun not in (None, backend[0]):
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

    def configure(self, connection: Explored, settings: dict[str, str]) -> None:
        """Change those settings of an idle connection that have not been changed yet."""
        done = self._settings.setdefault(connection, {})
        if new := {name: value for name, value in settings.items() if done.get(name) != value}:
            done.update(new)
            connection.pgconn.exec_(_setting(*new.items()))

    def seed(self, connection: Explored, schedule: tuple[int, int, int]) -> None:
        """Seed the server's random() on an idle connection, once a schedule: its number, draw and session."""
        if self.draws.server and self._seeded.get(connection) != schedule:
            self._seeded[connection] = schedule
            connection.pgconn.exec_(server_seed(*schedule[1:]))

    def unseen(self) -> Unseen:
        """Begin to watch for what a call sends past psycopg 3."""
        return Unseen(self._monitor, self._label)

    def learn(self, texts: Set[str]) -> None:
        """Ask for everything that statements name at once, as far as that is not known. No session holds a lock."""
        names = frozenset[str]().union(*map(names_in, texts)) - self._known.volatile.keys()
        if not names:
            return
        self.volatile(names)
        with contextlib.suppress(psycopg.errors.LockNotAvailable), self._impatient():
            if not (left := leaves("", bodies(self._monitor, names), schema=self._schema)):
                self._known.left |= dict.fromkeys(names, left)
            several = with_several_statements(self._monitor, names)
            code = tuple(inspection.sources(self._monitor, self._schema, texts))
            # Otherwise the texts differ in what they run, and are asked for one by one.
            if not several and code == tuple(inspection.sources(self._monitor, self._schema, ())):
                self._known.indirect |= dict.fromkeys(texts, (several, code))
        for text in texts:
            self.leaves(text)
        self.writes_more(names)

    def volatile(self, names: Set[str]) -> set[str]:
        """Of names, those of what may do anything."""
        known = self._known.volatile
        if new := names - known.keys():
            volatile = inspection.volatile(self._monitor, set(new))
            known |= {name: name in volatile for name in new}
        return {name for name in names if known[name]} | self._always

    def forget_settings(self, connection: Explored) -> None:
        """Change the settings of a connection again before its next use: they were reset."""
        self._settings.pop(connection, None)

    def leaves(self, text: str) -> frozenset[Leftover]:
        """What a statement may leave behind, by its text and by the code that it runs indirectly."""
        if (known := self._leaves.get(text)) is None:
            names = names_in(text)
            self._note_code(names - self._known.left.keys())
            left = [self._known.left[name] for name in names]
            known = self._leaves[text] = leaves(text, schema=self._schema).union(*left)
        return known

    @property
    def leave_nothing(self) -> bool:
        """Whether DISCARD ALL removes everything that the statements so far may have left in a session.

        It removes neither a setting of the code's own, which is empty afterwards and was unknown before, nor the state
        of random() or of code in another language.
        """
        left = frozenset[Leftover]().union(*self._leaves.values())
        return left.isdisjoint(_KEPT_BY_BACKENDS) and not self._stays and not self.draws.server

    @property
    def may_change_names(self) -> bool:
        """Whether a statement so far may have changed, if only for a while, what a name stands for."""
        return any(self._leaves.values())

    def _note_code(self, names: Set[str]) -> None:
        """Find what the code may leave behind that each of these names leads to."""
        together = self._left_by_code(names)
        # What one of them leaves is found name by name: most statements leave nothing.
        self._known.left |= {name: self._left_by_code({name}) if together else together for name in names}

    def _left_by_code(self, names: Set[str]) -> frozenset[Leftover]:
        if not names:
            return frozenset()
        try:
            with self._impatient():
                return leaves("", bodies(self._monitor, names), schema=self._schema)
        except psycopg.errors.LockNotAvailable:
            return frozenset({Leftover.HIDDEN})

    def read(self, text: str) -> None:
        """Note whether a statement, or what it runs indirectly, may ask which session it is, or draws at random."""
        if text in self._read:
            return
        self._read.add(text)
        new = names_in(text) - self._named
        self._named |= new
        texts = [text, *(self._indirect(text) if new else ())]
        self.told_apart |= tells_apart(texts)
        self.serializable |= any(map(may_be_serializable, texts))
        self.draws.add(in_sql(texts))
        self._stays |= bool(custom_settings(texts)) or any(map(_STAYS.search, texts))

    def _indirect(self, text: str) -> Sequence[str]:
        known = self._known.indirect
        if text not in known:
            try:
                with self._impatient():
                    functions = with_several_statements(self._monitor, names_in(text))
                    known[text] = functions, tuple(inspection.sources(self._monitor, self._schema, [text]))
            except psycopg.errors.LockNotAvailable:
                return [_NOT_KNOWN]
        functions, code = known[text]
        self.functions |= functions
        return code

    @contextlib.contextmanager
    def _impatient(self) -> Iterator[None]:
        """Showing a view locks what it reads, which a session may hold locked in the middle of a schedule."""
        with self._monitor.transaction():
            self._monitor.execute("SET LOCAL lock_timeout = '100ms'")
            yield

    def writes_more(self, names: Set[str]) -> bool:
        """Whether a write with these names may do more than write; True while a session locks what would say so."""
        known = self._known.writes_more
        if new := names - known.keys():
            try:
                with self._impatient():
                    objects = None if self.may_change_names else self._known.objects
                    more = does_more_than_write(objects or Objects(self._monitor), new)
            except psycopg.errors.LockNotAvailable:
                return True
            known |= {name: name in more for name in new}
        return any(known[name] for name in names)


@lru_cache(maxsize=16)
def _setting(*settings: tuple[str, str]) -> bytes:
    commands = (sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in settings)
    return sql.SQL("; ").join(commands).as_bytes(None)


def is_open(connection: AnyConnection) -> bool:
    """Whether a connection is in a transaction, or in the middle of a statement."""
    return not connection.closed and connection.pgconn.transaction_status != pq.TransactionStatus.IDLE


def cancel(connection: AnyConnection) -> bool:
    """Cancel the statement of a connection, so that its transaction can be rolled back; False if it does not end."""
    with contextlib.suppress(psycopg.Error):  # it is lost, or the server does not answer
        if isinstance(connection, psycopg.Connection):
            connection.cancel_safe(timeout=_CANCEL_S)
        else:
            connection.cancel()  # its cancel_safe needs an event loop
        deadline = time.monotonic() + _CANCEL_S
        while time.monotonic() < deadline:
            if connection.pgconn.is_busy():
                if select.select([connection.pgconn.socket], [], [], 0.1)[0]:
                    connection.pgconn.consume_input()
            elif connection.pgconn.get_result() is None:
                return True
    return False


def commit(connection: AnyConnection, unread: Callable[[], bool]) -> Generator[None, None, None]:
    """Commit past psycopg, yielding to wait for the answer; raises the error of a refusal. `unread`: as `carry_out`."""
    connection.pgconn.send_query(b"COMMIT")
    results = yield from carry_out(execute(connection.pgconn), connection, unread)
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)


def carry_out(
    work: Generator[Any, Any, Any], connection: AnyConnection, unread: Callable[[], bool]
) -> Generator[None, None, Any]:
    """Drive one of psycopg's generators as psycopg does, but yield to wait. Source: psycopg.waiting.wait_select.

    `unread`: whether it is not to read what has arrived, since the answer is to be lost.
    """
    try:
        wanted = next(work)
        while True:
            socket = connection.pgconn.socket
            readable, writable, _ = select.select(
                [socket] if wanted & _READ and not unread() else [], [socket] if wanted & _WRITE else [], [], 0
            )
            if readable or writable:
                wanted = work.send(_READ * bool(readable) | _WRITE * bool(writable))
            elif wanted & _WRITE:
                select.select([], [socket], [], 1.0)
            else:
                yield None
    except StopIteration as done:
        return done.value


def _place(connection: Explored) -> tuple[bytes, ...]:
    """What the client calls the server and the database that it is connected to."""
    pgconn = connection.pgconn
    return pgconn.host, pgconn.hostaddr if pgconn.host else b"", pgconn.port, pgconn.db


def _ask(connection: Explored, query: str) -> tuple[str | None, ...] | None:
    """One row as text; None if the server refuses."""
    result = connection.pgconn.exec_(query.encode())
    if result.status != pq.ExecStatus.TUPLES_OK:
        return None
    values = (result.get_value(0, column) for column in range(result.nfields))
    return tuple(None if value is None else value.decode(errors="replace") for value in values)
