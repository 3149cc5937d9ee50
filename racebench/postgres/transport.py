"""Round trips: the two ways in which a compiled script talks to its server.

Over the socket: psycopg has connected, authenticated and prepared; from then on messages are ours (wire.py), which
costs a fifth of what a general client does. Over libpq (`psycopg.pq`): where the socket is not ours to take, because
TLS or GSSAPI encrypts it. Both write the lines of the same program (compiling.py) and end in the same `conclude`.
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
from racebench.core.errors import ScenarioProblem, one_line
from racebench.core.model import Statement
from racebench.postgres import wire
from racebench.postgres.compiler import Stopped, is_commit, leaves_open, names_of

Variables = dict[str, bytes | None]

#: Reported when the connection ended without the server's saying why ("connection failure").
CONNECTION_LOST = "08006"

_NUMBER = re.compile(rb"-?\d+(\.\d*)?([eE][-+]?\d+)?")
_SIZE = 16_384
_SMALL = 448  # what Python's own allocator serves; few answers are longer
_LONGEST_LEARNT = 4_096
_OK = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY})
_STATUS = {pq.TransactionStatus.IDLE: b"I", pq.TransactionStatus.INTRANS: b"T", pq.TransactionStatus.INERROR: b"E"}


class Line(Protocol):
    """A connection as a program sees it."""

    def emit(self, statements: Sequence[Statement]) -> list[str]:
        """Write an exchange as lines of the program; they end with `opened` as the server says it is."""

    @property
    def namespace(self) -> Mapping[str, Any]:
        """What those lines call."""

    def lost(self, why: OSError) -> Stopped:
        """Say what is known of a connection that was lost."""

    def close(self) -> None:
        """Let go of what is the line's own; the connection is its session's to close."""


def takes_socket(connection: psycopg.Connection[Any]) -> bool:
    """Whether the bytes on the socket are the protocol's own: neither TLS nor GSSAPI encrypts them."""
    pgconn = connection.pgconn
    if pgconn.ssl_in_use or not hasattr(os, "set_blocking"):
        return False
    if pgconn.host.startswith(b"/"):
        return True
    row = connection.execute("SELECT encrypted FROM pg_stat_gssapi WHERE pid = pg_backend_pid()").fetchone()
    return row is not None and not row[0]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that the server has seen: its name there, and the columns it returns."""

    name: bytes
    columns: tuple[str, ...]


#: Shown each answer: the statements, what they return, and the reply.
See = Callable[[Sequence[Statement], Sequence[Prepared], wire.Reply], None]


def line_of(
    connection: psycopg.Connection[Any],
    path: Path,
    protocol: model.Protocol,
    prepared: Mapping[Statement, Prepared],
    see: See | None = None,
) -> Line:
    """The socket if it can be taken, else libpq. With `see`, each answer is taken apart and shown to it."""
    kind = _SocketLine if takes_socket(connection) else _LibpqLine
    return kind(connection.pgconn, path, protocol, prepared, see)


class _Exchange:
    """What is common to both: the statements, and what follows from the answer to them."""

    def __init__(self, statements: Sequence[Statement], prepared: Mapping[Statement, Prepared], path: Path) -> None:
        self.statements = statements
        self.prepared = [prepared[statement] for statement in statements]
        self.path = path
        self.see: See | None = None

    def conclude(self, reply: wire.Reply, variables: Variables) -> bool:
        """Set variables from a whole reply and return whether a transaction is open; raises Stopped if refused."""
        if reply.sqlstate or not reply.status:
            raise Stopped(
                reply.sqlstate or CONNECTION_LOST,
                reply.message or "the server closed the connection",
                status=reply.status,
                lost=not reply.status,
            )
        if self.see is not None:
            self.see(self.statements, self.prepared, reply)
        for statement, prepared, result in zip(self.statements, self.prepared, reply.results, strict=True):
            if result.tag == b"ROLLBACK" and is_commit(statement):  # an aborted transaction "commits" so
                raise Stopped("25P02", "the transaction was aborted before COMMIT", status=reply.status)
            prefix = statement.gset if statement.gset is not None else statement.aset
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

    def __init__(self, statements: Sequence[Statement], prepared: Mapping[Statement, Prepared], path: Path) -> None:
        super().__init__(statements, prepared, path)
        self.reply = b"nothing yet"
        self.shape = wire.Shape()
        stored = [
            (prefix, mine.columns)
            for statement, mine in zip(statements, self.prepared, strict=True)
            if (prefix := statement.gset if statement.gset is not None else statement.aset) is not None
        ]
        #: The one variable it sets, None if it sets none; `several` if that is not so simple.
        self.variable = stored[0][0] + stored[0][1][0] if len(stored) == 1 and len(stored[0][1]) == 1 else None
        self.several = bool(stored) and self.variable is None
        self.leaves_open = leaves_open(statements)
        self._assembler = wire.Assembler()

    def fetch(self, data: bytes) -> bool:
        """Take what was received; True once the answer is whole. Raises Stopped at the connection's end."""
        if not data:
            raise gone(self._assembler.take())
        return self._assembler.feed(data)

    def settle(self, variables: Variables, opened: bool) -> bool:
        """Take the answer apart, remember what it looks like, and return whether a transaction is open."""
        data = self._assembler.take()
        reply = wire.parse(data)
        now = self.conclude(reply, variables)
        expected = opened if self.leaves_open is None else self.leaves_open
        if reply.plain and now == expected and len(data) <= _LONGEST_LEARNT:
            if self.variable is not None and reply.row is not None:
                self.shape.learn(data, reply.row)
            elif self.variable is None and not self.several:
                self.reply = data
        return now


def gone(data: bytes) -> Stopped:
    """The connection ended; the server's last words, if it had any, are in `data`."""
    reply = wire.parse(data)
    message = reply.message or "the server closed the connection"
    return Stopped(reply.sqlstate or CONNECTION_LOST, message, lost=True)


class _Line:
    """What both ways share: what an exchange is made from, and what its lines call."""

    def __init__(
        self,
        pgconn: pq.abc.PGconn,
        path: Path,
        protocol: model.Protocol,
        prepared: Mapping[Statement, Prepared],
        see: See | None,
    ) -> None:
        self._pgconn, self._path, self._protocol, self._prepared, self._see = pgconn, path, protocol, prepared, see
        self._made: dict[str, Any] = {}
        self._take()

    def _take(self) -> None:
        """Make the connection ready for exchanges."""

    @property
    def namespace(self) -> Mapping[str, Any]:
        return self._made


class _SocketLine(_Line):
    """Our own loop on the socket that libpq opened; libpq only ever closes it."""

    def _take(self) -> None:
        os.set_blocking(self._pgconn.socket, True)
        self._socket = socket.socket(fileno=os.dup(self._pgconn.socket))
        self._socket.settimeout(None)
        self._made |= {"send": self._socket.sendall, "recv": self._socket.recv, "query": wire.query}

    def close(self) -> None:
        self._socket.close()

    def lost(self, why: OSError) -> Stopped:
        words = b""
        with contextlib.suppress(OSError):  # what the server said before it hung up may still be there
            while more := self._socket.recv(_SIZE, socket.MSG_DONTWAIT):
                words += more
        stopped = gone(words)
        stopped.message = stopped.message if wire.parse(words).message else one_line(str(why))
        return stopped

    def emit(self, statements: Sequence[Statement]) -> list[str]:
        exchange = _SocketExchange(statements, self._prepared, self._path)
        exchange.see = self._see
        number = len(self._made)
        self._made[f"x{number}"] = exchange
        lines = [*self._message(number, statements), "yield", f"data = recv({_SMALL})"]
        settle = [
            f"    while not x{number}.fetch(data):",
            "        yield",
            f"        data = recv({_SIZE})",
            f"    opened = x{number}.settle(v, opened)",
        ]
        if exchange.several or self._see is not None:
            return [*lines, "if True:", *settle]
        now = [] if exchange.leaves_open is None else [f"    opened = {exchange.leaves_open}"]
        if exchange.variable is None:
            return [*lines, f"if data != x{number}.reply:", *settle, *(["else:", *now] if now else [])]
        self._made[f"s{number}"] = exchange.shape
        return [
            *lines,
            f"size = len(data) - s{number}.fixed",
            f"if size >= 0 and data.endswith(s{number}.after) and data.startswith(s{number}[size]):",
            f"    v[{exchange.variable!r}] = data[s{number}.at : s{number}.at + size]",
            *now,
            "else:",
            *settle,
        ]

    def _message(self, number: int, statements: Sequence[Statement]) -> list[str]:
        names = names_of(statements, self._protocol)
        if self._protocol is model.Protocol.SIMPLE:
            (statement,) = statements
            self._made[f"m{number}"] = Text(statement)
            return [f"send(query(m{number}(({''.join(f'v[{name!r}], ' for name in names)}))))"]
        message = wire.Message(tuple((self._prepared[s].name, len(s.parameters)) for s in statements))
        if not names:
            self._made[f"m{number}"] = message[()] % ()
            return [f"send(m{number})"]
        self._made[f"m{number}"] = message
        local = {name: f"a{at}" for at, name in enumerate(dict.fromkeys(names))}
        lengths = "".join(f"{local[name]} and len({local[name]}), " for name in names)
        values = "".join(f'{local[name]} or b"", ' for name in names)
        return [
            *(f"{variable} = v[{name!r}]" for name, variable in local.items()),
            f"send(m{number}[{lengths}] % ({values}))",
        ]


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
    def __init__(
        self,
        pgconn: pq.abc.PGconn,
        statements: Sequence[Statement],
        prepared: Mapping[Statement, Prepared],
        path: Path,
    ) -> None:
        super().__init__(statements, prepared, path)
        self._pgconn = pgconn
        self._pipelined = len(statements) > 1
        self._texts: list[Text] | None = None
        self._reply = wire.Reply()

    def in_text(self) -> None:
        """Send text, as the simple protocol has it."""
        self._texts = [Text(statement) for statement in self.statements]

    def submit(self, values: Sequence[bytes | None]) -> None:
        """Send the statements; raises Stopped if the connection is no more."""
        pgconn = self._pgconn
        self._reply = wire.Reply()
        try:
            if self._texts is not None:
                pgconn.send_query(self._texts[0](values))
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
            elif result.status in _OK:
                self._reply.results.append(_result(result))
            elif result.status != pq.ExecStatus.PIPELINE_ABORTED and not self._reply.sqlstate:
                sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE)
                message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
                self._reply.sqlstate = sqlstate.decode() if sqlstate else CONNECTION_LOST
                self._reply.message = one_line(
                    message.decode(errors="replace") if message else pgconn.get_error_message()
                )
        return False

    def settle(self, variables: Variables, _opened: bool) -> bool:
        self._reply.status = _STATUS.get(pq.TransactionStatus(self._pgconn.transaction_status), b"")
        return self.conclude(self._reply, variables)


def _result(result: pq.abc.PGresult) -> wire.Result:
    rows = result.ntuples
    return wire.Result(
        tag=result.command_status or b"",
        rows=rows,
        last=tuple(result.get_value(rows - 1, column) for column in range(result.nfields)) if rows else (),
    )


class _LibpqLine(_Line):
    """libpq does the talking; a program waits for it as it waits for a socket."""

    def close(self) -> None:
        """Nothing of its own to close."""

    def lost(self, why: OSError) -> Stopped:
        return Stopped(CONNECTION_LOST, one_line(str(why)), lost=True)

    def emit(self, statements: Sequence[Statement]) -> list[str]:
        exchange = _LibpqExchange(self._pgconn, statements, self._prepared, self._path)
        exchange.see = self._see
        if self._protocol is model.Protocol.SIMPLE:
            exchange.in_text()
        number = len(self._made)
        self._made[f"x{number}"] = exchange
        values = "".join(f"v[{name!r}], " for name in names_of(statements, self._protocol))
        return [
            f"x{number}.submit(({values}))",
            "yield",
            f"while not x{number}.fetch():",
            "    yield",
            f"opened = x{number}.settle(v, opened)",
        ]
