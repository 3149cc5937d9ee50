"""All that observe a run are given each operation once, at whichever look it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from racebench.analysis.streaming.duplicates import SuspectedDuplicates
from racebench.history import tail
from racebench.load import observation
from racebench.load.observation import Observation
from recorded_sessions import Sessions


class Clock:
    """The clocks of the observation, moved by the test; all that is done takes no time."""

    now_ns = 0

    def perf_counter_ns(self) -> int:
        return self.now_ns

    def process_time_ns(self) -> int:
        return self.now_ns


class Every:
    """An Observer that looks in steps of `pause_ns`, and at the end if `looks_at_end`."""

    def __init__(self, pause_ns: int, *, needs_suspects: bool = True, looks_at_end: bool = False) -> None:
        self.pause_ns, self.needs_suspects, self.looks_at_end = pause_ns, needs_suspects, looks_at_end
        self.taken: list[int] = []
        self.suspects: list[int] = []
        self.looks: list[list[int]] = []
        self.ended = False

    def begin(self, start_ns: int, _measured_ns: int, _offset_ns: int) -> int:
        return start_ns + self.pause_ns

    def take(self, records: npt.NDArray[Any], suspects: npt.NDArray[Any]) -> None:
        self.taken += records["version"].tolist()
        self.suspects += suspects["version"].tolist()

    def look(self) -> None:
        self.looks.append([*self.taken])

    def next_ns(self, now_ns: int, _cost_ns: int) -> int | None:
        return None if self.ended else now_ns + self.pause_ns

    def finish(self) -> None:
        self.look()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(observation, "time", clock)
    return clock


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    with ExitStack() as stack:
        yield Sessions(tmp_path, stack)


def test_each_observer_looks_at_its_own_times_and_has_what_was_read_at_any(clock: Clock, sessions: Sessions) -> None:
    often, rarely = Every(2), Every(5)
    observed = Observation(sessions.paths(), [often, rarely])
    observed.begin(0)
    for now_ns in range(1, 6):
        clock.now_ns = now_ns
        sessions.record(1, now_ns)
        observed.look()
    assert often.looks == [[1, 2], [1, 2, 3, 4]]
    assert rarely.looks == [[1, 2, 3, 4, 5]]
    assert often.taken == rarely.taken
    assert observed.pause_s == pytest.approx(1e-9)


def test_the_files_are_read_once_however_many_look(
    clock: Clock, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    read = tail.Tail.read

    def counted(self: tail.Tail) -> bytes:
        reads.append(self._path)
        return read(self)

    monkeypatch.setattr(tail.Tail, "read", counted)
    observed = Observation(sessions.paths(), [Every(2), Every(2)])
    observed.begin(0)
    observed.look()
    assert reads == []
    clock.now_ns = 2
    observed.look()
    assert reads == sessions.paths()


def test_numbers_that_were_said_before_an_observer_ended_are_known_to_the_other(
    clock: Clock, sessions: Sessions
) -> None:
    first, second = Every(1), Every(3)
    observed = Observation(sessions.paths(), [first, second])
    observed.begin(0)
    sessions.record(1, 7)
    first.ended = True
    clock.now_ns = 1
    observed.look()
    sessions.record(2, 7)
    clock.now_ns = 3
    observed.look()
    assert (first.taken, second.taken) == ([7], [7, 7])
    assert (first.suspects, second.suspects) == ([], [7])


def test_suspects_are_not_searched_for_once_no_observer_needs_them(clock: Clock, sessions: Sessions) -> None:
    suspected = SuspectedDuplicates()
    observed = Observation(sessions.paths(), [Every(1, needs_suspects=False)], suspected)
    observed.begin(0)
    sessions.record(1, 7)
    clock.now_ns = 1
    observed.look()
    assert suspected.acknowledged == 0


def test_at_the_end_only_those_look_that_say_so(clock: Clock, sessions: Sessions) -> None:
    last, other = Every(9, looks_at_end=True), Every(9)
    observed = Observation(sessions.paths(), [last, other])
    observed.begin(0)
    sessions.record(1, 7)
    observed.finish()
    assert (last.looks, other.looks) == ([[7]], [])
    assert observed.pause_s == Observation().pause_s == float("inf")
