"""Clocks of several machines: what each has read of the database server's clock, and how well it is known.

Machines share no clock. Each reads the server's (`clock_timestamp()`) and takes the answer of the shortest round trip:
the server said it between the question and the answer, so that its clock is known to half of the round trip (Cristian,
"Probabilistic clock synchronization", 1989). conversion.py converts times; a process that only records needs no numpy.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from racebench.core.plain_text import shown

#: The largest bound that is written, in nanoseconds: 36 years.
MOST_NS = 2**60


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The server's clock minus the machine's `perf_counter_ns`, at `local_ns` of that; right within `bound_ns`."""

    local_ns: int
    offset_ns: int
    bound_ns: int


def unread() -> Reading:
    """In place of a reading, where machines record nothing: nothing is known of the offset."""
    return Reading(local_ns=time.perf_counter_ns(), offset_ns=0, bound_ns=MOST_NS)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineClock:
    """What is known of one machine's clock in a run: its times are the server's, right within `bound_ns`.

    `offset_ns`: the server's clock minus the machine's wall clock. `sessions` and `consumers` are those that ran there.
    """

    machine: str
    sessions: tuple[int, ...]
    consumers: tuple[str, ...]
    offset_ns: int
    bound_ns: int


def published(clocks: Sequence[MachineClock]) -> list[dict[str, Any]]:
    """The clocks as in a history file."""
    return [
        {
            "machine": clock.machine,
            "sessions": list(clock.sessions),
            "consumers": list(clock.consumers),
            "offset_ns": clock.offset_ns,
            "bound_ns": clock.bound_ns,
        }
        for clock in clocks
    ]


def read(data: Any, sessions: Collection[int], consumers: Collection[str]) -> tuple[MachineClock, ...]:
    """The clocks of a history file. Each session and each consumer has one: ValueError says what is wrong."""
    if not isinstance(data, list) or not data:
        raise ValueError(f"'clocks' is a list of machines, not {shown(data)}")
    clocks = tuple(_clock(one) for one in data)
    for name, owners, named in (
        ("session", sessions, [owner for clock in clocks for owner in clock.sessions]),
        ("consumer", consumers, [owner for clock in clocks for owner in clock.consumers]),
    ):
        if len(set(named)) < len(named):
            raise ValueError(f"'clocks' has a {name} on two machines")
        for owner in owners:
            if owner not in named:
                raise ValueError(f"'clocks' has no machine for {name} {shown(owner)}")
    return clocks


def _clock(data: Any) -> MachineClock:
    if not isinstance(data, Mapping):
        raise ValueError(f"each of 'clocks' is an object, not {shown(data)}")
    machine, sessions, consumers = (data.get(name) for name in ("machine", "sessions", "consumers"))
    offset, bound = data.get("offset_ns", 0), data.get("bound_ns")
    if not isinstance(machine, str):
        raise ValueError(f"'machine' of a clock is a text, not {shown(machine)}")
    if not isinstance(sessions, list) or not all(type(one) is int for one in sessions):
        raise ValueError(f"'sessions' of a clock is a list of whole numbers, not {shown(sessions)}")
    if not isinstance(consumers, list) or not all(isinstance(one, str) for one in consumers):
        raise ValueError(f"'consumers' of a clock is a list of texts, not {shown(consumers)}")
    if (
        type(offset) is not int
        or type(bound) is not int
        or not 0 <= bound <= MOST_NS
        or not -(2**62) <= offset <= 2**62
    ):
        raise ValueError(f"'bound_ns' of a clock is a whole number from 0, not {shown(bound)}")
    return MachineClock(
        machine=machine, sessions=tuple(sessions), consumers=tuple(consumers), offset_ns=offset, bound_ns=bound
    )
