"""The sessions of an exploration on one server: one takes a step, and everybody comes to rest before the next choice.

At rest, each session is at a gate, at its end, or waits for one that is. Whether it waits is asked of the server
(`pg_blocking_pids`), never guessed from time: a slow answer is waited for. A session that waits is no choice, so an
order that cannot happen is never run and never stalls.
"""

from __future__ import annotations

import select
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import psycopg

from racebench.core.errors import DatabaseProblem, one_line
from racebench.exploration.actors import Actor, State, describe

#: How long an answer may take before the server is asked who is in the way, in seconds: awake, then asleep. Most take
#: 0.1 ms; asking in vain costs a question.
_EAGER_S = 0.00012
_PATIENCE_S = 0.00015
_BLOCKERS = "SELECT pid, pg_blocking_pids(pid) FROM unnest(%s::int[]) AS pid"


class Scheduler:
    """The actors, and the connection that asks who waits for whom."""

    def __init__(self, actors: Sequence[Actor], monitor: psycopg.Connection[Any], step_limit_s: float) -> None:
        self.sessions = actors
        self._step_limit_s = step_limit_s
        self._monitor = monitor
        #: Those that a step woke up, besides the one that took it.
        self.woken: list[Actor] = []
        #: Whether somebody waited in a circle since this was last set to False.
        self.deadlocked = False
        #: Who waits for whom, at rest.
        self.waits: Mapping[int, tuple[int, ...]] = {}
        self._blockers(())  # whether this may be asked is better known before anything is sent

    def step(self, actor: Actor) -> None:
        """Have an actor at its gate go on, and wait until everybody is at rest."""
        waiting = [each for each in self.sessions if each.state is State.WAITING]
        actor.advance()
        self.rest()
        self.woken = [each for each in waiting if each.state is not State.WAITING]

    def rest(self) -> None:
        """Wait until nobody's answer is under way. Raises DatabaseProblem if one never comes."""
        deadline = time.monotonic() + self._step_limit_s
        self.waits = {}
        while waiting := [actor for actor in self.sessions if actor.state is State.WAITING]:
            arrived = [actor for actor in self._readable() if actor.state is State.WAITING]
            for actor in arrived:
                actor.advance()
            if arrived:
                continue
            blockers = self._blockers(waiting)
            if self._at_rest(waiting, blockers):
                self.waits = blockers
                return
            if time.monotonic() > deadline:
                self._give_up(waiting, blockers)

    def _readable(self) -> list[Actor]:
        # Anew each time: an application may go on over another connection. One that it closed has no socket.
        by_socket = {socket: actor for actor in self.sessions if (socket := actor.socket) >= 0}
        # Not poll or epoll: their time-outs are whole milliseconds.
        sockets = list(by_socket)
        until = time.monotonic() + _EAGER_S
        readable: list[int] = []
        while not readable:
            # Falling asleep and being woken takes longer than most answers do.
            eager = time.monotonic() < until
            readable, _, _ = select.select(sockets, (), (), 0 if eager else _PATIENCE_S)
            if not eager:
                break
        return [by_socket[socket] for socket in readable]

    def _blockers(self, waiting: Sequence[Actor]) -> dict[int, tuple[int, ...]]:
        try:
            rows = self._monitor.execute(_BLOCKERS, ([actor.pid for actor in waiting],), prepare=True).fetchall()
        except psycopg.Error as problem:
            raise DatabaseProblem(
                f"the server does not say who waits for whom: {one_line(str(problem))}; "
                "GRANT EXECUTE ON FUNCTION pg_blocking_pids(integer), without which nothing can be explored"
                if isinstance(problem, psycopg.errors.InsufficientPrivilege)
                else f"the connection that asks who waits for whom failed: {one_line(str(problem))}"
            ) from None
        return {pid: tuple(blockers) for pid, blockers in rows}

    def _at_rest(self, waiting: Sequence[Actor], blockers: Mapping[int, tuple[int, ...]]) -> bool:
        """Whether everyone who waits waits for somebody who is at a gate or at its end, however indirectly."""
        pids = {actor.pid for actor in waiting}
        ours = {pid for actor in self.sessions for pid in actor.pids}
        # A cycle is a deadlock: the server is about to end one of its sessions, so nobody is at rest.
        stuck = pids - released(pids, ours, blockers)
        self.deadlocked |= bool(stuck) and all(set(blockers.get(pid, ())) & stuck for pid in stuck)
        return not stuck

    def _give_up(self, waiting: Sequence[Actor], blockers: Mapping[int, tuple[int, ...]]) -> None:
        ours = {pid for actor in self.sessions for pid in actor.pids}
        for actor in waiting:
            strangers = [pid for pid in blockers.get(actor.pid, ()) if pid not in ours]
            why = (
                f"it waits for session {strangers[0]}, which is not of this exploration"
                if strangers
                else "no answer; --step-timeout allows more"
            )
            raise DatabaseProblem(
                f"{actor.name}: '{describe(actor.gate)}' did not come to an end in {self._step_limit_s:g} s: {why}"
            )

    def wait(self, steps: Any) -> Any:
        """Drive a generator of waits to its end; nobody else is in the way, or DatabaseProblem."""
        deadline = time.monotonic() + self._step_limit_s
        try:
            while True:
                next(steps)
                while not self._readable():
                    if time.monotonic() > deadline:
                        raise DatabaseProblem(
                            f"the consumer's last polls had no answer in {self._step_limit_s:g} s, though no session "
                            "of this exploration blocks them"
                        )
        except StopIteration as done:
            return done.value

    def abandon(self) -> None:
        """End whatever anybody is in the middle of, the ones in the way first."""
        while any(actor.state is not State.DONE for actor in self.sessions):
            for actor in self.sessions:
                if actor.state is State.READY:
                    actor.abandon()
            if any(actor.state is State.WAITING for actor in self.sessions):
                self.rest()


def released(pids: AbstractSet[int], ours: AbstractSet[int], blockers: Mapping[int, Sequence[int]]) -> set[int]:
    """Of those whose answers are under way, the ones that wait, however indirectly, for one of ours that does nothing.

    `blockers` says whom each waits for. They can only go on when that one does.
    """
    found: set[int] = set()
    while True:
        more = {
            pid
            for pid in pids - found
            if blockers.get(pid) and all(b in found or (b in ours and b not in pids) for b in blockers[pid])
        }
        if not more:
            return found
        found |= more
