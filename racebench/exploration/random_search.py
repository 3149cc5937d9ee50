"""Runs schedules of a world that are drawn at random by priority, where there are too many to run them all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random

from racebench.exploration.choices import Cut, cut_of, strand_of
from racebench.exploration.choices import choice as choice_of
from racebench.exploration.search import Progress, World, left_if_unsteady


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
