"""A client of PostgreSQL's that sends the statements of a session in the message orders of real drivers.

It speaks the protocol itself, so that each order can be chosen. What the statements are is interpreter.py's.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import psycopg

from benchmarks.fuzz.interpreter import Action, Rows
from benchmarks.fuzz.program import Code
from racebench.postgres.proxy import messages
from racebench.postgres.proxy.messages import Message

_VERSION = 196_608
#: What ends the answer to an Execute.
_ENDS = b"CIsE"
_RECEIVED = 1 << 16


class Shape(StrEnum):
    """How a statement is sent. Several that are sent together have one Sync, except with SIMPLE: there one Query."""

    #: A Query each.
    SIMPLE = "simple"
    #: A Query each; BEGIN is in that of the first statement.
    JOINED = "joined"
    #: Parse, Bind, Describe, Execute and Sync at once: libpq, node-postgres.
    EXTENDED = "extended"
    #: Parse, Describe and Flush; Bind, Execute and Sync when these are answered: asyncpg.
    APART = "apart"
    #: Parse, Describe and Sync; Bind, Flush, Execute and Sync when these are answered: pg8000.
    FLUSHED = "flushed"
    #: BEGIN in the batch of the first statement: JDBC.
    BATCHED = "batched"
    #: As BATCHED, and a row at a time: JDBC with a fetch size.
    FETCHED = "fetched"
    #: Execute at once, Flush later, Sync only after a refusal and at the end of a transaction: psycopg's pipeline.
    PIPELINE = "pipeline"


class Refusal(psycopg.Error):
    """The server's refusal. `key`: what tells it from others, but for its values."""

    def __init__(self, fields: messages.ErrorFields) -> None:
        super().__init__(fields.message.decode())
        self.sqlstate = fields.sqlstate
        self.key = f"{fields.sqlstate} {fields.fields.get(b'n', b'').decode()}"


class Client:
    """A connection that sends in one shape."""

    def __init__(self, environment: Mapping[str, str], shape: Shape) -> None:
        self._shape = shape
        self._socket = socket.create_connection((environment["PGHOST"], int(environment["PGPORT"])))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._arrived: list[Message] = []
        self._prepared = 0
        self.status = b"I"
        #: The BEGIN that goes with the next statement.
        self._begin = ""
        names = f"user\0{environment['PGUSER']}\0database\0{environment['PGDATABASE']}\0\0".encode()
        self._send(struct.pack("!ii", len(names) + 8, _VERSION), names)
        for _ in self._until(b"Z"):
            pass

    def close(self) -> None:
        self._send(messages.TERMINATE)
        self._socket.close()

    def perform(self, code: Code, action: Action) -> list[Rows]:
        """Do what an action says; returns the rows of each statement. Raises Refusal."""
        if action.kind == "begin":
            level = action.texts[0]
            self._begin = f"BEGIN ISOLATION LEVEL {level}" if level else "BEGIN"
            if not code.implicit and self._shape not in (Shape.JOINED, Shape.BATCHED, Shape.FETCHED):
                self._take_begin()
        elif action.kind in ("commit", "rollback"):
            self._begin = ""
            if self.status != b"I":
                self._run([(action.kind, None)], alone=True)
        elif action.kind == "many":
            self._take_begin()
            if action.alone:
                self._run([(action.texts[0], value) for value in action.values], alone=True)
            else:
                for value in action.values:
                    self._run([(action.texts[0], value)], alone=False)
        else:
            return self._run([(text, None) for text in action.texts], alone=action.alone)
        return []

    def _take_begin(self) -> None:
        begin, self._begin = self._begin, ""
        if begin:
            self._run([(begin, None)], alone=False)
            self.status = b"T"

    def _run(self, statements: Sequence[tuple[str, int | None]], *, alone: bool) -> list[Rows]:
        """Send statements together; `alone`: they end a transaction."""
        shape = self._shape
        begun = bool(self._begin)
        if begun and shape not in (Shape.JOINED, Shape.BATCHED, Shape.FETCHED):
            self._take_begin()
            begun = False
        if begun:
            statements = [(self._begin, None), *statements]
            self._begin = ""
        if shape in (Shape.SIMPLE, Shape.JOINED):
            self._send(messages.query("; ".join(map(_literal, statements)).encode()))
            answers = self._answers()
        elif shape is Shape.PIPELINE:
            answers = self._pipelined(statements, alone=alone)
        elif shape in (Shape.APART, Shape.FLUSHED):
            answers = self._prepared_first(statements)
        elif shape is Shape.FETCHED and not alone and len(statements) == 1 + begun:
            answers = self._fetched(statements)
        else:
            self._send(*(packet for one in statements for packet in _staged(one)), messages.SYNC)
            answers = self._answers()
        return answers[begun:]

    def _prepared_first(self, statements: Sequence[tuple[str, int | None]]) -> list[Rows]:
        asyncpg = self._shape is Shape.APART
        names = []
        for text, _ in statements:
            self._prepared += 1
            names.append(f"s{self._prepared}".encode())
            end = messages.FLUSH if asyncpg else messages.SYNC
            self._send(_parse(names[-1], text), messages.describe_statement(names[-1]), end)
            self._until_refused(b"Tn" if asyncpg else b"Z", synced=not asyncpg)
        packets: list[bytes] = []
        for name, (_, value) in zip(names, statements, strict=True):
            packets.append(messages.bind(statement=name, values=_values(value)))
            if not asyncpg:
                packets.append(messages.FLUSH)
            packets.append(messages.execute())
        self._send(*packets, messages.SYNC)
        return self._answers()

    def _until_refused(self, ends: bytes, *, synced: bool) -> None:
        """Read up to an answer; a refusal is raised after the Sync, which is sent if it was not."""
        refusal = None
        for message in self._until(ends if synced else ends + b"E"):
            if message.kind == b"E":
                refusal = Refusal(messages.read_error(message.raw))
        if refusal is not None:
            if not synced:
                self._send(messages.SYNC)
                list(self._until(b"Z"))
            raise refusal

    def _pipelined(self, statements: Sequence[tuple[str, int | None]], *, alone: bool) -> list[Rows]:
        self._send(*(packet for one in statements for packet in _staged(one)))
        if alone:
            self._send(messages.SYNC)
            return self._answers()
        self._send(messages.FLUSH)
        answers: list[Rows] = []
        for _ in statements:
            rows: list[tuple[str | None, ...]] = []
            for message in self._until(_ENDS):
                if message.kind == b"D":
                    rows.append(_row(message))
                elif message.kind == b"E":
                    self._send(messages.SYNC)
                    list(self._until(b"Z"))
                    raise Refusal(messages.read_error(message.raw))
            answers.append(rows)
        return answers

    def _fetched(self, statements: Sequence[tuple[str, int | None]]) -> list[Rows]:
        """Send the last one with a fetch size of one row, and fetch the rest."""
        *before, (text, value) = statements
        self._prepared += 1
        portal = f"c{self._prepared}".encode()
        self._send(
            *(packet for one in before for packet in _staged(one)),
            _parse(b"", text),
            messages.bind(portal, values=_values(value)),
            messages.describe_portal(portal),
            messages.execute(portal, 1),
            messages.SYNC,
        )
        answers = self._answers()
        while self._suspended:
            self._send(messages.execute(portal, 1), messages.SYNC)
            (more,) = self._answers()
            answers[-1] = [*answers[-1], *more]
        return answers

    def _answers(self) -> list[Rows]:
        """The rows of each statement, up to ReadyForQuery. Raises Refusal."""
        answers: list[Rows] = []
        rows: list[tuple[str | None, ...]] = []
        refusal: Refusal | None = None
        self._suspended = False
        for message in self._until(b"Z"):
            if message.kind == b"D":
                rows.append(_row(message))
            elif message.kind in (b"C", b"I", b"s"):
                answers.append(rows)
                rows = []
                self._suspended = message.kind == b"s"
            elif message.kind == b"E":
                refusal = Refusal(messages.read_error(message.raw))
        if refusal is not None:
            raise refusal
        return answers

    def _send(self, *packets: bytes) -> None:
        self._socket.sendall(b"".join(packets))

    def _until(self, ends: bytes) -> Iterator[Message]:
        """The messages up to one of a kind, with it."""
        while True:
            while self._arrived:
                message = self._arrived.pop(0)
                if message.kind == b"Z":
                    self.status = messages.read_status(message.raw)
                yield message
                if message.kind in ends:
                    return
            arrived = self._socket.recv(_RECEIVED)
            if not arrived:
                raise ConnectionError("the server has closed the connection")
            self._buffer += arrived
            self._arrived = messages.split(self._buffer)


def _row(message: Message) -> tuple[str | None, ...]:
    return tuple(None if value is None else value.decode() for value in messages.read_row(message.raw))


def _literal(statement: tuple[str, int | None]) -> str:
    text, value = statement
    return text.replace("%s", str(value))


def _parse(name: bytes, text: str) -> bytes:
    return messages.parse(name, text.replace("%s", "$1").encode())


def _values(value: int | None) -> list[bytes]:
    return [] if value is None else [str(value).encode()]


def _staged(statement: tuple[str, int | None]) -> list[bytes]:
    text, value = statement
    return [
        _parse(b"", text),
        messages.bind(values=_values(value)),
        messages.describe_portal(),
        messages.execute(),
    ]
