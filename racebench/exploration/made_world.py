"""The parts of a world on a server: makes them, makes them again after a fault, and says what was seen of them.

preparation.py makes the parts of one world; searched_world.py runs schedules in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from racebench.core.errors import UsageProblem
from racebench.core.target import Target
from racebench.exploration.draws import Draws, united
from racebench.exploration.faults import PROBLEMS, Fault
from racebench.exploration.preparation import Preparation, prepare
from racebench.exploration.repeats import MOST, Repeats, await_server
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Beginning
from racebench.exploration.reuse import Reuse
from racebench.exploration.scheduler import Scheduler
from racebench.exploration.search import Unsteady
from racebench.exploration.sessions.consumer import ConsumerSession
from racebench.exploration.sessions.drivers import OtherDriver
from racebench.exploration.sessions.session import StrategySession


class MadeWorld:
    """A world on a server that can be made again. `reuse`: what worlds before have left open; None to leave nothing.

    When a fault has stopped a schedule, the world is made again, and the schedule is repeated, at most `repeats` times
    in a row. `made_outside`: sentences about what was made outside the schema; complete when the world is closed.
    """

    strategy_sessions: Sequence[StrategySession]
    consumer: ConsumerSession | None
    scheduler: Scheduler
    _preparation: Preparation

    def __init__(
        self, target: Target, request: ExplorationRequest, *, repeats: int = MOST, reuse: Reuse | None = None
    ) -> None:
        self.made_outside: list[str] = []
        self._target, self._request, self._reuse = target, request, reuse
        self._stack = contextlib.ExitStack()
        self._before = _Before()
        self._repeats = Repeats(repeats)

    def _adopt(self, preparation: Preparation) -> None:
        """Take over the parts of a world that has just been made; each time that it is made again, too."""
        self._preparation = preparation
        self.strategy_sessions, self.consumer = preparation.strategy_sessions, preparation.consumer
        self.scheduler = preparation.scheduler

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove everything; what cannot be removed is in a note of the problem, if there is one, else it is raised."""
        self._stack.__exit__(kind, problem, traceback)

    @property
    def schema(self) -> str:
        """The schema that the tables are in."""
        return self._preparation.schema

    @property
    def callables(self) -> Mapping[str, str]:
        """What each session runs that runs code of the application's, by the session's name."""
        return self._preparation.kind.callables(self._request.strategy, len(self.strategy_sessions))

    @property
    def triggers(self) -> tuple[str, ...]:
        """The triggers of the tables."""
        return self._preparation.facts.triggers

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions that run several statements inside a step."""
        seen = (session.functions for session in self.strategy_sessions)
        return tuple(sorted(self._before.functions.union(self._preparation.facts.functions, *seen)))

    @property
    def draws(self) -> Draws:
        """What the sessions were seen to draw and read."""
        return united((self._before.draws, *(session.draws for session in self.strategy_sessions)))

    @property
    def _batches(self) -> bool:
        """Whether a session was seen to send statements that cannot be divided into steps."""
        return self._before.batches or any(session.batches for session in self.strategy_sessions)

    @property
    def faults(self) -> Sequence[Fault]:
        """The faults that stopped a schedule, in order."""
        return self._repeats.faults

    @property
    def leftovers(self) -> tuple[str, ...]:
        """Why schedules so far may have begun in different states, as sentences."""
        return tuple({**self._before.leftovers, **dict.fromkeys(self._preparation.isolation.named)})

    @property
    def beginning(self) -> Beginning:
        """What the schedules so far began with."""
        return self._preparation.isolation.beginning

    def check_leftovers(self) -> None:
        """Restore what the last schedule left, and name what is left all the same. No schedule may be under way.

        Raises Unsteady if a fault prevents that: what the last schedule left is not known then.
        """
        self._repeats.part(self._check_leftovers)

    def _check_leftovers(self) -> None:
        self._mend()
        self._preparation.isolation.check()

    def _mend(self) -> None:
        for session in self.scheduler.sessions:
            session.mend()

    def _make_first(self) -> None:
        """Make the world for the first time; again while faults prevent it. Raises Fault at one too many."""
        if not self._opened():
            while self._repeats.stopped:
                with contextlib.suppress(Unsteady):
                    self._open_again()

    def _opened(self) -> bool:
        """Make the world; False if a fault prevents it, and it may be tried again."""
        try:
            self._open()
        except PROBLEMS as problem:
            self._repeats.stop(problem)
            return False
        return True

    def _open_again(self) -> None:
        """Make the world again after a fault, when the server can be reached. Raises Unsteady at another fault."""
        last = self.faults[-1]
        if unreachable := await_server(self._target):
            raise Fault(f"{last}; then {unreachable}", last.sqlstate)
        self._remember()
        with contextlib.suppress(Fault):
            self._stack.__exit__(Fault, last, None)
        if getattr(last, "__notes__", False):  # something is left on the user's server
            raise last
        self._stack = contextlib.ExitStack()
        if not self._opened():
            raise Unsteady
        self._repeats.stopped = False

    def _replace(self) -> None:
        """Make the world again because schedules have used it up."""
        self._remember()
        self._stack.close()
        self._open()

    def _remember(self) -> None:
        """Keep what was seen of the sessions: those of a world that is made again have seen nothing."""
        if not hasattr(self, "_preparation"):
            return
        self._before = _Before(
            draws=self.draws,
            functions=frozenset(self.functions),
            batches=self._batches,
            leftovers=dict.fromkeys(self.leftovers),
        )

    def _open(self) -> None:
        """Make the world; its calls go through the wire gate if they use another driver than psycopg 3."""
        try:
            self._make()
            return
        except OtherDriver as problem:
            otherwise = problem.otherwise
        strategy = replace(self._request.strategy, through_wire=True)
        self._request = replace(self._request, strategy=strategy)
        try:
            self._make()
        except UsageProblem:
            if otherwise is not None:
                raise otherwise from None
            raise

    def _make(self) -> None:
        """Make the world; if a part cannot be made, the other parts are removed."""
        with contextlib.ExitStack() as opening:
            self._adopt(prepare(self._target, self._request, opening, self.made_outside.append, self._reuse))
            self._stack = opening.pop_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """What was seen of the sessions of a world before it was made again."""

    draws: Draws = field(default_factory=Draws)
    functions: frozenset[str] = frozenset()
    batches: bool = False
    leftovers: Mapping[str, None] = field(default_factory=dict)
