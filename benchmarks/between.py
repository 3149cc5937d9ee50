"""A proxy that passes everything on, and a gate that lets each piece go at once, each in a thread of this process.

What a client sees through them must be what the server gives. tests/postgres/proxy compares messages, drivers.py the
outcomes of drivers' own tests.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping

from racebench.core.target import Target
from racebench.exploration.sessions.division import MAY_BE_WRAPPED
from racebench.exploration.wire.connection import WireConnection
from racebench.exploration.wire.gate import Gate
from racebench.exploration.wire.stream import Piece
from racebench.postgres.connection import connect
from racebench.postgres.proxy.proxy import Proxy


@contextlib.contextmanager
def relaying(target: Target, parameters: Mapping[str, str] | None = None) -> Iterator[Proxy]:
    """The proxy, which listens on no port yet; only its thread may poll it."""
    with Proxy(target, parameters) as proxy:

        def work() -> None:
            for link in proxy.poll(0.05):
                link.relay()

        with _repeating(work):
            yield proxy


class _AtRest:
    """An application that is never waited for."""

    def asleep(self) -> bool:
        return True

    def activity(self) -> int:
        return 0

    def timer_s(self) -> float | None:
        return None


@contextlib.contextmanager
def gating(target: Target) -> Iterator[Proxy]:
    """The proxy of a gate that holds every piece, divides all that it may, and lets each go at once."""
    sent: dict[WireConnection, Piece] = {}
    with contextlib.closing(connect(target)) as beside:
        gate = Gate(
            Proxy(target),
            _AtRest(),
            lambda _connection, _piece: True,
            lambda connection: sent.pop(connection, None),
            beside=beside.pgconn,
            every_row=True,
        )

        def work() -> None:
            gate.pump(0.05)
            for connection in list(gate.connections):
                stream = connection.stream
                while True:
                    if connection in sent and sent[connection].answered:
                        del sent[connection]
                        if not stream.withholds:
                            gate.deliver(connection)
                        stream.proceed()
                    if stream.piece is None:
                        break
                    wrapped = all(part.keyword in MAY_BE_WRAPPED for part in stream.piece.parts)
                    sent[connection] = stream.release(divided=wrapped and stream.may_be_divided(stream.piece))

        try:
            with _repeating(work):
                yield gate.proxy
        finally:
            gate.close()


@contextlib.contextmanager
def _repeating(work: Callable[[], None]) -> Iterator[None]:
    """Do it again and again in a thread meanwhile."""
    stopping = threading.Event()
    problems: list[Exception] = []

    def repeat() -> None:
        try:
            while not stopping.is_set():
                work()
        except Exception as problem:  # noqa: BLE001 - raised again below
            problems.append(problem)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        if problems:
            raise problems[0]
