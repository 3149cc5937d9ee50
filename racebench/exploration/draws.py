"""What sessions draw at random or read from the clock, as far as it was noticed, and what that means for a verdict.

A search explores one choice of random numbers, the same in every schedule: that of the number of a draw. Another choice
may take another way through the code. Each kind of session makes the numbers; here they are found in SQL and scripts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from racebench.core.model import Assign, Branch, Script, Sleep, Statement

_MOST_PLACES = 3
_RANDOM = re.compile(r"(?<![\w$:.])(?:random(?:_normal)?\s*\(|TABLESAMPLE\b(?!.*\bREPEATABLE\b))", re.I | re.S)
_PAUSE = re.compile(r"\bpg_sleep\w*\s*\((?:[^()]|\([^()]*\))*\)", re.IGNORECASE)
_IDENTIFIER = re.compile(r"(?<![\w$:.])(gen_random_uuid|uuidv4|uuidv7|uuid_generate_v\w+|gen_random_bytes)\s*\(", re.I)
_CLOCK = re.compile(r"(?<![\w$:.])(clock_timestamp|timeofday|statement_timestamp)\s*\(", re.IGNORECASE)


@dataclass(slots=True)
class Draws:
    """The places that draw or read, as text. Grows while the code runs.

    `choices`: random numbers that may decide what a session does. `server`: those of the server's random().
    `values`: random numbers that a script sends. `names`: random identifiers, and what libraries draw. `pauses`: random
    numbers that only a pause gets. `unseeded`: random identifiers of the server's, which differ in each schedule.
    `clocks`: the time of day.
    """

    choices: set[str] = field(default_factory=set)
    server: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    pauses: set[str] = field(default_factory=set)
    unseeded: set[str] = field(default_factory=set)
    clocks: set[str] = field(default_factory=set)

    @property
    def decide(self) -> bool:
        """Whether random numbers may decide what a session does."""
        return bool(self.choices or self.server)

    @property
    def vary(self) -> bool:
        """Whether another choice of random numbers may have another outcome."""
        return bool(self.decide or self.values or self.names)

    @property
    def differ(self) -> bool:
        """Whether sessions that run the same code draw different numbers, so that they are not alike."""
        return bool(self.decide or self.names)

    @property
    def only_names(self) -> bool:
        """Whether random identifiers are drawn, and no other numbers that may have a part in an outcome."""
        return bool(self.names) and not (self.decide or self.values)

    def add(self, other: Draws) -> None:
        """Add what other code draws and reads."""
        for name in Draws.__slots__:
            getattr(self, name).update(getattr(other, name))


def united(several: Iterable[Draws]) -> Draws:
    """What several sessions draw and read."""
    together = Draws()
    for one in several:
        together.add(one)
    return together


def in_sql(texts: Iterable[str]) -> Draws:
    """What the server draws and reads for texts of SQL, function bodies included."""
    draws = Draws()
    for text in texts:
        if _RANDOM.search(_PAUSE.sub("", text)):
            draws.server.add("random() in SQL")
        draws.unseeded.update(f"{match[1].lower()}()" for match in _IDENTIFIER.finditer(text))
        draws.clocks.update(f"{match[1].lower()}()" for match in _CLOCK.finditer(text))
    return draws


def in_script(script: Script) -> Draws:
    """What a script's own expressions draw."""
    drawn: dict[str, set[str]] = {}
    draws = Draws()

    def places(tree: Any, line: int) -> set[str]:
        here = {f"{script.path.name}:{line}"} if _draws(tree) else set[str]()
        return here.union(*(drawn.get(name, set()) for name in _variables(tree)))

    for _ in script.steps:  # a loop or a jump back may carry a number to an earlier line
        before = {name: len(found) for name, found in drawn.items()}
        for step in script.steps:
            if isinstance(step, Assign) and (found := places(step.tree, step.line)):
                drawn.setdefault(step.name, set()).update(found)
        if before == {name: len(found) for name, found in drawn.items()}:
            break
    for step in script.steps:
        if isinstance(step, Branch):
            draws.choices |= places(step.tree, step.line)
        elif isinstance(step, Statement):
            draws.values.update(*(drawn.get(name, set()) for name in (*step.parameters, *step.slots)))
        elif isinstance(step, Sleep):
            draws.pauses |= drawn.get(str(step.amount), set())
    draws.values -= draws.choices
    return draws


def _draws(tree: Any) -> bool:
    return isinstance(tree, tuple) and (
        (tree[0] == "call" and str(tree[1]).startswith("random")) or any(map(_draws, tree))
    )


def _variables(tree: Any) -> set[str]:
    if not isinstance(tree, tuple | list):
        return set()
    own = {str(tree[1])} if len(tree) == 2 and tree[0] == "var" else set[str]()
    return own.union(*map(_variables, tree))


def server_seed(draw: int, session: int) -> bytes:
    """The statement that seeds the server's random() for a session. Sessions differ, as two backends do."""
    return b"SELECT setseed(%f)" % Random(f"{draw} {session}").uniform(-1, 1)


def remarks(draws: Draws, explored: int) -> list[str]:
    """What a reader should know of the draws and the clocks; `explored`: of how many choices of random numbers."""
    texts = []
    places = draws.choices | draws.server | draws.values | draws.names
    if places:
        choices = "one choice of them was explored" if explored == 1 else f"{explored} choices of them were explored"
        texts.append(f"random numbers are drawn ({_listed(places)}); {choices}, --draws sets how many")
    if draws.pauses:
        texts.append(f"random numbers only set the length of pauses ({_listed(draws.pauses)}); pauses are left out")
    if draws.unseeded:
        texts.append(f"the server makes random identifiers ({_listed(draws.unseeded)}), other ones in each schedule")
    if draws.clocks:
        texts.append(f"the time of day is read ({_listed(draws.clocks)}); other times of day are not explored")
    return texts


def _listed(places: set[str]) -> str:
    # One session may know no more than another: "by a name …, or by another thread" says what "by a name …" says.
    listed = [place for place in sorted(places) if not any(other.startswith(f"{place}, or ") for other in places)]
    return ", ".join(listed[:_MOST_PLACES]) + (" …" if len(listed) > _MOST_PLACES else "")
