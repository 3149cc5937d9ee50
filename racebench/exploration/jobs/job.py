"""What a job does: it starts a server, and searches the parts that it is told to, in a world of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

from racebench.core.target import Target
from racebench.core.watching import Patience, watched
from racebench.executors import Channel
from racebench.exploration.jobs.messages import (
    Divide,
    End,
    Ended,
    Finish,
    Finished,
    Imported,
    Place,
    Ready,
    Report,
    Search,
    Seen,
    Start,
    Stop,
)
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.search import Progress, Unsteady, search
from racebench.exploration.tree import Part, Rest
from racebench.exploration.world import ServerWorld
from racebench.postgres.embedded import EmbeddedServer, as_superuser

#: How often results are reported, in seconds, and how many schedules are in a report at most.
_REPORT_S = 0.25
_REPORTED = 200
#: How often a job looks whether its server has started, in seconds.
_LOOK_S = 0.005


def work(place: Place, channel: Channel) -> None:
    """Do what the explorer says, until it says End or has ended. Raises RacebenchError."""
    channel.send(Imported())
    if not isinstance(channel.receive(), Start):
        return
    with contextlib.suppress(EOFError), _started(place, channel) as target:  # End has the same effect in a search
        if target is not None:
            channel.send(Ready())
            _search_parts(target, channel)
    channel.send(Ended())


@contextlib.contextmanager
def _started(place: Place, channel: Channel) -> Iterator[Target | None]:
    """The server; None if the explorer says End before it runs."""
    server = EmbeddedServer(version=place.version, connections=place.connections)
    try:
        server.begin()
        while server.coming is not None and not server.coming.is_ready():
            if channel.waiting(_LOOK_S):
                yield None
                return
        with watched(Patience(give_up_s=place.give_up_s)), server as target:
            yield as_superuser(target) if place.superuser else target
    finally:
        server.stop()


def _search_parts(target: Target, channel: Channel) -> None:
    request: ExplorationRequest | None = None
    with contextlib.ExitStack() as stack:
        world: ServerWorld | None = None
        while not isinstance(message := channel.receive(), End):
            if isinstance(message, Finish):
                if world is not None:
                    _check_leftovers(world)
                channel.send(Finished(seen=_seen(world)))
                world = None
                stack.close()
            elif isinstance(message, Search):
                if message.request is not None:
                    request, world = message.request, None
                    stack.close()
                assert request is not None  # the first Search has it
                if world is None:
                    world = stack.enter_context(ServerWorld(target, request, lambda _: None))
                _Searching(message, world, channel).run(reduce=request.reduce)


def _check_leftovers(world: ServerWorld) -> None:
    """Look for what the last schedule left; a fault that prevents it is in the world's notes."""
    with contextlib.suppress(Unsteady):
        world.check_leftovers()


def _seen(world: ServerWorld | None) -> Seen:
    if world is None:
        return Seen()
    return Seen(leftovers=world.leftovers, notes=tuple(world.notes), unseen=world.unseen)


class _Searching:
    """One Search: a search.Sharing that gives a part away when it is asked for one, and reports."""

    def __init__(self, message: Search, world: ServerWorld, channel: Channel) -> None:
        self._message, self._world, self._channel = message, world, channel
        self._results: list[ScheduleResult] = []
        self._progress = Progress()
        self._pruned = 0
        self._asked = self._stopped = False
        self._reported_s = time.monotonic()

    def run(self, *, reduce: bool) -> None:
        """Search the part, and report its end."""
        world, tree = self._world, self._message.tree
        world.draw, world.order, world.ended = tree.draw, tree.order, self._add
        world.order_victims(tree.victim)
        search(world, reduce=reduce, go_on=self._go_on, part=self._message.part, sharing=self)
        self._report((), ended=True)

    def between(self, rest: Rest) -> None:
        """See search.Sharing."""
        if self._asked and (part := rest.take()) is not None:
            self._asked = False
            self._report(rest.parts(), given=part)
        elif len(self._results) >= _REPORTED or time.monotonic() - self._reported_s > _REPORT_S:
            self._report(rest.parts())

    def _add(self, result: ScheduleResult) -> None:
        self._results.append(replace(result, effect=None))

    def _go_on(self, progress: Progress) -> bool:
        self._progress = progress
        while not self._stopped and self._channel.waiting():  # what comes after Stop is not for this Search
            message = self._channel.receive()
            self._asked |= isinstance(message, Divide)
            self._stopped |= isinstance(message, Stop)
            if isinstance(message, End):
                raise EOFError
        return not self._stopped

    def _report(self, left: tuple[Part, ...], *, given: Part | None = None, ended: bool = False) -> None:
        results, self._results = tuple(self._results), []
        pruned, self._pruned = self._progress.pruned - self._pruned, self._progress.pruned
        self._reported_s = time.monotonic()
        self._channel.send(
            Report(
                number=self._message.number,
                results=results,
                pruned=pruned,
                left=left,
                given=given,
                ended=ended,
                seen=_seen(self._world),
            )
        )
