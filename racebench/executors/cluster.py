"""Machines of a Dask scheduler as an executor: tasks run in processes there, started by an agent on each (agent.py).

The driver's side: which machine runs what, what has arrived from them, and which of them is lost. A machine is lost
when the scheduler has lost its worker, when its agent has ended, or when nothing was heard of it for LOST_SECONDS.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from racebench.core.defaults import MOST_LOCAL_MACHINES
from racebench.core.errors import DiskFull, RacebenchError, UsageProblem
from racebench.core.plain_text import one_line
from racebench.core.signals import shielded
from racebench.executors import Channel, Died, Failure, RecordedFile, Recording, Report, Timed, Worker, connecting
from racebench.executors.agent import BEAT_SECONDS, STOP, Hello, MachineTask, serve
from racebench.executors.connecting import Scheduler
from racebench.executors.messages import packed, unpacked
from racebench.executors.shipping import append, append_unknown, convert
from racebench.history.clocks import MachineClock, Reading, unread
from racebench.history.conversion import Conversion
from racebench.history.recording import OPERATION

if TYPE_CHECKING:
    from distributed import Client

#: How long after the last sign of a machine it is lost; each gives one about twice a second.
LOST_SECONDS = 30.0
_HELLO_SECONDS = 120.0
_LISTEN_SECONDS = 2.0
_READ_SECONDS = 10.0
_END_SECONDS = 20.0
#: How far ahead a common start is: for a message to each machine, by the scheduler.
_LEAD_NS = 400_000_000
_LEAD_FOR_ONE_NS = 10_000_000
#: Items of at most 256 KiB that wait at the scheduler, for each machine.
_WAITING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """What is asked for: a scheduler, and the most workers on one of its machines, None for an even spread."""

    scheduler: Scheduler
    workers_per_machine: int | None = None

    def needed(self, workers: int) -> int:
        """The most machines of use for so many workers; of `local`, no more than CPUs unless they are asked for.

        Raises UsageProblem if that are too many for this computer.
        """
        if self.workers_per_machine is not None:
            count = math.ceil(workers / self.workers_per_machine)
            if self.scheduler.is_local and count > MOST_LOCAL_MACHINES:
                raise UsageProblem(
                    f"--workers-per-machine {self.workers_per_machine} are {count} machines on this computer, and "
                    f"{MOST_LOCAL_MACHINES} are the most; give {math.ceil(workers / MOST_LOCAL_MACHINES)} or more"
                )
            return count
        return min(workers, os.cpu_count() or 1) if self.scheduler.is_local else workers


@dataclass(slots=True, eq=False)
class _Machine:
    """One machine, as the driver knows it.

    `down`: its queue, None before its hello; `lost`: why, None if it is not; `ended`: its agent has.
    """

    number: int
    address: str
    future: Any = None
    down: Any = None
    wall_ns: int = 0
    readings: list[Reading] = field(default_factory=list)
    read: int = 0
    heard_s: float = 0.0
    lost: str | None = None
    ended: bool = False
    outgoing: list[bytes] = field(default_factory=list)
    busy: int = 0


@dataclass(slots=True, eq=False)
class _Remote:
    """One task on a machine: an executors.Worker.

    `since`: the reading before it; `begun`: it was told a time; `complete`: all that it recorded has arrived.
    """

    number: int
    machine: _Machine
    cluster: Cluster
    files: tuple[RecordedFile, ...]
    since: int
    arrived: deque[Any] = field(default_factory=deque)
    begun: bool = False
    ended: bool = False
    complete: bool = False
    settled: bool = False
    span: tuple[int, int] | None = None

    def send(self, message: object) -> None:
        self.begun |= isinstance(message, Timed)
        self.cluster.tell(self.machine, "send", self.number, message)

    def kill(self) -> None:
        self.cluster.kill(self)


@contextlib.contextmanager
def opened(machines: Machines, *, workers: int, read_clock: Callable[[], Reading]) -> Iterator[Cluster]:
    """Connect to the machines, or start them, for so many workers. `read_clock` reads the server's clock, anywhere.

    Raises RacebenchError in one line.
    """
    needed = machines.needed(workers)
    with connecting.connected(machines.scheduler, machines=needed) as client:
        addresses = connecting.machines_of(client)
        if machines.workers_per_machine is not None and len(addresses) < needed:
            raise UsageProblem(
                f"--workers {workers} at --workers-per-machine {machines.workers_per_machine} needs {needed} machines; "
                f"the Dask scheduler {machines.scheduler.address} has {len(addresses)}"
            )
        with Cluster(client, addresses[:needed], read_clock) as cluster:
            yield cluster


class Cluster:
    """An executors.Executor, and a context manager that has each machine end what it runs.

    `read_clock` reads the server's clock, or is clocks.unread where nothing is recorded. `preload`: what tasks import.
    """

    def __init__(
        self,
        client: Client,
        addresses: Collection[str],
        read_clock: Callable[[], Reading],
        *,
        preload: tuple[str, ...] = (),
    ) -> None:
        self._client, self._read_clock, self._preload = client, read_clock, preload
        self._machines = [_Machine(number, address) for number, address in enumerate(addresses)]
        self._remotes: dict[int, _Remote] = {}
        self._count = self._reads = 0
        self._changed = threading.Condition()
        self._closing = self._closed = False
        self._listener: threading.Thread | None = None
        self._problem: RacebenchError | None = None
        self._reading = read_clock()
        self._next_beat_s = 0.0

    def __enter__(self) -> Cluster:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        from distributed import Queue

        name, most = f"racebench-{uuid.uuid4().hex}", _WAITING * len(self._machines) + _WAITING
        self._up = Queue(name, client=self._client, maxsize=most)
        self._client.subscribe_topic("all", self._scheduler_says)
        for machine in self._machines:
            machine.future = self._client.submit(
                serve,
                MachineTask(
                    number=machine.number,
                    up=name,
                    most=most,
                    read_clock=self._read_clock,
                    preload=self._preload,
                ),
                key=f"{name}-{machine.number}",
                workers=[machine.address],
                allow_other_workers=False,
                pure=False,
            )
            machine.future.add_done_callback(lambda future, machine=machine: self._agent_ended(machine, future))
        self._listener = threading.Thread(target=self._listen, name="racebench-machines", daemon=True)
        self._listener.start()
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._problem is not None
                    or all(machine.down is not None or machine.lost is not None for machine in self._machines)
                ),
                _HELLO_SECONDS,
            )
            if self._problem is not None:
                raise self._problem
            for machine in self._machines:
                if machine.lost is not None:
                    raise RacebenchError(f"machine {machine.address} {machine.lost}")
                if machine.down is None:
                    raise RacebenchError(
                        f"machine {machine.address} did not begin within {_HELLO_SECONDS:.0f} s: other tasks occupy "
                        f"all its threads{'' if self._read_clock is unread else ', or it cannot reach the database'}"
                    )

    @property
    def offset_ns(self) -> int:
        return self._reading.offset_ns

    @property
    def lead_ns(self) -> int:
        return _LEAD_NS + _LEAD_FOR_ONE_NS * len(self._machines)

    def warm(self, count: int) -> None:
        living = self._living()
        for machine in living:
            self.tell(machine, "warm", math.ceil(count / len(living)))
        self._flush()

    def start(self, function: Callable[[Any, Channel], None], task: object) -> Worker:
        living = self._living()
        machine = min(living, key=lambda one: (one.busy, one.number))
        self._count += 1
        files = task.recorded if isinstance(task, Recording) else ()
        remote = _Remote(self._count, machine, self, files, max(0, len(machine.readings) - 1))
        self.tell(machine, "start", remote.number, function, task)
        with self._changed:
            machine.busy += 1
            self._remotes[remote.number] = remote
            if machine.lost is not None:
                self._end(remote)
        return remote

    def messages(self, workers: Collection[Worker], timeout: float) -> Iterator[tuple[Worker, Any]]:
        self._flush()
        wanted = self._of(workers)
        with self._changed:
            self._changed.wait_for(
                lambda: self._problem is not None or any(remote.arrived for remote in wanted), timeout
            )
            if self._problem is not None:
                raise self._problem
            ready = [(remote, remote.arrived.popleft()) for remote in wanted if remote.arrived]
        yield from ready

    def settle(self, workers: Iterable[Worker]) -> tuple[MachineClock, ...]:
        """As of every executor. What was begun on a lost machine and not heard of is UNKNOWN."""
        remotes = self._of(workers)
        self._reading = self._read_clock()
        self._have_clocks_read({id(remote.machine): remote.machine for remote in remotes}.values())
        for remote in remotes:
            if not remote.ended or remote.settled:
                continue
            machine = remote.machine
            conversion = Conversion(machine.readings[remote.since :])
            spans = []
            for file in remote.files:
                if remote.begun and not remote.complete and file.layout == OPERATION:
                    append_unknown(file.path, 1, machine.readings[-1].local_ns)
                spans.append(convert(file, conversion))
            remote.settled = True
            known = [span for span in spans if span is not None]
            if known:
                remote.span = min(first for first, _ in known), max(last for _, last in known)
        return tuple(
            _clock(machine, [remote for remote in remotes if remote.machine is machine]) for machine in self._machines
        )

    def release(self, workers: Iterable[Worker]) -> None:
        remotes = self._of(workers)
        for machine in self._machines:
            if numbers := [remote.number for remote in remotes if remote.machine is machine]:
                self.tell(machine, "release", numbers)
        with self._changed:
            for remote in remotes:
                remote.machine.busy -= 1
                self._remotes.pop(remote.number, None)
        self._flush()

    def retire(self, workers: Iterable[Worker]) -> None:
        self.release(workers)

    def tell(self, machine: _Machine, *command: Any) -> None:
        """Have a machine told something, with the next that is sent to it."""
        if machine.lost is None:
            machine.outgoing.append(packed(command))

    def kill(self, remote: _Remote) -> None:
        """Kill a task's process, and wait until the machine says that it has ended."""
        self.tell(remote.machine, "kill", [remote.number])
        self._flush()
        with self._changed:
            self._changed.wait_for(lambda: remote.ended, _END_SECONDS)

    def close(self) -> None:
        """Have each machine end its processes; what does not end in time is left to Dask and to the machine."""
        with shielded():
            self._closing = True
            for machine in self._machines:
                if machine.down is not None and machine.lost is None:
                    with contextlib.suppress(Exception):
                        machine.down.put(STOP, timeout=_END_SECONDS)
            with self._changed:
                self._changed.wait_for(
                    lambda: all(one.ended or one.future is None or one.lost is not None for one in self._machines),
                    _END_SECONDS,
                )
            self._stop_listening()  # until now what machines still say is taken, so that none waits to say it
            for machine in self._machines:
                with contextlib.suppress(Exception):
                    machine.future.release()
            with contextlib.suppress(Exception):
                self._client.unsubscribe_topic("all")

    def _stop_listening(self) -> None:
        """End the thread that listens, and its question to the scheduler with it."""
        self._closed = True
        if self._listener is not None:
            with contextlib.suppress(Exception):  # full: then there is something to hear
                self._up.put(packed((0, [])), timeout=_LISTEN_SECONDS)
            self._listener.join(2 * _LISTEN_SECONDS)
            with contextlib.suppress(Exception):
                self._up.close()

    def _living(self) -> list[_Machine]:
        living = [machine for machine in self._machines if machine.lost is None]
        if not living:
            first = self._machines[0]
            raise RacebenchError(f"no machine is left: {first.address} {first.lost}")
        return living

    def _of(self, workers: Iterable[Worker]) -> list[_Remote]:
        return [worker for worker in workers if isinstance(worker, _Remote)]

    def _flush(self) -> None:
        for machine in self._machines:
            if machine.outgoing and machine.down is not None and machine.lost is None:
                outgoing, machine.outgoing = machine.outgoing, []
                try:
                    machine.down.put(packed(outgoing), timeout=_READ_SECONDS)
                except Exception as problem:  # noqa: BLE001 - of whatever kind, it was not sent
                    with self._changed:
                        self._lose(machine, f"could not be told anything ({one_line(str(problem))})")

    def _have_clocks_read(self, machines: Iterable[_Machine]) -> None:
        machines, self._reads = list(machines), self._reads + 1
        for machine in machines:
            self.tell(machine, "read", self._reads)
        self._flush()
        with self._changed:
            self._changed.wait_for(
                lambda: all(machine.read == self._reads or machine.lost is not None for machine in machines),
                _READ_SECONDS,
            )

    def _listen(self) -> None:
        """Take what machines say, until the executor is closed."""
        while not self._closed:
            data = None
            try:
                data = self._up.get(timeout=_LISTEN_SECONDS)
            except TimeoutError:
                pass
            except Exception as problem:  # noqa: BLE001 - whatever it is, nothing can be heard any more
                with self._changed:
                    for machine in self._machines:
                        self._lose(machine, f"cannot be heard: the scheduler has ended ({one_line(str(problem))})")
                return
            with self._changed:
                try:
                    if data is not None:
                        number, said = unpacked(data)
                        self._hear(self._machines[number], said)
                except OSError as problem:
                    self._problem = DiskFull(f"cannot record what machines send: {problem.strerror}; free some space")
                self._watch()
                self._changed.notify_all()
            self._beat()

    def _beat(self) -> None:
        if time.monotonic() < self._next_beat_s:
            return
        self._next_beat_s = time.monotonic() + BEAT_SECONDS
        for machine in self._machines:
            if machine.down is not None and machine.lost is None:
                with contextlib.suppress(Exception):
                    machine.down.put(packed([]), timeout=_LISTEN_SECONDS)

    def _watch(self) -> None:
        now_s = time.monotonic()
        for machine in self._machines:
            if machine.down is not None and now_s - machine.heard_s > LOST_SECONDS:
                self._lose(machine, f"was not heard for {LOST_SECONDS:.0f} s")

    def _hear(self, machine: _Machine, said: Iterable[tuple[Any, ...]]) -> None:
        """Take what a machine says."""
        if machine.lost is not None:
            return
        machine.heard_s = time.monotonic()
        for name, *given in said:
            if name == "records":
                number, place, piece = given
                if number in self._remotes:
                    append(self._remotes[number].files[place].path, piece)
            elif name == "message":
                number, data = given
                if number in self._remotes:
                    remote, message = self._remotes[number], unpacked(data)
                    if isinstance(message, Timed):
                        message = message.shifted(machine.readings[-1].offset_ns)
                    remote.complete |= isinstance(message, Died | Failure | Report)
                    remote.ended |= remote.complete
                    remote.arrived.append(message)
            elif name == "reading":
                machine.readings.append(given[0])
            elif name == "read":
                machine.read = given[0]
            elif name == "hello" and machine.down is None:
                self._greet(machine, given[0])

    def _greet(self, machine: _Machine, hello: Hello) -> None:
        from distributed import Queue

        machine.wall_ns = hello.wall_ns
        machine.readings.append(hello.reading)
        machine.down = Queue(hello.down, client=self._client)

    def _agent_ended(self, machine: _Machine, future: Any) -> None:
        """Called by Dask when a machine's task is done, for whatever reason."""
        why = "ended"
        with contextlib.suppress(Exception):
            if not self._closing and future.status == "error":
                why = f"failed: {one_line(str(future.exception(timeout=1)))}"
        with self._changed:
            machine.ended = True
            self._lose(machine, why)
            self._changed.notify_all()

    def _scheduler_says(self, event: tuple[float, Any]) -> None:
        """Called by Dask for each event of the scheduler."""
        _, message = event
        if not isinstance(message, dict) or message.get("action") != "remove-worker":
            return
        with self._changed:
            for machine in self._machines:
                if machine.address == message.get("worker"):
                    self._lose(machine, "was lost")
            self._changed.notify_all()

    def _lose(self, machine: _Machine, why: str) -> None:
        if machine.lost is None and not self._closing:
            machine.lost = why
            for remote in self._remotes.values():
                if remote.machine is machine:
                    self._end(remote)

    def _end(self, remote: _Remote) -> None:
        if not remote.ended:
            remote.ended = True
            remote.arrived.append(Died(None, machine=remote.machine.address))


def _clock(machine: _Machine, remotes: Collection[_Remote]) -> MachineClock:
    owners = {file.owner: None for remote in remotes for file in remote.files}
    since = min((remote.since for remote in remotes), default=0)
    conversion = Conversion(machine.readings[since:])
    spans = [remote.span for remote in remotes if remote.span is not None]
    last = machine.readings[-1]
    return MachineClock(
        machine=machine.address,
        sessions=tuple(owner for owner in owners if isinstance(owner, int)),
        consumers=tuple(owner for owner in owners if isinstance(owner, str)),
        offset_ns=last.offset_ns - machine.wall_ns,
        bound_ns=conversion.bound_ns(
            min((first for first, _ in spans), default=last.local_ns),
            max((end for _, end in spans), default=last.local_ns),
        ),
    )
