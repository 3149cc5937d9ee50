"""A fault, and what racebench promises under it. The families have the faults themselves.

A fault is arranged before the command starts (settings of a role, limits of the machine, a proxy), or strikes while it
runs, at a moment that the trial's seed draws. The promises are the table of docs/reliability.md, and `look` holds
racebench to them.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.faults.grounds import Ground, Layout
from benchmarks.faults.proxy import Cut
from benchmarks.faults.scene import Scene

#: Commands whose workers write rows, without those that run others of them; and those that explore.
LOADED = ("run", "run several", "run --call")
EXPLORING = ("explore", "explore --call", "demo")
#: One command for each way of connecting; the others connect as one of these.
CONNECTING = ("run", "run --call", "explore", "explore --call", "pytest")
#: One command for each way of ending.
ENDING = ("run", "compare", "explore", "demo", "pytest", "check")
EVERY = (*LOADED, "compare", "matrix", *EXPLORING, "pytest", "check")

#: The exit codes of a command that ran to its end: a verdict, or the database failed.
JUDGED = (0, 3, 5)
ENDED = (*JUDGED, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What racebench promises under a fault. `codes`: its exit codes, those of pytest's command left out."""

    does: str
    verdict: str
    remains: str = "nothing"
    codes: tuple[int, ...] = ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault. `text`: what happens. `elsewhere`: why the commands that are not in `drivers` are left out.

    `arrange`: prepare the ground of a cell. `limit`: prepare one trial, for the length of a block. `cut`: what the
    proxy does. `piece`: the most bytes that it sends at once. `strike`: what happens while the command runs; whether it
    did. `innocent`: the strategies that are asked about. `kills`: the command is killed, so it may leave what
    `racebench server clean` drops. `loses`: the server forgets commits of your own code. `names`: a setting under which
    your own function may break its rule, if racebench names it.
    """

    name: str
    family: str
    text: str
    drivers: tuple[str, ...]
    promise: Promise
    elsewhere: str = ""
    layout: Layout = field(default_factory=Layout)
    arrange: Callable[[Ground], None] = lambda _ground: None
    limit: Callable[[Scene], contextlib.AbstractContextManager[None]] = lambda _scene: contextlib.nullcontext()
    cut: Callable[[random.Random], Cut] | None = None
    piece: int | None = None
    strike: Callable[[Scene], bool] = lambda _scene: True
    innocent: tuple[str, ...] = ()
    kills: bool = False
    loses: bool = False
    names: str = ""
