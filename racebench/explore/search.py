"""Every order of the sessions' steps, once: a search over a world that can begin again and be stepped.

Depth first and stateless: to try another choice the world begins again and the choices before it are repeated. Pure:
the world may be a server with real sessions or a simulation.
Two reductions, both leaving the set of outcomes as it is. Sleep sets: when what a session would do does not depend on
what was done instead of it, the other order need not be run. Symmetry: of sessions that are alike and have not begun,
the first goes first.
Source: Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems" (1996), chapter 5 (sleep sets).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from racebench.errors import RacebenchError
from racebench.explore.footprints import Footprint, independent


class Diverged(RacebenchError):  # noqa: N818 - as in errors.py
    """The same choices did not lead to the same place: a script, or a server, that is not deterministic."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A session that can take a step: what the step may touch, and, before its first, which others it is like."""

    session: int
    touches: Footprint
    unborn: str | None = None


class World(Protocol):
    """What is searched."""

    def begin(self) -> None:
        """Put every session at its start, on fresh ground."""

    def choices(self) -> Sequence[Choice]:
        """The sessions that can take a step now, by number; none when the schedule is at its end."""

    def take(self, session: int) -> None:
        """Have a session take its step, and wait until it is done or waits for another."""

    def end(self, schedule: Sequence[int], *, complete: bool) -> None:
        """The schedule is at its end, or (not complete) need not be gone on with: let go of it."""


@dataclass(slots=True)
class _Node:
    choices: Sequence[Choice]
    asleep: dict[int, Choice]
    chosen: Choice
    done: dict[int, Choice] = field(default_factory=dict)


@dataclass(slots=True)
class Progress:
    """How far a search came. `complete`: nothing is left to run."""

    run: int = 0
    pruned: int = 0
    complete: bool = False


def search(world: World, *, reduce: bool, go_on: Callable[[Progress], bool]) -> Progress:
    """Run every schedule of a world, or as long as `go_on` says so. Raises Diverged."""
    progress = Progress()
    path: list[_Node] = []
    while go_on(progress):
        world.begin()
        for node in path:
            if [c.session for c in world.choices()] != [c.session for c in node.choices]:
                raise Diverged(_diverged(path, node, world.choices()))
            world.take(node.chosen.session)
        finished = _extend(world, path, reduce=reduce)
        world.end([node.chosen.session for node in path], complete=finished)
        progress.run += finished
        progress.pruned += not finished
        if not _turn(path, reduce=reduce):
            progress.complete = True
            break
    return progress


def _extend(world: World, path: list[_Node], *, reduce: bool) -> bool:
    """Go on with the first choice everywhere; False if every choice is asleep: its schedules have been run."""
    while choices := world.choices():
        asleep = _asleep(path[-1]) if path and reduce else {}
        candidates = list(_candidates(choices, asleep, reduce=reduce))
        if not candidates:
            return False
        path.append(_Node(choices, asleep, candidates[0]))
        world.take(candidates[0].session)
    return True


def _turn(path: list[_Node], *, reduce: bool) -> bool:
    """Take the last turn that is left; False if there is none."""
    while path:
        node = path[-1]
        node.done[node.chosen.session] = node.chosen
        left = [c for c in _candidates(node.choices, node.asleep, reduce=reduce) if c.session not in node.done]
        if left:
            node.chosen = left[0]
            return True
        path.pop()
    return False


def _asleep(node: _Node) -> dict[int, Choice]:
    """Of what was run instead of the choice, or slept already, what does not depend on it."""
    before = {**node.asleep, **node.done}
    return {
        session: choice
        for session, choice in before.items()
        if session != node.chosen.session and independent(choice.touches, node.chosen.touches)
    }


def _candidates(choices: Iterable[Choice], asleep: dict[int, Choice], *, reduce: bool) -> Iterable[Choice]:
    begun: set[str] = set()
    for choice in choices:
        if reduce and choice.unborn is not None:
            if choice.unborn in begun:
                continue
            begun.add(choice.unborn)
        if choice.session not in asleep:
            yield choice


def _diverged(path: Sequence[_Node], node: _Node, now: Sequence[Choice]) -> str:
    at = next(number for number, each in enumerate(path) if each is node)
    before, after = ([c.session for c in choices] for choices in (node.choices, now))
    return (
        f"the same schedule took another course at step {at + 1}: sessions {before} could go on the first time, "
        f"{after} this time; is the script deterministic?"
    )
