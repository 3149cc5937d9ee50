"""What runs on a machine: one long Dask task, which starts processes there and passes on what they say and record.

It owns the machine's pool of processes (processes.py) and its readings of the server's clock. Everything between it and
the driver (cluster.py) goes through two of Dask's queues: a common one up, which is bounded, and one down.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from racebench.core.errors import RacebenchError
from racebench.core.temporary import delete_abandoned, temporary_folder
from racebench.executors import Died, Failure, Recording, Report, Timed, Worker
from racebench.executors.messages import packed, unpacked
from racebench.executors.new_programs import NewPrograms
from racebench.executors.processes import Processes
from racebench.executors.shipping import PIECE_BYTES, Stream
from racebench.history.clocks import Reading
from racebench.history.recording import POLL

#: How long a machine waits for its driver before it ends what it runs. A driver says something every BEAT_SECONDS.
DRIVER_SECONDS = 60.0
BEAT_SECONDS = 5.0
#: What the driver says last.
STOP = b"stop"
#: How long one try to pass something on takes when too much waits at the scheduler.
_PUT_SECONDS = 5.0
#: How often records are passed on, and how often the machine says that it is there.
_SHIP_SECONDS = 0.5
#: How often the server's clock is read while processes work.
_READ_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTask:
    """What a machine has to know. `number`: its place among the driver's; `up`: the common queue, of so many items.

    `read_clock` reads the server's clock. `preload`: modules that each process there would import by itself.
    """

    number: int
    up: str
    most: int
    read_clock: Callable[[], Reading]
    preload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The machine is there: where it listens, its wall clock minus its `perf_counter_ns`, and its first reading."""

    down: str
    wall_ns: int
    reading: Reading


@dataclass(slots=True)
class _Job:
    """A task on a process of this machine, by the number that the driver has given it."""

    number: int
    worker: Worker
    folder: Path
    streams: list[tuple[int, Stream]] = field(default_factory=list)
    ended: bool = False


def serve(task: MachineTask) -> None:
    """Serve one driver until it says stop, or is not heard any more."""
    from distributed import Queue, get_client

    client = get_client()
    up = Queue(task.up, client=client, maxsize=task.most)
    down = Queue(f"racebench-{uuid.uuid4().hex}", client=client)
    try:
        delete_abandoned()  # what a machine that was killed left here
        first = task.read_clock()
        starter = NewPrograms(preload=task.preload)
        with temporary_folder("machine") as folder, Processes(starter=starter) as pool:
            agent = _Agent(task, pool, folder, first, lambda data: up.put(data, timeout=_PUT_SECONDS))
            threading.Thread(target=agent.listen, args=(down,), name="racebench-listen", daemon=True).start()
            agent.say("hello", Hello(down=down.name, wall_ns=_wall_ns(), reading=first))
            agent.run()
    finally:
        down.close()
        up.close()


def _wall_ns() -> int:
    """The wall clock minus `perf_counter_ns`: read between two readings of that, those that were next to each other."""
    readings = [(time.perf_counter_ns(), time.time_ns(), time.perf_counter_ns()) for _ in range(10)]
    before, wall, after = min(readings, key=lambda reading: reading[2] - reading[0])
    return wall - (before + after) // 2


class _Agent:
    """The machine's side of one driver. Only `listen` runs in another thread."""

    def __init__(
        self,
        task: MachineTask,
        pool: Processes,
        folder: Path,
        reading: Reading,
        put: Callable[[bytes], None],
    ) -> None:
        self._task, self._pool, self._folder, self._put = task, pool, folder, put
        self._reading = reading
        self._jobs: dict[int, _Job] = {}
        self._said: list[tuple[Any, ...]] = []
        self._size = 0
        self._commands: deque[bytes | None] = deque()
        self._ended = False  # the driver has said stop, or is gone: nobody takes what is said
        self._wake, self._waker = Pipe(duplex=False)
        self._next_read_s = time.monotonic() + _READ_SECONDS

    def listen(self, down: Any) -> None:
        """Take what the driver says, and wake the agent; None: the driver is gone."""
        waker: Connection = self._waker
        while True:
            try:
                data = down.get(timeout=DRIVER_SECONDS)
            except Exception:  # noqa: BLE001 - a time-out, or any error of a connection that has ended
                data = None
            self._ended = data is None or data == STOP
            self._commands.append(data)
            with contextlib.suppress(OSError):
                waker.send_bytes(b"-")
            if self._ended:
                return

    def say(self, *entry: Any) -> None:
        """Have something passed on to the driver, in order."""
        self._said.append(entry)
        self._size += len(entry[-1]) if isinstance(entry[-1], bytes) else 0
        if self._size >= PIECE_BYTES:
            self._flush()

    def run(self) -> None:
        """Work until the driver says stop or is gone."""
        next_ship_s = 0.0
        while True:
            jobs = {id(job.worker): job for job in self._jobs.values() if not job.ended}
            pause_s = max(0.0, next_ship_s - time.monotonic())
            for worker, message in self._pool.messages([job.worker for job in jobs.values()], pause_s, wake=self._wake):
                self._pass_on(jobs[id(worker)], message)
            while self._wake.poll():
                self._wake.recv_bytes()
            while self._commands:
                data = self._commands.popleft()
                if data is None or data == STOP:
                    return
                for command in unpacked(data):
                    self._obey(*unpacked(command))
            if time.monotonic() >= next_ship_s:
                next_ship_s = time.monotonic() + _SHIP_SECONDS
                for job in jobs.values():
                    self._ship(job, final=False)
                if jobs and time.monotonic() >= self._next_read_s:
                    self._read_clock()
                self.say("alive", None)
            self._flush()

    def _pass_on(self, job: _Job, message: Any) -> None:
        """A message of a process, behind what it has recorded before."""
        job.ended = isinstance(message, Died | Failure | Report)
        self._ship(job, final=job.ended)
        self.say("message", job.number, packed(message))

    def _ship(self, job: _Job, *, final: bool) -> None:
        if not final and job.ended:
            return
        # A poll is recorded after its deliveries: it is read before them, and passed on after them.
        polls = [(place, list(_pieces(stream, final=final))) for place, stream in job.streams if stream.layout == POLL]
        for place, stream in job.streams:
            for piece in () if stream.layout == POLL else _pieces(stream, final=final):
                self.say("records", job.number, place, piece)
        for place, held in polls:
            for piece in held:
                self.say("records", job.number, place, piece)

    def _flush(self) -> None:
        if self._said:
            data = packed((self._task.number, self._said))
            self._said, self._size = [], 0
            deadline_s = time.monotonic() + DRIVER_SECONDS
            while not self._ended:
                try:
                    self._put(data)
                except TimeoutError:
                    if time.monotonic() >= deadline_s:
                        raise
                else:
                    return

    def _read_clock(self) -> None:
        with contextlib.suppress(Exception):  # the server may be gone or busy: the last reading stays
            self._reading = self._task.read_clock()
            self.say("reading", self._reading)
        self._next_read_s = time.monotonic() + _READ_SECONDS

    def _obey(self, name: str, *given: Any) -> None:
        """Do what the driver says."""
        if name == "start":
            self._start(*given)
        elif name == "send":
            number, message = given
            if isinstance(message, Timed):
                message = message.shifted(-self._reading.offset_ns)
            if number in self._jobs:
                self._jobs[number].worker.send(message)
        elif name == "kill":
            for number in given[0]:
                if number in self._jobs:
                    self._jobs[number].worker.kill()
        elif name == "release":
            jobs = [self._jobs.pop(number) for number in given[0] if number in self._jobs]
            self._pool.release([job.worker for job in jobs])
            for job in jobs:
                shutil.rmtree(job.folder, ignore_errors=True)
        elif name == "warm":
            with contextlib.suppress(RacebenchError):  # what the machine refuses is said by the first start
                self._pool.warm(given[0])
        elif name == "read":
            self._read_clock()
            self.say("read", given[0])

    def _start(self, number: int, function: Callable[..., None], task: Any) -> None:
        if time.monotonic() >= self._next_read_s:
            self._read_clock()
        folder = self._folder / str(number)
        folder.mkdir()
        streams: list[tuple[int, Stream]] = []
        if isinstance(task, Recording):
            task = task.recorded_in(folder)
            streams = list(enumerate(Stream(file.path, file.layout) for file in task.recorded))
        try:
            worker = self._pool.start(function, task)
        except Exception as problem:  # noqa: BLE001 - said by the driver
            self.say("message", number, packed(Failure(problem)))
            return
        self._jobs[number] = _Job(number, worker, folder, streams)


def _pieces(stream: Stream, *, final: bool) -> Iterator[bytes]:
    while piece := stream.read(final=final):
        yield piece
