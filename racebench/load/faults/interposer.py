"""A process through which workers' connections pass: a proxy with a port for each worker, and a relay for each link.

It learns the common start from the driver, and injects nothing before it: connecting and preparing are no operations.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from racebench.core.injection import Fault
from racebench.core.target import Target
from racebench.executors import Channel
from racebench.load.faults.messages import Finish, InjectionReport, Listening
from racebench.load.faults.relay import NEVER, Draws, Relay
from racebench.load.pacing import Go
from racebench.postgres.proxy.link import Link, State
from racebench.postgres.proxy.proxy import Proxy

#: How long the loop waits at most: the end is looked for this often while there is a connection, and without one.
_WAIT_S, _WAIT_ALONE_S = 0.1, 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class InterposerTask:
    """What one process has to do: a port for each of some workers, by their numbers, and faults on the wire.

    `parameters`: added to the start-up packets of clients that do not set them themselves.
    """

    target: Target
    parameters: Mapping[str, str]
    workers: tuple[int, ...]
    faults: tuple[Fault, ...]
    seed: int


def interpose(task: InterposerTask, channel: Channel) -> None:
    """Pass connections on from start to end: send Listening, get Go, inject until Finish, send an InjectionReport."""
    counts: Counter[str] = Counter()
    orders = _Orders()
    with Proxy(task.target, task.parameters) as proxy:
        ports = {worker: proxy.listen() for worker in task.workers}
        worker_of = {port: worker for worker, port in ports.items()}
        connections: Counter[int] = Counter()
        relays: dict[Link, Relay] = {}
        holding: dict[Relay, None] = {}
        channel.send(Listening(ports))
        orders.listen(channel)
        while not orders.finished:
            news = proxy.poll(_until_due_s(holding) if holding else _WAIT_S if relays else _WAIT_ALONE_S)
            now_ns = time.perf_counter_ns()
            armed = now_ns >= orders.start_ns
            due = {relay: None for relay in holding if relay.due_ns <= now_ns}
            for link in news:
                if link.state is State.CLOSED:
                    relays.pop(link, None)
                elif link.state is State.OPEN:
                    if link not in relays:
                        worker = worker_of[link.port]
                        connections[worker] += 1
                        seed = f"{task.seed}/{worker}/{connections[worker]}"
                        relays[link] = Relay(link, Draws(task.faults, seed, counts))
                    due[relays[link]] = None
            for relay in due:
                if not relay.ended:  # its server may still be about to end the session
                    relay.pass_on(now_ns, armed=armed)
                if relay.due_ns < NEVER:
                    holding[relay] = None
                else:
                    holding.pop(relay, None)
    channel.send(InjectionReport(dict(counts)))


def _until_due_s(holding: Iterable[Relay]) -> float:
    """How long the loop may wait while messages are held back."""
    due_ns = min(relay.due_ns for relay in holding)
    return max(0.0, min(_WAIT_S, (due_ns - time.perf_counter_ns()) / 1e9))


@dataclass(slots=True)
class _Orders:
    """What the driver has said, received by a thread: the loop waits for sockets. `start_ns`: the common start."""

    start_ns: int = 2**63 - 1
    finished: bool = field(default=False)

    def listen(self, channel: Channel) -> None:
        threading.Thread(target=self._receive, args=(channel,), name="racebench-faults", daemon=True).start()

    def _receive(self, channel: Channel) -> None:
        with contextlib.suppress(EOFError, OSError):
            while not isinstance(message := channel.receive(), Finish):
                if isinstance(message, Go):
                    self.start_ns = message.start_ns
        self.finished = True
