"""The two ways in which a compiled script talks to its server: what its program calls for each round trip.

Over the socket: psycopg has connected, authenticated and prepared; from then on racebench writes and reads the messages
(wire.py), at a fifth of a general client's cost. Over libpq (`psycopg.pq`): where TLS or GSSAPI encrypts the socket.
The program itself is the compiler's; both ways end in the same `conclude`.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg import pq

from racebench.core import model
from racebench.core.errors import ConnectionLost, ScenarioProblem
from racebench.core.faults import CONNECTION_LOST, of_lost_connection
from racebench.core.libpq import send_all
from racebench.core.model import Statement
from racebench.core.plain_text import one_line
from racebench.postgres import wire
from racebench.postgres.compiler.program import RoundTrip, Stopped, Transport
from racebench.postgres.compiler.transactions import is_commit
from racebench.postgres.connection import ACCEPTED
from racebench.postgres.extension import Course, extension
from racebench.postgres.prepared import Prepared

Variables = dict[str, bytes | None]

_NUMBER = re.compile(rb"-?\d+(\.\d*)?([eE][-+]?\d+)?")
_SIZE = 16_384
_LONGEST_LEARNT = 4_096
_ENDING = (b"FATAL", b"PANIC")
_STATUS = {pq.TransactionStatus.IDLE: b"I", pq.TransactionStatus.INTRANS: b"T", pq.TransactionStatus.INERROR: b"E"}


class Line(Protocol):
    """A connection as a program sees it."""

    @property
    def transport(self) -> Transport:
        """How it reaches the server."""

    @property
    def has_courses(self) -> bool:
        """Whether the extension can use it (racebench.postgres.extension)."""

    def course(self, trips: Sequence[RoundTrip], begun: bytes, committed: bytes) -> Course:
        """Make a course of round trips, with the records of an operation that has begun, and of a committed one."""

    def provide(self, trips: Sequence[RoundTrip], course: Course | None = None, /) -> Mapping[str, Any]:
        """What a program calls for its round trips, by the names in its source (compiler.program).

        `course` is told what the usual answers are.
        """

    def lost(self, why: OSError) -> Stopped:
        """Classify the end of a connection that was lost, with the server's last message if there is one."""

    def switch(self, pgconn: pq.abc.PGconn) -> None:
        """Go on over another connection; only a line that was made to switch can."""

    def close(self) -> None:
        """Release what the line itself opened; its session closes the connection."""


def takes_socket(connection: psycopg.Connection[Any]) -> bool:
    """Whether it is known that nothing (TLS, GSSAPI) encrypts the socket's bytes; raises ConnectionLost."""
    pgconn = connection.pgconn
    if pgconn.ssl_in_use or not hasattr(os, "set_blocking"):
        return False
    if pgconn.host.startswith(b"/") or (b"gssencmode", b"disable") in [(one.keyword, one.val) for one in pgconn.info]:
        return True
    try:
        row = connection.execute("SELECT encrypted FROM pg_stat_gssapi WHERE pid = pg_backend_pid()").fetchone()
    except psycopg.Error as problem:
        if pgconn.status != pq.ConnStatus.OK:
            raise ConnectionLost(f"the connection was lost when asked about GSSAPI: {one_line(str(problem))}") from None
        return False  # the role may not read it
    return row is not None and not row[0]


#: Shown each answer: the statements, what they return, and the reply.
See = Callable[[Sequence[Statement], Sequence[Prepared], wire.Reply], None]


def line_of(
    connection: psycopg.Connection[Any],
    path: Path,
    protocol: model.Protocol,
    prepared: Mapping[Statement, Prepared],
    see: See | None = None,
    *,
    every_row: bool = False,
    switches: bool = False,
) -> Line:
    """The socket if it can be taken, else libpq. With `see`, each answer is taken apart and shown to it.

    `every_row`: with all its rows, not only the last. `switches`: it may go on over another connection.
    """
    facts = _Facts(
        pgconn=connection.pgconn, path=path, protocol=protocol, prepared=prepared, see=see, every_row=every_row
    )
    if not takes_socket(connection):
        return _LibpqLine(facts)
    return _SwitchedLine(facts) if switches else _SocketLine(facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """The connection and the script, for both ways."""

    pgconn: pq.abc.PGconn
    path: Path
    protocol: model.Protocol
    prepared: Mapping[Statement, Prepared]
    see: See | None
    every_row: bool


class _Exchange:
    """What both ways share: the statements of a round trip, and what follows from the answer."""

    def __init__(self, trip: RoundTrip, facts: _Facts) -> None:
        self.trip = trip
        self.statements = trip.statements
        self.prepared = [facts.prepared[statement] for statement in trip.statements]
        self.path = facts.path
        self.see = facts.see
        self.every_row = facts.every_row

    def conclude(self, reply: wire.Reply, variables: Variables) -> bool:
        """Set variables from a whole reply and return whether a transaction is open; raises Stopped if refused."""
        if not reply.status:
            raise _lost(reply)
        if reply.sqlstate:
            raise Stopped(reply.sqlstate, reply.message, status=reply.status)
        if self.see is not None:
            self.see(self.statements, self.prepared, reply)
        for statement, prepared, result in zip(self.statements, self.prepared, reply.results, strict=True):
            if result.tag == b"ROLLBACK" and is_commit(statement):  # an aborted transaction "commits" so
                raise Stopped("25P02", "the transaction was aborted before COMMIT", status=reply.status)
            prefix = statement.prefix
            if prefix is None:
                continue
            if statement.gset is not None and result.rows != 1:
                raise ScenarioProblem(
                    f"{self.path}:{statement.line}: \\gset needs exactly one row, the statement returned {result.rows}"
                )
            for name, value in zip(prepared.columns, result.last, strict=False):
                variables[prefix + name] = value
        return reply.status == b"T"


class _SocketExchange(_Exchange):
    """`reply` is the last whole answer that set no variables; `shape` is what one that set one looked like."""

    def __init__(self, trip: RoundTrip, facts: _Facts) -> None:
        super().__init__(trip, facts)
        self.reply = b"nothing yet"
        self.shape = wire.Shape()
        self._variable, self._recognizable, self._leaves_open = trip.variable, trip.recognizable, trip.leaves_open
        self._storing = next((at for at, one in enumerate(trip.statements) if one.prefix is not None), 0)
        self._assembler = wire.Assembler()
        self.course: Course | None = None

    def fetch(self, data: bytes | OSError) -> bool:
        """Take what was received; True once the answer is whole. Raises Stopped at the connection's end.

        An error is what a course has received in its place, and is raised.
        """
        if isinstance(data, OSError):
            raise data
        if not data:
            raise gone(self._assembler.take())
        return self._assembler.feed(data)

    def settle(self, variables: Variables, opened: bool) -> bool:
        """Take the answer apart, remember what it looks like, and return whether a transaction is open."""
        data = self._assembler.take()
        reply = wire.parse(data, every_row=self.every_row)
        now = self.conclude(reply, variables)
        expected = opened if self._leaves_open is None else self._leaves_open
        if self._recognizable and reply.plain and now == expected and len(data) <= _LONGEST_LEARNT:
            if self._variable is None:
                self.reply = data
                if self.course is not None:
                    self.course.learn(self.trip.number, data)
            elif (stored := reply.results[self._storing]).rows == 1:
                begin, end = stored.place
                self.shape.learn(data, stored.place)
                if self.course is not None:
                    self.course.learn(self.trip.number, data[:begin], data[end:])
        return now


def gone(data: bytes) -> Stopped:
    """The connection ended; the server's last message, if there was one, is in `data`."""
    return _lost(wire.parse(data))


def _lost(reply: wire.Reply) -> Stopped:
    """The end of a connection in the middle of a reply. A refusal in it is not why the connection ended."""
    message = reply.message if reply.fatal else ""
    sqlstate = of_lost_connection(reply.sqlstate, fatal=reply.fatal)
    return Stopped(sqlstate, message or "the server closed the connection", lost=True)


class _SocketLine:
    """Writes and reads the socket that libpq opened; libpq only closes it."""

    transport = Transport.SOCKET

    def __init__(self, facts: _Facts) -> None:
        self._facts = facts
        self._socket = _socket_of(facts.pgconn)

    def switch(self, pgconn: pq.abc.PGconn) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._socket.close()

    def lost(self, why: OSError) -> Stopped:
        words = b""
        with contextlib.suppress(OSError):  # the server's last message may still be there
            while more := self._socket.recv(_SIZE, socket.MSG_DONTWAIT):
                words += more
        stopped = gone(words)
        stopped.message = stopped.message if wire.parse(words).fatal else one_line(str(why))
        return stopped

    def provide(self, trips: Sequence[RoundTrip], course: Course | None = None, /) -> Mapping[str, Any]:
        provided: dict[str, Any] = {"send": self._socket.sendall, "recv": self._socket.recv, "query": wire.query}
        for trip in trips:
            exchange = _SocketExchange(trip, self._facts)
            exchange.course = course
            provided[f"x{trip.number}"] = exchange
            provided[f"m{trip.number}"] = self._message(trip)
            provided[f"s{trip.number}"] = exchange.shape
        return provided

    @property
    def has_courses(self) -> bool:
        facts = self._facts
        return facts.protocol is not model.Protocol.SIMPLE and facts.see is None and extension() is not None

    def course(self, trips: Sequence[RoundTrip], begun: bytes, committed: bytes) -> Course:
        compiled, prepared = extension(), self._facts.prepared
        assert compiled is not None
        parts = [
            (
                [(wire.bind_head(prepared[s].name, len(s.parameters)), s.parameters) for s in trip.statements],
                trip.variable,
            )
            for trip in trips
        ]
        return compiled.Course(self._facts.pgconn.socket, parts, begun, committed)

    def _message(self, trip: RoundTrip) -> Text | wire.Message | bytes:
        """What the program fills in; with nothing to fill in, the message itself."""
        if self._facts.protocol is model.Protocol.SIMPLE:
            (statement,) = trip.statements
            return Text(statement)
        prepared = self._facts.prepared
        message = wire.Message(tuple((prepared[s].name, len(s.parameters)) for s in trip.statements))
        return message if trip.values else message[()] % ()


class _SwitchedLine(_SocketLine):
    """A line that goes on over other connections, as behind a pooler: what it sends was prepared on each of them."""

    def provide(self, trips: Sequence[RoundTrip], course: Course | None = None, /) -> Mapping[str, Any]:
        return {**super().provide(trips, course), "send": self._send, "recv": self._receive}

    def switch(self, pgconn: pq.abc.PGconn) -> None:
        self._socket.close()
        self._socket = _socket_of(pgconn)

    def _send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _receive(self, size: int) -> bytes:
        return self._socket.recv(size)


def _socket_of(pgconn: pq.abc.PGconn) -> socket.socket:
    """The socket of a connection under a number of its own, since libpq closes the other one."""
    os.set_blocking(pgconn.socket, True)
    taken = socket.socket(fileno=os.dup(pgconn.socket))
    taken.settimeout(None)
    return taken


class Text:
    """A statement's text with the values of its `slots` put in: numbers as in pgbench; others quoted; NULL."""

    def __init__(self, statement: Statement) -> None:
        self._fragments = [fragment.encode() for fragment in statement.fragments]

    def __call__(self, values: Sequence[bytes | None]) -> bytes:
        text = self._fragments[0]
        for value, fragment in zip(values, self._fragments[1:], strict=True):
            text += _literal(value) + fragment
        return text


def _literal(value: bytes | None) -> bytes:
    if value is None:
        return b"NULL"
    if _NUMBER.fullmatch(value):
        return value if not value.startswith(b"-") else b"(" + value + b")"
    escaped = value.replace(b"'", b"''")
    return b"'" + escaped + b"'" if b"\\" not in value else b" E'" + escaped.replace(b"\\", b"\\\\") + b"'"


class _LibpqExchange(_Exchange):
    """Sends and receives by libpq; under the simple protocol it sends text."""

    def __init__(self, trip: RoundTrip, facts: _Facts) -> None:
        super().__init__(trip, facts)
        self._pgconn = facts.pgconn
        self._pipelined = len(trip.statements) > 1
        simple = facts.protocol is model.Protocol.SIMPLE
        self._texts = [Text(statement) for statement in trip.statements] if simple else None
        self._reply = wire.Reply()

    def submit(self, values: Sequence[bytes | None]) -> None:
        """Send the statements; raises Stopped if the connection is no more."""
        pgconn = self._pgconn
        self._reply = wire.Reply()
        try:
            if self._texts is not None:
                pgconn.send_query(self._texts[0](values))
                send_all(pgconn)
                return
            if self._pipelined:
                pgconn.enter_pipeline_mode()
            rest = list(values)
            for statement, prepared in zip(self.statements, self.prepared, strict=True):
                count = len(statement.parameters)
                mine, rest = rest[:count], rest[count:]
                pgconn.send_query_prepared(prepared.name, mine)
            if self._pipelined:
                pgconn.pipeline_sync()
            send_all(pgconn)
        except psycopg.OperationalError as problem:
            raise Stopped(CONNECTION_LOST, one_line(str(problem)), lost=True) from None

    def fetch(self) -> bool:
        """Take what has arrived; True once the answer is whole."""
        pgconn = self._pgconn
        with contextlib.suppress(psycopg.OperationalError):  # get_result says what happened
            pgconn.consume_input()
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                if not self._pipelined or pgconn.status != pq.ConnStatus.OK:
                    return True
            elif result.status == pq.ExecStatus.PIPELINE_SYNC:
                pgconn.exit_pipeline_mode()
                return True
            elif result.status in ACCEPTED:
                self._reply.results.append(_result(result, every_row=self.every_row))
            elif result.status != pq.ExecStatus.PIPELINE_ABORTED:
                self._refuse(result)
        return False

    def switch(self, pgconn: pq.abc.PGconn) -> None:
        """Go on over another connection."""
        self._pgconn = pgconn

    def _refuse(self, result: pq.abc.PGresult) -> None:
        """Keep the first error of a reply, or the one that ends the session."""
        severity = result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED)
        # libpq's own error, that the connection ended, has neither a severity nor an SQLSTATE.
        fatal = severity in _ENDING
        if self._reply.sqlstate and not fatal:
            return
        sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE)
        message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
        self._reply.sqlstate = sqlstate.decode() if sqlstate else CONNECTION_LOST
        self._reply.message = one_line(
            message.decode(errors="replace") if message else self._pgconn.get_error_message()
        )
        self._reply.fatal = fatal or not sqlstate

    def settle(self, variables: Variables, _opened: bool) -> bool:
        self._reply.status = _STATUS.get(pq.TransactionStatus(self._pgconn.transaction_status), b"")
        return self.conclude(self._reply, variables)


def _result(result: pq.abc.PGresult, *, every_row: bool) -> wire.Result:
    rows = result.ntuples
    kept = [
        tuple(result.get_value(row, column) for column in range(result.nfields))
        for row in range(0 if every_row else max(0, rows - 1), rows)
    ]
    return wire.Result(
        tag=result.command_status or b"",
        rows=rows,
        last=kept[-1] if kept else (),
        all=kept if every_row else [],
    )


class _LibpqLine:
    """libpq sends and receives; a program waits for it as it waits for a socket."""

    transport = Transport.LIBPQ

    def __init__(self, facts: _Facts) -> None:
        self._facts = facts
        self._exchanges: list[_LibpqExchange] = []

    def switch(self, pgconn: pq.abc.PGconn) -> None:
        for exchange in self._exchanges:
            exchange.switch(pgconn)

    def close(self) -> None:
        """Nothing was opened."""

    #: What is encrypted is libpq's.
    has_courses = False

    def course(self, trips: Sequence[RoundTrip], begun: bytes, committed: bytes) -> Course:
        raise NotImplementedError

    def lost(self, why: OSError) -> Stopped:
        return Stopped(CONNECTION_LOST, one_line(str(why)), lost=True)

    def provide(self, trips: Sequence[RoundTrip], _course: Course | None = None, /) -> Mapping[str, Any]:
        exchanges = {f"x{trip.number}": _LibpqExchange(trip, self._facts) for trip in trips}
        self._exchanges += exchanges.values()
        return exchanges
