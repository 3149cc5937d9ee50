"""Passes the messages of one connection on, and injects the faults that a proxy can inject.

A cut before a statement loses it on its way to the server; a cut behind it loses its answer. What the server carries
out in between is real, and so is its commit.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from random import Random

from racebench.core.injection import Fault, FaultKind
from racebench.load.faults.transactions import Role, Transactions
from racebench.postgres.proxy.link import Link
from racebench.postgres.proxy.messages import Message

#: Kinds of the server's messages with which the answer to a statement ends, or with which it waits for the client.
_ENDS_AN_ANSWER = frozenset((b"C", b"E", b"I", b"s", b"Z", b"G", b"W", b"V"))
#: Kinds of the client's messages that are statements: a simple query, an Execute, a function call.
_STATEMENTS = frozenset((b"Q", b"E", b"F"))
_PARTS = 3
#: Later than any time.
NEVER = 2**63 - 1


class Draws:
    """What is drawn for one connection: whether a fault meets a statement, and how much later a message arrives.

    Each fault draws from its own seed, so that one does not change when another happens. `counts`: how often each was
    injected, by its text.
    """

    def __init__(self, faults: Sequence[Fault], seed: str, counts: Counter[str]) -> None:
        self._counts = counts
        self._of = {
            kind: [(fault, Random(f"{seed}/{fault.text}")) for fault in faults if fault.kind is kind]
            for kind in FaultKind
        }

    def has(self, *kinds: FaultKind) -> bool:
        """Whether there is a fault of one of the kinds."""
        return any(self._of[kind] for kind in kinds)

    def happens(self, kind: FaultKind) -> bool:
        """Draw whether a fault of a kind meets the statement at hand; counts it."""
        return self._drawn(kind) is not None

    def stall_ns(self) -> int:
        """Draw how long the statement at hand is stalled; 0: not at all."""
        fault = self._drawn(FaultKind.STALL)
        return 0 if fault is None else fault.duration_us * 1000

    def latency_ns(self) -> int:
        """Draw how much later the messages at hand arrive; 0 without a latency."""
        total_us = 0.0
        for fault, random in self._of[FaultKind.LATENCY]:
            self._counts[fault.text] += 1
            total_us += fault.duration_us + fault.spread_us * random.uniform(-1, 1)
        return round(total_us * 1000)

    def part(self) -> int:
        """Draw where a statement is cut: 0, before it; 1, while the server works; 2, behind its answer."""
        return self._of[FaultKind.CUT][0][1].randrange(_PARTS)

    def _drawn(self, kind: FaultKind) -> Fault | None:
        # All are drawn, so that one that happens does not change the draws of another.
        drawn = [fault for fault, random in self._of[kind] if random.random() * 100 < fault.percent]
        if not drawn:
            return None
        self._counts[drawn[0].text] += 1
        return drawn[0]


class Relay:
    """One link whose messages are passed on. `ended`: it is cut, or one side has closed it. Times: perf_counter_ns."""

    def __init__(self, link: Link, draws: Draws) -> None:
        self.link, self._draws = link, draws
        self._transactions = Transactions()
        self._follows = draws.has(FaultKind.CUT_AFTER_COMMIT, FaultKind.CUT_BEFORE_COMMIT)
        self._held: deque[tuple[int, bytes]] = deque()
        self._latest_ns = 0
        #: The end of an answer that says a commit which its ReadyForQuery will confirm.
        self._withheld: list[bytes] = []
        #: Whether the answer to what was sent is lost.
        self._loses = False
        self.ended = False

    @property
    def due_ns(self) -> int:
        """When the first of what is held back is to be passed on; NEVER if nothing is."""
        return self._held[0][0] if self._held else NEVER

    def pass_on(self, now_ns: int, *, armed: bool) -> None:
        """Pass on what has arrived, and what was held back until now. `armed`: faults are injected."""
        link = self.link
        if messages := link.client_messages():
            self._to_server(messages, now_ns, armed=armed)
        if not self.ended and (messages := link.server_messages()):
            self._to_client(messages, armed=armed)
        if self.ended:
            return
        closed = link.client_closed or link.server_closed
        while self._held and (closed or self._held[0][0] <= now_ns):
            link.send_server(self._held.popleft()[1])
        if closed:
            self._end()

    def _to_server(self, messages: Sequence[Message], now_ns: int, *, armed: bool) -> None:
        draws, transactions = self._draws, self._transactions
        due_ns = max(self._latest_ns, now_ns + (draws.latency_ns() if armed else 0))
        through: list[bytes] = []
        for number, message in enumerate(messages):
            role = transactions.sent(message) if self._follows else Role.OTHER
            if armed:
                if role in (Role.COMMIT, Role.SYNC_COMMIT) and draws.happens(FaultKind.CUT_BEFORE_COMMIT):
                    self._cut(through)
                    return
                if message.kind in _STATEMENTS:
                    part = draws.part() if draws.happens(FaultKind.CUT) else None
                    if part == 0:
                        self._cut(through)
                        return
                    if part == 1:
                        self._cut([*through, *(rest.raw for rest in messages[number:])])
                        return
                    self._loses |= part is not None
                    if stall_ns := draws.stall_ns():
                        self._send(through, due_ns, now_ns)
                        through = []
                        due_ns = max(due_ns, now_ns) + stall_ns
            through.append(message.raw)
        self._send(through, due_ns, now_ns)

    def _send(self, through: Sequence[bytes], due_ns: int, now_ns: int) -> None:
        self._latest_ns = due_ns
        if not through:
            return
        if due_ns <= now_ns and not self._held:
            self.link.send_server(b"".join(through))
        else:
            self._held.append((due_ns, b"".join(through)))

    def _to_client(self, messages: Sequence[Message], *, armed: bool) -> None:
        if not self._follows and not self._loses:
            self.link.send_client(b"".join([message.raw for message in messages]))
            return
        through: list[bytes] = []
        for message in messages:
            if self._loses:
                if message.kind in _ENDS_AN_ANSWER:
                    self.link.send_client(b"".join(through))
                    self._end()
                    return
                continue
            if not self._follows:
                through.append(message.raw)
                continue
            committed = self._transactions.answered(message)
            if committed and armed and self._draws.happens(FaultKind.CUT_AFTER_COMMIT):
                self.link.send_client(b"".join(through))
                self._end()
                return
            self._withheld.append(message.raw)
            if not self._transactions.commit_is_near:
                through += self._withheld
                self._withheld.clear()
        if through:
            self.link.send_client(b"".join(through))

    def _cut(self, through: Sequence[bytes]) -> None:
        """Send the last that reaches the server, and close both sides."""
        for _, raw in self._held:
            self.link.send_server(raw)
        self._held.clear()
        self.link.send_server(b"".join(through))
        self._end()

    def _end(self) -> None:
        self.ended = True
        self._held.clear()
        self.link.close()
