"""A search that is divided into parts runs each schedule once, however it is divided and whoever is lost."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import STEP, Simulated, Stateful, always

from racebench.exploration.search import Progress, search
from racebench.exploration.tree import WHOLE, Part, Rest

SESSIONS = st.lists(st.lists(STEP, min_size=1, max_size=3), min_size=2, max_size=3)


class Divided:
    """A search whose parts are taken away, and given back to be searched later, as it is drawn.

    `lost`: how often a search is ended in its middle, and what it has left is searched by another.
    """

    def __init__(self, make: Callable[[], Simulated], seed: int, *, reduce: bool, lost: bool = False) -> None:
        self.random, self.lost = Random(seed), lost
        self.parts = [WHOLE]
        self.worlds: list[Simulated] = []
        self.left: tuple[Part, ...] | None = None
        self.divisions = self.losses = 0
        while self.parts:
            self.left = None
            part = pickle.loads(pickle.dumps(self.parts.pop(self.random.randrange(len(self.parts)))))
            self.worlds.append(make())
            found = search(self.worlds[-1], reduce=reduce, go_on=self.goes_on, part=part, sharing=self)
            assert found.complete or self.left is not None
            self.parts += self.left or ()

    def goes_on(self, _progress: Progress) -> bool:
        return self.left is None

    def between(self, rest: Rest) -> None:
        if self.random.random() < 0.3 and (part := rest.take()) is not None:
            assert part not in rest.parts()
            self.parts.append(part)
            self.divisions += 1
        elif self.lost and self.random.random() < 0.3:
            self.left = rest.parts()
            self.losses += 1

    @property
    def ended(self) -> Counter[tuple[int, ...]]:
        return Counter(schedule for world in self.worlds for schedule in world.ended)

    @property
    def states(self) -> set[object]:
        return {state for world in self.worlds for state in world.states}


@settings(max_examples=15, deadline=None)
@given(SESSIONS, st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_the_parts_of_a_search_have_the_schedules_of_the_whole_each_once(
    sessions: list[list[tuple[int, ...]]], reduce: bool, alike: bool, lost: bool, seed: int
) -> None:
    if alike:
        sessions = [sessions[0]] * len(sessions)
    whole = Simulated(sessions, alike=alike)
    search(whole, reduce=reduce, go_on=always)
    divided = Divided(lambda: Simulated(sessions, alike=alike), seed, reduce=reduce, lost=lost)
    assert divided.ended == Counter(whole.ended)


@settings(max_examples=15, deadline=None)
@given(SESSIONS, st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_parts_that_go_on_from_a_state_once_each_have_the_outcomes_of_the_whole(
    sessions: list[list[tuple[int, ...]]], alike: bool, lost: bool, seed: int
) -> None:
    if alike:
        sessions = [sessions[0]] * len(sessions)
    every = Simulated(sessions, alike=alike)
    search(every, reduce=False, go_on=always)
    divided = Divided(lambda: Stateful(sessions, alike=alike), seed, reduce=True, lost=lost)
    assert divided.states == set(every.states)


def test_a_search_of_some_size_is_divided_many_times() -> None:
    sessions = [[(0,), (0, 1)], [(0,), (0, 2)], [(1,), (0, 3)]]
    divided = Divided(lambda: Simulated(sessions), 1, reduce=True, lost=True)
    assert divided.divisions > 5
    assert divided.losses > 5


def test_of_what_is_left_the_part_that_begins_first_is_taken() -> None:
    taken: list[Part] = []

    class Taking:
        def between(self, rest: Rest) -> None:
            if not taken:
                while (part := rest.take()) is not None:
                    taken.append(part)
                assert rest.parts() == ()

    world = Simulated([[(0, 1)] * 2, [(0, 2)] * 2])
    assert search(world, reduce=False, go_on=always, sharing=Taking()).complete
    assert len(world.ended) == 1
    assert [len(part.after) for part in taken] == [0, 1]
    assert [[choice.number for choice in part.asleep] for part in taken] == [[1], [1]]
