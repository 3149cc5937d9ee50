"""Runs every schedule of a world once: the world begins again for each, and takes one step at a time.

Depth first and stateless: to try another choice the world begins again and the choices before it are repeated. Without
I/O: the world may be a server with real sessions (world.py) or a simulation.
There are two reductions, and both keep the set of outcomes. Sleep sets: of two independent steps, only one order is
run. Symmetry: of sessions that are alike, the first takes the first step.
Source: Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems" (1996), chapter 5 (sleep sets).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Protocol

from racebench.core.errors import UsageProblem
from racebench.exploration.choices import text_of
from racebench.exploration.independence import Footprint
from racebench.exploration.steps import describe
from racebench.exploration.tree import WHOLE, Bound, Choice, Node, Part, Rest, asleep_after

#: How often a path is repeated if it leads to another state than before.
_ATTEMPTS = 10


class Unsteady(Exception):  # noqa: N818 - no error: the search goes on
    """The same choices must be taken once more: a step had another of its possible effects, or a fault stopped it.

    Any method of a world may raise it, a limited number of times: then a world accepts what a step did.
    """


class Diverged(UsageProblem):
    """The same choices did not lead to the same state: the script or the server is not deterministic."""


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


class Sharing(Protocol):
    """Shares a search with other processes."""

    def between(self, rest: Rest) -> None:
        """Take parts of what is left of the search, or none. It is called after each schedule."""


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
    part: Part = WHOLE,
    sharing: Sharing | None = None,
) -> Progress:
    """Run every schedule of a world, for as long as `go_on` returns True. Raises Diverged.

    `part`: only its schedules. `sharing`: takes parts of these that are not run here then.
    `most_switches`: only schedules with at most so many switches from one session to another; then without sleep sets,
    because the schedule that stands for a pruned one may have more switches.
    Source: Musuvathi and Qadeer, "Iterative Context Bounding for Systematic Testing of Multithreaded Programs" (2007).
    """
    bound = Bound(reduce=reduce, most_switches=most_switches)
    progress = Progress()
    #: The states from which everything that may follow was run.
    finished_states: set[Hashable] = set()
    path: list[Node] = []
    while go_on(progress):
        known = len(path)
        try:
            _return_to(world, path)
            if len(path) < len(part.after):
                _begin_with(world, path, part.after)
            finished = _extend(world, path, bound, finished_states, part)
            world.end([node.chosen.number for node in path], complete=finished)
        except Unsteady:
            _leave(world, [node.chosen.number for node in path])
            # A session may have lost its locks, and others may have gone on, before its own next step showed the fault.
            del path[known:]
            continue
        progress.run += finished
        progress.pruned += not finished
        if sharing is not None:
            sharing.between(Rest(path, bound, kept=len(part.after)))
        if not _backtrack(path, bound, finished_states, kept=len(part.after)):
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


def _return_to(world: World, path: Sequence[Node]) -> None:
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


def _extend(world: World, path: list[Node], bound: Bound, finished_states: AbstractSet[Hashable], part: Part) -> bool:
    """Take the first choice everywhere; False if no choice is left, or the state is one that is finished.

    None is left if all are asleep, or would be a switch too many.
    """
    while choices := world.choices():
        if len(path) == len(part.after):
            asleep = part.begins_asleep()
        else:
            asleep = asleep_after(path[-1]) if bound.sleeps else {}
        state = world.state() if bound.sleeps else None
        if state in finished_states:
            return False
        node = Node(choices, asleep, choices[0], state)
        candidates = bound.candidates(path, node)
        if not candidates:
            return False
        node.chosen = candidates[0]
        path.append(node)
        _take(world, node)
    return True


def _take(world: World, node: Node) -> None:
    touched = world.take(node.chosen.number)
    if touched is not None:
        node.chosen = replace(node.chosen, footprint=touched)


def _begin_with(world: World, path: list[Node], choices: Sequence[int]) -> None:
    """Take the rest of some choices, of which the path has the first; raises Diverged if one cannot be taken."""
    for number in choices[len(path) :]:
        able = world.choices()
        chosen = next((choice for choice in able if choice.number == number), None)
        if chosen is None:
            world.end([node.chosen.number for node in path], complete=False)
            who = text_of(number)
            raise Diverged(f"the same schedule took another course at step {len(path) + 1}: {who} could not go on")
        path.append(Node(able, {}, chosen))
        _take(world, path[-1])


def _backtrack(path: list[Node], bound: Bound, finished_states: set[Hashable], *, kept: int = 0) -> bool:
    """Go back to the last node with a choice that was not taken, and choose it; False if there is none.

    The states of the nodes without one are finished: whatever may follow was run, also what follows a choice that is
    asleep, because that leads to a state that follows a node that was left before.

    The first nodes that are to be `kept` have no other choice.
    """
    while len(path) > kept:
        node = path[-1]
        node.done[node.chosen.number] = node.chosen
        left = bound.left(path[:-1], node)
        if left:
            node.chosen = left[0]
            return True
        if node.state is not None:
            finished_states.add(node.state)
        path.pop()
    return False


def _diverged(path: Sequence[Node], node: Node, now: Sequence[Choice]) -> str:
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
