"""A matrix on machines of a Dask scheduler: a row is a strategy, alone and with each consumer, on one of them.

Each machine measures a row on an embedded server of its own, so that the throughput with a consumer and the throughput
alone, by which it is divided, are of the same machine. A row is a task of Dask: if its machine is lost, Dask runs the
whole row on another one. The machines are connected to and compared in `opened`.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from racebench.core.errors import RacebenchError
from racebench.core.model import Consumer
from racebench.core.plain_text import one_line
from racebench.core.results import RunResult
from racebench.core.target import Pooling, StandbyChoice
from racebench.core.watching import Patience, watched
from racebench.executors import connecting
from racebench.executors.connecting import Scheduler
from racebench.load import campaign
from racebench.load.campaign import Campaign, Request
from racebench.postgres.embedded.likeness import check_machines
from racebench.postgres.targets import open_target

if TYPE_CHECKING:
    from distributed import Client

#: How often a row looks whether anyone waits for it, and how often the command looks for rows, in seconds.
_LOOK_S, _POLL_S = 0.5, 0.05
#: How often the command looks whether there are machines, and for how long there may be none, in seconds.
_COUNT_S, _NONE_S = 5.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The embedded server that a machine measures a row on, as the command's own. `give_up_s`: see Patience."""

    version: int
    connections: int
    superuser: bool
    pooler: Pooling | None
    standby: StandbyChoice | None
    give_up_s: float


def measure(request: Request, place: Place) -> tuple[RunResult, ...]:
    """Measure the runs of a request on this machine, as a task of Dask. Raises RacebenchError."""
    from distributed import get_worker

    from racebench.executors.processes import Processes

    machine = get_worker()
    key, next_look_s = machine.get_current_task(), 0.0

    def look(_label: str, _share: float) -> None:
        nonlocal next_look_s
        if time.monotonic() >= next_look_s:
            next_look_s = time.monotonic() + _LOOK_S
            task = machine.state.tasks.get(key)
            if task is None or task.state == "cancelled":  # the command has ended
                raise RacebenchError("nobody waits for this row any more")

    patience = Patience(give_up_s=place.give_up_s)
    with (
        watched(patience),
        open_target(
            None,
            version=place.version,
            connections=place.connections,
            superuser=place.superuser,
            pooler=place.pooler,
            standby=place.standby,
        ) as target,
        Processes() as processes,
        campaign.opened(request, target, processes, patience=patience) as opened,
    ):
        note = f"measured on machine {machine.address}, on an embedded server of its own"
        return tuple(replace(result, notes=(*result.notes, note)) for result in opened.results(look))


@contextlib.contextmanager
def opened(scheduler: Scheduler, version: int) -> Iterator[Client]:
    """The machines, which would start the same embedded server as this one. Raises RacebenchError in one line."""
    with connecting.connected(scheduler) as client:
        check_machines(client, connecting.machines_of(client), version)
        yield client


def rows_of(running: Campaign) -> tuple[Request, ...]:
    """A request for each strategy of a campaign, with the consumers that it has there."""
    consumers: dict[str, list[Consumer]] = {}
    strategies = {cell.strategy.name: cell.strategy for cell in running.cells}
    for cell in running.cells:
        consumers.setdefault(cell.strategy.name, []).extend(cell.consumers)
    return tuple(
        replace(
            running.request,
            strategies=(strategy,),
            consumers=tuple(consumers[name]),
            named=frozenset({name, *(consumer.name for consumer in consumers[name])}),
        )
        for name, strategy in strategies.items()
    )


def results(
    client: Client, requests: Sequence[Request], place: Place, progress: Callable[[str, float], None]
) -> Iterator[RunResult]:
    """The results of each request, in order; `progress` is told how many there are. Raises RacebenchError."""
    name = f"racebench-row-{uuid.uuid4().hex}"
    futures: list[Any] = [
        client.submit(measure, request, place, key=f"{name}-{number}", pure=False)
        for number, request in enumerate(requests)
    ]
    next_count_s = seen_s = time.monotonic()
    try:
        for request, future in zip(requests, futures, strict=True):
            while not future.done():
                done = sum(one.done() for one in futures)
                progress(f"{done} of {len(futures)} strategies measured", done / len(futures))
                now_s = time.monotonic()
                if now_s >= next_count_s:
                    next_count_s = now_s + _COUNT_S
                    with contextlib.suppress(OSError):  # the scheduler does not answer
                        seen_s = now_s if connecting.machines_of(client) else seen_s
                if now_s - seen_s > _NONE_S:
                    strategy = request.strategies[0].name
                    raise RacebenchError(f"no machine is left: strategy '{strategy}' was not measured")
                time.sleep(_POLL_S)
            yield from _result(future, request.strategies[0].name)
    finally:
        with contextlib.suppress(Exception):
            client.cancel(futures)


def _result(future: Any, strategy: str) -> tuple[RunResult, ...]:
    try:
        measured: tuple[RunResult, ...] = future.result()
    except RacebenchError:
        raise
    except Exception as problem:  # noqa: BLE001 - of whatever kind: of Dask, or of a machine
        raise RacebenchError(f"strategy '{strategy}' could not be measured: {one_line(str(problem))}") from None
    return measured
