"""A connection of the application's that passes the gate, with what racebench itself sends on it between transactions.

It looks to the rest of the explorer like a connection of psycopg's, as far as that asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg import pq

from racebench.exploration.wire.stream import Piece, Stream
from racebench.postgres.proxy import messages
from racebench.postgres.proxy.messages import Message

if TYPE_CHECKING:
    from racebench.postgres.proxy.link import Link

_STATUS = {
    b"I": pq.TransactionStatus.IDLE,
    b"T": pq.TransactionStatus.INTRANS,
    b"E": pq.TransactionStatus.INERROR,
}


@dataclass(slots=True)
class Answer:
    """What the server answered to a question of racebench's own; as psycopg's PGresult, as far as it is used."""

    columns: Sequence[messages.Column] = ()
    rows: list[messages.Values] = field(default_factory=list)
    tag: bytes = b""
    error: messages.ErrorFields | None = None

    @property
    def status(self) -> pq.ExecStatus:
        """Whether the server did it, and returned rows."""
        if self.error is not None:
            return pq.ExecStatus.FATAL_ERROR
        return pq.ExecStatus.TUPLES_OK if self.columns else pq.ExecStatus.COMMAND_OK

    @property
    def nfields(self) -> int:
        """The number of columns."""
        return len(self.columns)

    @property
    def ntuples(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def get_value(self, row: int, column: int) -> bytes | None:
        """A value, as text; None for NULL."""
        return self.rows[row][column]

    def error_field(self, which: pq.DiagnosticField) -> bytes | None:
        """A field of the error."""
        if self.error is None:
            return None
        letter = {pq.DiagnosticField.SQLSTATE: b"C", pq.DiagnosticField.MESSAGE_PRIMARY: b"M"}.get(which, b"")
        return self.error.fields.get(letter)


class WireConnection:
    """A connection of the application's.

    `cut`: racebench has cut it. `leaving`: the client has closed it, what it had sent is done, and the server has not
    ended its session yet. `asking`: racebench has asked something, and has no answer yet.
    """

    #: A client's own choice of a level is seen in its SQL.
    isolation_level = None

    def __init__(
        self,
        link: Link,
        carry: Callable[[WireConnection], None],
        holds: Callable[[WireConnection, Piece], bool],
        *,
        beside: pq.abc.PGconn,
        every_row: bool,
    ) -> None:
        self.link = link
        self.stream = Stream(link.send_server, self._answer, lambda piece: holds(self, piece), every_row=every_row)
        self.pgconn = Backend(self, carry, beside)
        self.asking = self.cut = False
        #: The session whose transaction is open on it; None if there is none, or if that is not known.
        self.owner: object = None
        #: Whether the application sends its open transaction by itself, for no operation; None if that is not known.
        self.by_itself: bool | None = None
        self.answer = Answer()

    def _answer(self, raw: bytes) -> None:
        """Give the client bytes in two segments: Linux acknowledges the second at once when they have been read.

        Otherwise it takes 40 ms where the client has nothing to say, and gate.py waits for it.
        """
        self.link.send_client(raw[:-1])
        self.link.send_client(raw[-1:])

    @property
    def closed(self) -> bool:
        """Whether it has ended, at the server too."""
        return self.link.server_closed

    @property
    def leaving(self) -> bool:
        """See the class."""
        return self.left_by_client and self.stream.is_done and not self.link.server_closed

    @property
    def left_by_client(self) -> bool:
        """Whether the client has closed it."""
        return self.link.client_closed or self.stream.ended

    @property
    def in_use(self) -> bool:
        """Whether the application is in the middle of something on it."""
        return not self.closed and (self.leaving or self.stream.in_use)

    @property
    def is_idle(self) -> bool:
        """Whether racebench may ask something on it now."""
        return not self.closed and not self.leaving and not self.asking and self.stream.idle

    def from_server(self, arrived: Sequence[Message]) -> None:
        """Take what the server has sent: for racebench, if it has asked something, or else for the application."""
        for place, message in enumerate(arrived):
            if not self.asking:
                self.stream.from_server(arrived[place:])
                return
            self._answered(message)

    def _answered(self, message: Message) -> None:
        kind, answer = message.kind, self.answer
        if kind == b"T":
            answer.columns, answer.rows = messages.read_columns(message.raw), []
        elif kind == b"D":
            answer.rows.append(messages.read_row(message.raw))
        elif kind == b"C":
            answer.tag = messages.read_tag(message.raw)
        elif kind == b"E":
            answer.error = messages.read_error(message.raw)
        elif kind == b"A":
            self.link.send_client(message.raw)
        elif kind == b"Z":
            self.asking = False


class Backend:
    """The server's side of a connection; as psycopg's PGconn, as far as it is used."""

    pipeline_status = pq.PipelineStatus.OFF

    def __init__(
        self, connection: WireConnection, carry: Callable[[WireConnection], None], beside: pq.abc.PGconn
    ) -> None:
        self._connection, self._carry = connection, carry
        #: Where the server is: the proxy leads only there, to the database that the client has named.
        self.host, self.hostaddr, self.port = beside.host, beside.hostaddr, beside.port
        parameters = connection.link.parameters
        self.db = parameters.get("database", parameters.get("user", "")).encode()

    @property
    def backend_pid(self) -> int:
        """The process of the server's."""
        return self._connection.link.pid

    @property
    def transaction_status(self) -> pq.TransactionStatus:
        """The status of the transaction, as far as the server has said it."""
        connection = self._connection
        if connection.closed:
            return pq.TransactionStatus.UNKNOWN
        stream = connection.stream
        if stream.sent is not None:
            return pq.TransactionStatus.ACTIVE
        return pq.TransactionStatus.INTRANS if stream.block and stream.status == b"I" else _STATUS[stream.status]

    @property
    def status(self) -> pq.ConnStatus:
        """Whether it can be used."""
        return pq.ConnStatus.BAD if self._connection.closed else pq.ConnStatus.OK

    def get_error_message(self, encoding: str = "utf-8") -> str:  # noqa: ARG002 - as psycopg has it
        """Why it cannot be used."""
        return "the connection is closed"

    def exec_(self, sql: bytes) -> Answer:
        """Ask the server something between two transactions, past the application."""
        connection = self._connection
        if not connection.is_idle:
            return Answer(
                error=messages.ErrorFields(b"ERROR", "", b"the connection is in use", {b"M": b"it is in use"})
            )
        connection.answer, connection.asking = Answer(), True
        connection.link.send_server(messages.query(sql))
        self._carry(connection)
        if connection.asking:
            connection.asking = False
            return Answer(error=messages.ErrorFields(b"FATAL", "08006", b"", {b"C": b"08006", b"M": b"it was lost"}))
        return connection.answer
