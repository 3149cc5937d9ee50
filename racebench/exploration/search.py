"""Runs every schedule of a world once: the world begins again for each, and takes one step at a time.

Depth first and stateless: to try another choice the world begins again and the choices before it are repeated. Without
I/O: the world may be a server with real sessions (world.py) or a simulation.
There are two reductions, and both keep the set of outcomes. Sleep sets: of two independent steps, only one order is
run. Symmetry: of sessions that are alike, the first takes the first step.
Source: Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems" (1996), chapter 5 (sleep sets).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random
from typing import Any, Protocol

from racebench.core.errors import UsageProblem
from racebench.exploration.choices import Cut, cut_of, session_of, strand_of, text_of
from racebench.exploration.choices import choice as choice_of
from racebench.exploration.independence import Footprint, independent
from racebench.exploration.steps import describe

#: How often a path is repeated if it leads to another state than before.
_ATTEMPTS = 10


class Unsteady(Exception):  # noqa: N818 - no error: the search goes on
    """The same choices must be taken once more: a step had another of its possible effects, or a fault stopped it.

    Any method of a world may raise it, a limited number of times: then a world accepts what a step did.
    """


class Diverged(UsageProblem):
    """The same choices did not lead to the same state: the script or the server is not deterministic."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A step that a session can take, and what it may touch.

    `number`: says which session takes it, and how (choices.py). `likeness`: swapping two sessions for which it is equal
    changes nothing but their names; None for a session that is like no other. `step` identifies the step when the
    schedule is repeated.
    """

    number: int
    footprint: Footprint
    likeness: Hashable = None
    step: tuple[Any, ...] = ()

    @property
    def session(self) -> int:
        """The session that takes the step. Steps of one session are never independent of each other."""
        return session_of(self.number)


class World(Protocol):
    """What is searched: sessions that take steps, and can begin again."""

    def begin(self) -> None:
        """Put every session at its start, in a state that no earlier schedule has touched."""

    def choices(self) -> Sequence[Choice]:
        """The steps that can be taken now, by session; none when the schedule is at its end."""

    def state(self) -> Hashable:
        """Equal for moments after which the same outcomes are possible, whatever came before; None if not known."""

    def take(self, number: int) -> Footprint | None:
        """Have the session of a choice take its step, and wait until it is done or waits for another session.

        Returns what was touched, if that is other than the choice said: what other sessions do because of a step
        belongs to it. Raises Unsteady.
        """

    def end(self, schedule: Sequence[int], *, complete: bool) -> None:
        """End the schedule; if it is not complete, abandon it: another schedule stands for it."""


@dataclass(slots=True)
class _Node:
    choices: Sequence[Choice]
    asleep: dict[int, Choice]
    chosen: Choice
    state: Hashable = None
    done: dict[int, Choice] = field(default_factory=dict)


@dataclass(slots=True)
class Progress:
    """The numbers of schedules that were run, and that were pruned. `complete`: none is left."""

    run: int = 0
    pruned: int = 0
    complete: bool = False


def search(
    world: World,
    *,
    reduce: bool,
    go_on: Callable[[Progress], bool],
    most_switches: int | None = None,
    after: Sequence[int] = (),
) -> Progress:
    """Run every schedule of a world, for as long as `go_on` returns True. Raises Diverged.

    `after`: only schedules that begin with these choices.
    `most_switches`: only schedules with at most so many switches from one session to another; then without sleep sets,
    because the schedule that stands for a pruned one may have more switches.
    Source: Musuvathi and Qadeer, "Iterative Context Bounding for Systematic Testing of Multithreaded Programs" (2007).
    """
    bound = _Bound(reduce=reduce, most_switches=most_switches)
    progress = Progress()
    #: The states from which everything that may follow was run.
    finished_states: set[Hashable] = set()
    path: list[_Node] = []
    while go_on(progress):
        known = len(path)
        try:
            _return_to(world, path)
            if len(path) < len(after):
                _begin_with(world, path, after)
            finished = _extend(world, path, bound, finished_states)
            world.end([node.chosen.number for node in path], complete=finished)
        except Unsteady:
            _leave(world, [node.chosen.number for node in path])
            # A session may have lost its locks, and others may have gone on, before its own next step showed the fault.
            del path[known:]
            continue
        progress.run += finished
        progress.pruned += not finished
        if not _backtrack(path, bound, finished_states, kept=len(after)):
            progress.complete = True
            break
    return progress


@contextlib.contextmanager
def left_if_unsteady(world: World, schedule: Sequence[int]) -> Iterator[None]:
    """End a schedule that must be taken once more; the block ends then."""
    try:
        yield
    except Unsteady:
        _leave(world, schedule)


def _leave(world: World, schedule: Sequence[int]) -> None:
    """End a schedule that is taken once more; if that is not possible, nothing is left to end."""
    with contextlib.suppress(Unsteady):
        world.end(schedule, complete=False)


def _return_to(world: World, path: Sequence[_Node]) -> None:
    """Begin again and repeat the choices of a path; several times, if two woken sessions went on in another order."""
    for attempt in range(_ATTEMPTS):
        world.begin()
        schedule: list[int] = []
        for node in path:
            now = world.choices()
            if [(c.number, c.step) for c in now] != [(c.number, c.step) for c in node.choices]:
                if attempt + 1 == _ATTEMPTS:
                    raise Diverged(_diverged(path, node, now))
                world.end(schedule, complete=False)
                break
            _take(world, node)
            schedule.append(node.chosen.number)
        else:
            return


def _extend(world: World, path: list[_Node], bound: _Bound, finished_states: AbstractSet[Hashable]) -> bool:
    """Take the first choice everywhere; False if no choice is left, or the state is one that is finished.

    None is left if all are asleep, or would be a switch too many.
    """
    while choices := world.choices():
        asleep = _asleep(path[-1]) if path and bound.sleeps else {}
        state = world.state() if bound.sleeps else None
        if state in finished_states:
            return False
        node = _Node(choices, asleep, choices[0], state)
        candidates = bound.candidates(path, node)
        if not candidates:
            return False
        node.chosen = candidates[0]
        path.append(node)
        _take(world, node)
    return True


def _take(world: World, node: _Node) -> None:
    touched = world.take(node.chosen.number)
    if touched is not None:
        node.chosen = replace(node.chosen, footprint=touched)


def _begin_with(world: World, path: list[_Node], choices: Sequence[int]) -> None:
    """Take the rest of some choices, of which the path has the first; raises Diverged if one cannot be taken."""
    for number in choices[len(path) :]:
        able = world.choices()
        chosen = next((choice for choice in able if choice.number == number), None)
        if chosen is None:
            world.end([node.chosen.number for node in path], complete=False)
            who = text_of(number)
            raise Diverged(f"the same schedule took another course at step {len(path) + 1}: {who} could not go on")
        path.append(_Node(able, {}, chosen))
        _take(world, path[-1])


def _backtrack(path: list[_Node], bound: _Bound, finished_states: set[Hashable], *, kept: int = 0) -> bool:
    """Go back to the last node with a choice that was not taken, and choose it; False if there is none.

    The states of the nodes without one are finished: whatever may follow was run, also what follows a choice that is
    asleep, because that leads to a state that follows a node that was left before.

    The first nodes that are to be `kept` have no other choice.
    """
    while len(path) > kept:
        node = path[-1]
        node.done[node.chosen.number] = node.chosen
        left = [c for c in bound.candidates(path[:-1], node) if c.number not in node.done]
        if left:
            node.chosen = left[0]
            return True
        if node.state is not None:
            finished_states.add(node.state)
        path.pop()
    return False


def _asleep(node: _Node) -> dict[int, Choice]:
    """The choices that were taken instead of the chosen one, or were asleep already, and are independent of it."""
    before = {**node.asleep, **node.done}
    return {
        number: choice
        for number, choice in before.items()
        if choice.session != node.chosen.session and independent(choice.footprint, node.chosen.footprint)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """Decides which choices are taken at all."""

    reduce: bool
    most_switches: int | None

    @property
    def sleeps(self) -> bool:
        return self.reduce and self.most_switches is None

    def candidates(self, path: Sequence[_Node], node: _Node) -> list[Choice]:
        """The choices of a node after a path: cuts last, and those of the session that went last first."""
        last = path[-1].chosen.session if path else None
        known: set[Hashable] = set()
        candidates = []
        for choice in node.choices:
            if self.reduce and choice.likeness is not None:
                if choice.likeness in known:
                    continue
                known.add(choice.likeness)
            if choice.number not in node.asleep:
                candidates.append(choice)
        candidates.sort(key=lambda choice: (cut_of(choice.number) is not None, choice.session != last))
        if self.most_switches is not None and last is not None:
            schedule = [earlier.chosen.session for earlier in path]
            if sum(one != other for one, other in pairwise(schedule)) >= self.most_switches:
                candidates = [choice for choice in candidates if choice.session == last]
        return candidates


def random_search(
    world: World, *, depth: int, steps: int, random: Random, go_on: Callable[[Progress], bool], cuts: int = 0
) -> Progress:
    """Run schedules drawn by priority, for as long as `go_on` returns True.

    Each session has a random priority, and the one with the highest takes the next step; at depth − 1 random places of
    `steps` that session's priority falls below all others. A run finds a bug of that depth with a chance of at least
    1 / (sessions × steps^(depth − 1)): see `chance`. From 0 to `cuts` connections are cut, each at a random step.
    Source: Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs" (ASPLOS 2010).
    """
    progress = Progress()
    while go_on(progress):
        schedule: list[int] = []
        with left_if_unsteady(world, schedule):
            _draw(world, schedule, depth=depth, steps=steps, random=random, cuts=cuts)
            world.end(schedule, complete=True)
            progress.run += 1
    return progress


def _draw(world: World, schedule: list[int], *, depth: int, steps: int, random: Random, cuts: int) -> None:
    """Run one schedule drawn by priority up to its end; its choices are appended to `schedule`. Raises Unsteady."""
    world.begin()
    priorities: dict[int, float] = {}
    places = {random.randrange(max(1, steps)) for _ in range(depth - 1)}
    planned = [(random.randrange(max(1, steps)), random.choice([*Cut])) for _ in range(random.randint(0, cuts))]
    while able := world.choices():
        choices = [choice for choice in able if cut_of(choice.number) is None]
        for choice in choices:
            if choice.session not in priorities:
                priorities[choice.session] = 1.0 + random.random()
        chosen = max(choices, key=lambda choice: priorities[choice.session])
        if len(schedule) in places:
            places.discard(len(schedule))
            priorities[chosen.session] = -float(len(schedule))
            chosen = max(choices, key=lambda choice: priorities[choice.session])
        for place, cut in planned:
            cut_off = choice_of(chosen.session, strand=strand_of(chosen.number), cut=cut)
            if place <= len(schedule) and any(choice.number == cut_off for choice in able):
                chosen = replace(chosen, number=cut_off)
                planned.remove((place, cut))
                break
        schedule.append(chosen.number)
        world.take(chosen.number)


def chance(*, sessions: int, steps: int, depth: int, runs: int, cuts: int = 0) -> float:
    """The least probability that a number of random runs finds a bug of a depth, with as many cuts as that needs."""
    one = 1.0 / (sessions * max(1, steps) ** (depth - 1) * (cuts + 1) * (len(Cut) * max(1, steps)) ** cuts)
    return -math.expm1(runs * math.log1p(-one)) if one < 1 else 1.0


def _diverged(path: Sequence[_Node], node: _Node, now: Sequence[Choice]) -> str:
    place = next(index for index, other in enumerate(path) if other is node)
    first, second = ({c.number: c.step for c in choices} for choices in (node.choices, now))
    for number in sorted(first.keys() | second.keys()):
        if first.get(number) != second.get(number):
            break
    before, after = (_would(steps.get(number)) for steps in (first, second))
    return (
        f"the same schedule took another course at step {place + 1}: {text_of(number)} {before} the first time, "
        f"{after} this time; what is not deterministic, and depends on more than its order, cannot be explored"
    )


def _would(step: tuple[Any, ...] | None) -> str:
    if step is None:
        return "could not go on"
    return f"was to send '{describe(step)}'" if step else "could go on"
