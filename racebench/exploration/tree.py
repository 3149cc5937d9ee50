"""The tree of a search: its nodes, which choices are taken at each, and parts of it that can be searched by themselves.

search.py walks in it. A part that another process searches is named by choices and by what is asleep there; it has
the same schedules in it wherever it is searched (docs/decisions/0019-jobs.md).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from racebench.exploration.choices import cut_of, session_of
from racebench.exploration.independence import Footprint, independent


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


@dataclass(slots=True)
class Node:
    """A place in a schedule where a step is chosen. `done`: choices of which everything was run.

    `given`: what is left of it is another part of the search.
    """

    choices: Sequence[Choice]
    asleep: dict[int, Choice]
    chosen: Choice
    state: Hashable = None
    done: dict[int, Choice] = field(default_factory=dict)
    given: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Decides which choices are taken at all."""

    reduce: bool
    most_switches: int | None

    @property
    def sleeps(self) -> bool:
        """Whether of two independent steps only one order is run."""
        return self.reduce and self.most_switches is None

    def candidates(self, path: Sequence[Node], node: Node) -> list[Choice]:
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

    def left(self, path: Sequence[Node], node: Node) -> list[Choice]:
        """The choices of a node after a path that were neither taken nor given away."""
        if node.given:
            return []
        return [choice for choice in self.candidates(path, node) if choice.number not in node.done]


def asleep_after(node: Node) -> dict[int, Choice]:
    """The choices that were taken instead of the chosen one, or were asleep already, and are independent of it."""
    before = {**node.asleep, **node.done}
    return {
        number: choice
        for number, choice in before.items()
        if choice.session != node.chosen.session and independent(choice.footprint, node.chosen.footprint)
    }


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a search: the schedules that begin with some choices, and go on with none of those that are asleep.

    `asleep`: the other choices at that place; what begins with them is in another part, or has another schedule that
    stands for it. A Part is a value that is sent from one process to another.
    """

    after: tuple[int, ...] = ()
    asleep: tuple[Choice, ...] = ()

    def begins_asleep(self) -> dict[int, Choice]:
        """What is asleep where the part begins."""
        return {choice.number: choice for choice in self.asleep}


#: The whole of a search.
WHOLE = Part()


class Rest:
    """What is left of a search between two schedules. `kept`: the first nodes of the path are those of its part."""

    def __init__(self, path: Sequence[Node], bound: Bound, kept: int) -> None:
        self._path, self._bound, self._kept = path, bound, kept

    def take(self) -> Part | None:
        """Take away the part that begins first, which is the largest as a rule; None if nothing is left."""
        for place in self._places():
            part = self._part(place)
            self._path[place].given = True
            return part
        return None

    def parts(self) -> tuple[Part, ...]:
        """All that is left, as parts."""
        return tuple(map(self._part, self._places()))

    def _places(self) -> Iterator[int]:
        for place in range(self._kept, len(self._path)):
            node = self._path[place]
            left = self._bound.left(self._path[:place], node)
            if any(choice.number != node.chosen.number for choice in left):
                yield place

    def _part(self, place: int) -> Part:
        node = self._path[place]
        before = {**node.asleep, **node.done, node.chosen.number: node.chosen}
        return Part(
            after=tuple(earlier.chosen.number for earlier in self._path[:place]),
            asleep=tuple(map(_portable, before.values())),
        )


def _portable(choice: Choice) -> Choice:
    """A choice without what only this process knows of it: then it counts as dependent on more steps, not on fewer."""
    return Choice(choice.number, replace(choice.footprint, read=None, becomes=None, adds=False))
