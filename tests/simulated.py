"""Worlds of a search without a server: sessions that read and write cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import strategies as st

from racebench.exploration.independence import Footprint
from racebench.exploration.search import Progress
from racebench.exploration.symmetry import Pasts
from racebench.exploration.tree import Choice

#: A step of a session: it reads a cell, or writes one.
STEP = st.one_of(st.tuples(st.integers(0, 1)), st.tuples(st.integers(0, 1), st.integers(1, 3)))


class Simulated:
    """Sessions that read cells, (cell,), and write them, (cell, what is added to the last read); nothing else."""

    def __init__(self, sessions: Sequence[Sequence[tuple[int, ...]]], *, alike: bool = False) -> None:
        self.sessions = sessions
        self.alike = alike
        self.ended: list[tuple[int, ...]] = []
        self.states: Counter[object] = Counter()

    def begin(self) -> None:
        self.at = [0] * len(self.sessions)
        self.cells: dict[int, int] = {}
        self.seen: list[list[int]] = [[] for _ in self.sessions]
        self.pasts = Pasts()

    def choices(self) -> list[Choice]:
        found = []
        for number, (at, steps) in enumerate(zip(self.at, self.sessions, strict=True), 1):
            if at < len(steps):
                found.append(Choice(number, _touches(steps[at]), self.pasts.of(number) if self.alike else None))
        return found

    def state(self) -> object:
        """Nothing is known of its states."""
        return None

    def take(self, session: int) -> None:
        step = self.sessions[session - 1][self.at[session - 1]]
        self.at[session - 1] += 1
        self.pasts.took(session, _touches(step))
        seen = self.seen[session - 1]
        if len(step) == 1:
            seen.append(self.cells.get(step[0], 0))
        else:
            self.cells[step[0]] = step[1] + (seen[-1] if seen else 0)

    def end(self, schedule: Sequence[int], *, complete: bool) -> None:
        if complete:
            self.ended.append(tuple(schedule))
            seen = sorted(map(tuple, self.seen), key=str) if self.alike else list(map(tuple, self.seen))
            self.states[(tuple(seen), tuple(sorted(self.cells.items())))] += 1


def _touches(step: tuple[int, ...]) -> Footprint:
    return Footprint.READ if len(step) == 1 else Footprint.ANYTHING


def always(_progress: Progress) -> bool:
    return True


class Stateful(Simulated):
    """It knows its states: the cells, and of each session its place and what it has read."""

    def state(self) -> object:
        return tuple(self.at), tuple(sorted(self.cells.items())), tuple(map(tuple, self.seen))
