"""Cuts the stream of one client connection into pieces, and holds each until it is let go. Knows no socket.

A piece is what the server carries out in one go: an Execute with the Parse and Bind before it, a simple query, or the
Sync that commits. An Execute is sent with a Flush of racebench's, so that a pipeline becomes several pieces. Without a
transaction block the server commits at Sync: the Sync is then a piece of its own, and the client is given the answers
after it. A simple query that is to be divided so is sent in the extended protocol.
Source: PostgreSQL's documentation, "Frontend/Backend Protocol", "Message Flow"; src/backend/tcop/postgres.c.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from racebench.core.model import Statement
from racebench.exploration import batches
from racebench.exploration.independence import Footprint
from racebench.exploration.steps import as_sent
from racebench.postgres.compiler.transactions import begins, ends, opens
from racebench.postgres.proxy import messages
from racebench.postgres.proxy.messages import Message

#: What the simple protocol refuses, and the extended protocol takes as a parameter.
_PARAMETER = re.compile(r"\$\d")
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
#: Statements for which Parse takes a snapshot.
_ANALYZED = frozenset(
    {"SELECT", "VALUES", "WITH", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE", "EXPLAIN", "DECLARE"}
)
_STAGES = frozenset({b"P", b"B", b"D", b"C"})
#: After a simple query there is no unnamed statement any more.
_PORTAL = (
    *(messages.bind(), messages.describe_portal(), messages.execute()),
    *(messages.close_statement(), messages.FLUSH),
)
#: Between the statements that one piece prepares.
_SEPARATOR = "\0"
_COPY_ENDS = frozenset({b"c", b"f"})
_ASYNCHRONOUS = frozenset(b"NSA")


class Kind(Enum):
    """What a piece is to the protocol."""

    EXECUTE = "execute"
    QUERY = "query"
    PARSE = "parse"
    SYNC = "sync"
    CALL = "function call"


@dataclass(slots=True, eq=False, kw_only=True)
class Piece:
    """What the server carries out in one go. `text`: its SQL; `alone`: no transaction block is open before it.

    `bind`: the values of its parameters; None if it has none. `held`: it waits for its turn. `touches`:
    what it may touch. `divides`: its commit is a
    piece of its own. The rest is what the server answered: columns, `rows` if all are wanted, the `last` of `count`
    rows, a command tag, or an error.
    """

    stream: Stream
    kind: Kind
    text: str = ""
    alone: bool = False
    prepared: _Prepared | None = None
    bind: messages.Bind | None = None
    packets: list[bytes] = field(default_factory=list)
    expects: bytes = b""
    held: bool = False
    touches: Footprint = Footprint.ANYTHING
    divides: bool = False
    answered: bool = False
    columns: Sequence[messages.Column] = ()
    rows: list[messages.Values] = field(default_factory=list)
    last: messages.Values = ()
    count: int = 0
    tag: str = ""
    sqlstate: str = ""
    message: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """Its SQL: one text, or several that it only prepares."""
        return tuple(self.text.split(_SEPARATOR))

    @property
    def parts(self) -> tuple[Statement, ...]:
        """Its statements, without comments; none if it is not certain which they are."""
        return parts_of(self.text)


@dataclass(slots=True)
class _Prepared:
    """A statement that a client has prepared: its SQL, the OIDs of its parameters' types, and its columns if known."""

    text: str
    types: Sequence[int]
    columns: Sequence[messages.Column] = ()


@lru_cache(maxsize=4096)
def parts_of(text: str) -> tuple[Statement, ...]:
    """The statements of a text, without comments; none if it is not certain which they are."""
    parts = batches.split(text)
    return () if parts is None else tuple(map(as_sent, parts or ("",)))


_NOT_KNOWN = _Prepared("", ())


def _is_analyzed(piece: Piece) -> bool:
    """Whether a piece has a statement for which the server takes a snapshot."""
    return any(as_sent(text).keyword in _ANALYZED for text in piece.texts) or any(
        part.keyword in _ANALYZED for part in piece.parts
    )


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _sql(message: Message) -> str:
    """The SQL of a simple query or a Parse; of a malformed one, which the server refuses, all that it has."""
    try:
        raw = messages.read_query(message.raw) if message.kind == b"Q" else messages.read_parse(message.raw).sql
    except messages.Malformed:
        return _text(message.raw[5:])
    return _text(raw)


def _portal(execution: Message) -> bytes | None:
    """The name of the portal that an Execute runs; None if it is malformed."""
    try:
        return messages.read_execute(execution.raw).portal
    except messages.Malformed:
        return None


class Stream:
    """The stream of one connection. `piece`: what is held at the gate; `sent`: what is not answered yet.

    `status`: the transaction status that the server said last (I, T or E). `block`: a transaction block is open.
    `touched`: a piece that was held has run in it. `snapshots`: a transaction has one snapshot, which its first Parse
    takes. `ended`: the client has sent Terminate. `told`: is called with the bytes that are sent to the client.
    """

    def __init__(
        self,
        to_server: Callable[[bytes], object],
        to_client: Callable[[bytes], object],
        holds: Callable[[Piece], bool],
        *,
        every_row: bool = False,
    ) -> None:
        self._to_server, self._to_client, self._holds = to_server, to_client, holds
        self._every_row = every_row
        self.status = b"I"
        self.block = self.touched = self.snapshots = self.ended = False
        self.piece: Piece | None = None
        self.sent: Piece | None = None
        self.told: Callable[[bytes], object] = lambda _: None
        self._queue: deque[Message] = deque()
        self._prefix: list[Message] = []
        self._expected: deque[int] = deque()
        self._withheld: list[Message] = []
        self._statements: dict[bytes, _Prepared] = {}
        self._portals: dict[bytes | None, tuple[_Prepared, messages.Bind]] = {}
        #: The statement that is being described.
        self._describing: _Prepared | None = None
        #: A statement that is committed at the next Sync was sent; `_owed`: that Sync is racebench's.
        self._implicit = self._owed = False
        #: A simple query was sent in the extended protocol, and its Sync has not been answered.
        self._converted = False
        #: Stages were sent after the last Sync: what racebench would ask now would destroy statements and portals.
        self._unsynced = False
        #: The answer to a piece that was held is withheld.
        self._undelivered = False
        #: The server ignores everything up to the next Sync.
        self._failed = False
        #: Both sides send what they have.
        self._replicating = False
        self._copying = self._snapshot_taken = self._proceeding = False

    # What is known of it

    @property
    def idle(self) -> bool:
        """Whether nothing is under way: no transaction, no piece, nothing that waits for an answer."""
        return (
            self.status == b"I"
            and not (self.block or self._implicit or self._failed or self._unsynced or self._expected)
            and self.is_done
        )

    @property
    def is_done(self) -> bool:
        """Whether nothing is held, and everything that was sent is answered."""
        return self.piece is None and self.sent is None

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.block or self._implicit or self.status != b"I"

    @property
    def in_use(self) -> bool:
        """Whether the application is in the middle of something on it."""
        return not self.idle or bool(self._prefix) or bool(self._queue)

    @property
    def awaits_server(self) -> bool:
        """Whether something that was not held has no answer yet."""
        return self.sent is not None and not self.sent.held

    @property
    def awaits_client(self) -> bool:
        """Whether the server waits for data of a COPY."""
        return self._copying

    @property
    def withholds(self) -> bool:
        """Whether an answer must wait for the Sync that commits, which has arrived."""
        return self._implicit and (self._owed or (bool(self._queue) and self._queue[0].kind == b"S"))

    # From the client

    def from_client(self, arrived: Iterable[Message]) -> None:
        """Take what the client has sent."""
        for message in arrived:
            if self._copying:
                self._copy(message)
            else:
                self._queue.append(message)
        self._proceed()

    def _copy(self, message: Message) -> None:
        """Pass what is sent during COPY FROM STDIN; the server ignores Sync and Flush, and refuses other messages."""
        self._to_server(message.raw)
        if message.kind in _COPY_ENDS:
            self._copying = False
            if self.sent is not None and self.sent.kind is not Kind.QUERY:
                self._to_server(messages.FLUSH)

    def _proceed(self) -> None:
        """Make the next piece, and send it if it is not held; so until one is held, or nothing is left."""
        if self._proceeding:
            return  # what decides about a piece may carry more
        self._proceeding = True
        try:
            while self.piece is None and self.sent is None and not self._copying:
                piece = self._next()
                if piece is None:
                    return
                piece.held = self._is_held(piece)
                if piece.held:
                    self.piece = piece
                else:
                    self._send(piece)
        finally:
            self._proceeding = False

    def _is_held(self, piece: Piece) -> bool:
        if piece.kind is Kind.SYNC:
            return self._implicit and self._holds(piece)
        return self._holds(piece)

    def takes_snapshot(self, piece: Piece) -> bool:
        """Whether a piece takes the one snapshot of its transaction, also one that only prepares statements."""
        return self.snapshots and not self._snapshot_taken and _is_analyzed(piece)

    def _next(self) -> Piece | None:
        """The next piece that the client has sent completely."""
        if self._owed:
            self._owed = False
            return self._piece(Kind.SYNC, text="COMMIT", packets=[messages.SYNC], expects=b"Z")
        while self._queue:
            message = self._queue[0]
            kind = message.kind
            if self._failed and kind not in (b"S", b"X"):
                self._queue.popleft()
                self._to_server(message.raw)  # ignored up to Sync
                continue
            if kind in _STAGES:
                self._queue.popleft()
                self._note(message)
                self._prefix.append(message)
            elif kind == b"E":
                self._queue.popleft()
                prepared, bind = self._portals.get(_portal(message), (_NOT_KNOWN, None))
                return self._staged(Kind.EXECUTE, message, text=prepared.text, prepared=prepared, bind=bind)
            elif kind in (b"H", b"S") and self._prefix:
                texts = [_sql(stage) for stage in self._prefix if stage.kind == b"P"]
                return self._staged(Kind.PARSE, text=_SEPARATOR.join(texts))
            elif kind == b"H":
                self._queue.popleft()  # racebench has sent one
            elif kind == b"S":
                self._queue.popleft()
                return self._piece(Kind.SYNC, text="COMMIT", packets=[message.raw], expects=b"Z")
            elif kind == b"Q":
                self._queue.popleft()
                return self._piece(Kind.QUERY, text=_sql(message), packets=[message.raw], expects=b"Q")
            elif kind == b"F":
                self._queue.popleft()
                function = int.from_bytes(message.raw[5:9], "big")
                return self._piece(Kind.CALL, text=f"function call {function}", packets=[message.raw], expects=b"Q")
            else:
                self._queue.popleft()
                self.ended |= kind == b"X"
                self._to_server(message.raw)
        return None

    def _note(self, message: Message) -> None:
        """Note which SQL a statement or a portal stands for; the server refuses a message that is malformed."""
        with contextlib.suppress(messages.Malformed):
            self._note_names(message)

    def _note_names(self, message: Message) -> None:
        if message.kind == b"P":
            parse = messages.read_parse(message.raw)
            self._statements[parse.name] = _Prepared(_text(parse.sql), parse.types)
        elif message.kind == b"B":
            bind = messages.read_bind(message.raw)
            prepared = self._statements.get(bind.statement, _NOT_KNOWN)
            self._portals[bind.portal] = (prepared, bind)
        elif message.kind == b"D" and messages.read_named(message.raw).kind == b"S":
            self._describing = self._statements.get(messages.read_named(message.raw).name)

    def _piece(self, kind: Kind, *, text: str, packets: list[bytes], expects: bytes) -> Piece:
        return Piece(
            stream=self,
            kind=kind,
            text=text,
            alone=not self.block and self.status == b"I",
            packets=packets,
            expects=expects,
        )

    def _staged(
        self,
        kind: Kind,
        last: Message | None = None,
        *,
        text: str,
        prepared: _Prepared | None = None,
        bind: messages.Bind | None = None,
    ) -> Piece:
        """A piece of the stages that were collected, and perhaps the message that ends them."""
        stages = [*self._prefix, *([last] if last is not None else [])]
        self._prefix = []
        piece = self._piece(
            kind,
            text=text,
            packets=[*(stage.raw for stage in stages), messages.FLUSH],
            expects=b"".join(stage.kind for stage in stages),
        )
        piece.prepared, piece.bind = prepared, bind
        return piece

    # To the server

    def may_be_divided(self, piece: Piece) -> bool:
        """Whether a piece without a transaction block can have its commit as a piece of its own."""
        if not piece.alone or len(piece.parts) != 1:
            return False
        if piece.kind is not Kind.QUERY:
            return piece.kind is Kind.EXECUTE
        message = piece.packets[0]
        malformed = message.find(0, 5) != len(message) - 1
        return not malformed and not self._implicit and not _PARAMETER.search(_QUOTED.sub("", piece.parts[0].sql))

    def release(self, *, divided: bool) -> Piece:
        """Send the piece that is held. `divided`: its commit is to be a piece of its own (see `may_be_divided`)."""
        piece = self.piece
        assert piece is not None  # one is held
        self.piece = None
        piece.divides = divided
        if divided and piece.kind is Kind.QUERY:
            sql = piece.packets[0][5:]
            piece.packets = [messages.parse(b"", sql[:-1]), *_PORTAL]
            piece.expects = b"PBDEC"
            self._owed = True
        self._implicit |= divided
        self.touched |= piece.kind is not Kind.SYNC
        self._send(piece)
        return piece

    def _send(self, piece: Piece) -> None:
        self.sent = piece
        self._expected.extend(piece.expects)
        self._snapshot_taken |= piece.held and _is_analyzed(piece)  # BEGIN and LOCK take none
        self._unsynced |= piece.kind in (Kind.PARSE, Kind.EXECUTE)
        self._to_server(b"".join(piece.packets))

    # From the server

    def from_server(self, arrived: Iterable[Message]) -> None:
        """Take what the server has sent."""
        for message in arrived:
            self._take(message)
        if self._replicating or (self.sent is None and not self._undelivered and not self._implicit):
            self.deliver()  # nothing was asked: a notification, a notice, the end of the session, a replication

    def _take(self, message: Message) -> None:
        kind = message.kind[0]
        piece = self.sent
        if kind in _ASYNCHRONOUS or piece is None:
            self._withheld.append(message)
            return
        converted = piece.kind is Kind.QUERY and piece.divides
        if not (converted and kind in b"12n3"):
            self._withheld.append(message)
        head = self._expected[0] if self._expected else 0
        if kind == b"E"[0]:
            self._refused(piece, message, in_query=head in b"QZ")
        elif kind == b"Z"[0]:
            self._ready(message)
        elif kind == b"D"[0]:
            piece.count += 1
            piece.last = messages.read_row(message.raw)
            if self._every_row:
                piece.rows.append(piece.last)
        elif kind in b"CIs":
            piece.tag = _text(messages.read_tag(message.raw)) if kind == b"C"[0] else ""
            if head == b"E"[0]:
                self._expected.popleft()
                self._completed(piece)
        elif kind == b"G"[0] or kind == b"W"[0]:
            self._copying = True
            self._replicating = kind == b"W"[0]
            while self._queue and self._queue[0].kind in (b"S", b"H"):
                self._queue.popleft()  # the server ignores it
            self.deliver()
            queued, self._queue = self._queue, deque()
            self.from_client(queued)
        else:
            self._described(piece, message)
            if (head, kind) in _STEPS:
                self._expected.popleft()
        if not self._expected:
            self._finish(piece)

    def _described(self, piece: Piece, message: Message) -> None:
        """Note what a description says: for this piece, and for those that execute the same statement later."""
        if message.kind == b"T":
            piece.columns = messages.read_columns(message.raw)
            if self._describing is not None:
                self._describing.columns = piece.columns
        elif message.kind == b"t" and self._describing is not None:
            self._describing.types = messages.read_parameter_types(message.raw)

    def _refused(self, piece: Piece, message: Message, *, in_query: bool) -> None:
        error = messages.read_error(message.raw)
        piece.sqlstate, piece.message = error.sqlstate, _text(error.message)
        self._copying = self._implicit = False
        if not in_query:
            self._expected.clear()
            self._failed = True
            self._prefix = []
        elif self._expected and self._expected[0] == b"Z"[0]:
            # The commit itself failed: a simple query has no CommandComplete then.
            self._withheld = [kept for kept in self._withheld if not (kept.kind == b"C" and self._converted)]

    def _ready(self, message: Message) -> None:
        self._replicating = False
        self._expected.clear()
        self.status = message.raw[5:6]
        self.block = self.status != b"I"
        self._implicit = self._owed = self._failed = self._converted = self._unsynced = False
        if not self.block:
            self.touched = self._snapshot_taken = False

    def _completed(self, piece: Piece) -> None:
        """Note what a statement has done to the transaction block: the server says its status only at Sync."""
        if (parts := piece.parts) and (begins(parts[0]) or ends(parts[0])):
            self.block = opens(parts[0])
            self._implicit = self._implicit and not self.block

    def _finish(self, piece: Piece) -> None:
        """End a piece whose answer is here; the Sync after it belongs to it if it commits nothing."""
        if piece.divides and piece.kind is Kind.QUERY:
            self._converted = not piece.sqlstate
            if self._failed:
                self._owed = False
                self._also(piece, messages.SYNC)
                return
        if self._failed:
            while self._queue and self._queue[0].kind not in (b"S", b"X"):
                self._to_server(self._queue.popleft().raw)
        if (
            piece.kind is not Kind.SYNC
            and self._queue
            and self._queue[0].kind == b"S"
            and not self._prefix
            and (self._failed or not self._implicit)
        ):
            self._also(piece, self._queue.popleft().raw)
            return
        self.sent = None
        piece.answered = True
        self._undelivered = piece.held
        if not piece.held:
            if not self.withholds:
                self.deliver()
            self._proceed()

    def _also(self, piece: Piece, sync: bytes) -> None:
        self._expected.append(b"Z"[0])
        self._to_server(sync)
        self.sent = piece

    # To the client

    def deliver(self) -> bool:
        """Give the client what it has not been given yet; return whether there was anything."""
        given = b"".join(message.raw for message in self._withheld)
        self._withheld = []
        self._undelivered = False
        if given:
            self._to_client(given)
            self.told(given)
        return bool(given)

    def proceed(self) -> None:
        """Go on with what the client had sent after the piece that was answered."""
        self._proceed()


#: Which reply ends which message of the extended protocol.
_STEPS = frozenset(
    {(ord("P"), ord("1")), (ord("B"), ord("2")), (ord("D"), ord("T")), (ord("D"), ord("n")), (ord("C"), ord("3"))}
)
