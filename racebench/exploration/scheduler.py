"""Runs the sessions of an exploration one step at a time, and waits until all are at rest before the next choice.

At rest, each session is about to send its next step, at its end, or waits for a session that is. Whether it waits is
asked of the server (`pg_blocking_pids`), never concluded from time: a slow answer is waited for. A session that waits
is no choice, so a schedule that cannot happen is never run and never stalls.

Where the server's backends can be stopped (freezing.py), those that wait at rest are. A step that releases several of
them leaves the choice which of them goes on first. Elsewhere they race inside the server, and the schedule is `raced`.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from time import monotonic  # this one: while calls are explored, time.monotonic is another
from typing import Any

import psycopg

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.exploration.choices import session_of, without_cut
from racebench.exploration.freezing import Freezer
from racebench.exploration.sessions.session import Session, State
from racebench.exploration.steps import describe

#: How long an answer is awaited before the server is asked which sessions block it, in seconds: first without sleeping,
#: then asleep. Most answers take 0.1 ms; asking too early costs a round trip.
_EAGER_S = 0.00012
_PATIENCE_S = 0.00015
#: How long the others are stopped for one session to look for a deadlock, in seconds.
_VICTIM_S = 0.5

_BLOCKERS = "SELECT pid, pg_blocking_pids(pid) FROM unnest(%s::int[]) AS pid"


class Scheduler:
    """The sessions with their strands, and the connection that asks which of them wait for which.

    `woken`: the sessions that the last step released, besides the one that took it. `raced`: several went on, or began
    to wait for other sessions, in an order that the server chose. `deadlocked`: sessions have waited for each other
    since this was last set to False. `deadlock`: the numbers of the sessions that waited for each other in the last
    step. `waits`: the pids that each waiting pid waits for, at rest. `freezer`: None where backends cannot be stopped.
    `victims`: the numbers of all sessions; of those in a deadlock, the first in this order is to be the victim.
    `idle`: backends that no session may have now, and another one later: those of a pooler.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        monitor: psycopg.Connection[Any],
        step_limit_s: float,
        freezer: Freezer | None = None,
        *,
        idle: frozenset[int] = frozenset(),
    ) -> None:
        self.sessions = sessions
        self.idle = idle
        self.woken: list[Session] = []
        self.raced = self.deadlocked = False
        self.victims: Sequence[int] = [session.number for session in sessions]
        self.deadlock: frozenset[int] = frozenset()
        self.waits: Mapping[int, tuple[int, ...]] = {}
        self.freezer = freezer
        self._released: list[Session] = []
        self._step_limit_s = step_limit_s
        self._monitor = monitor
        self._blockers(())  # fails here, before anything is sent, if this role may not ask

    def session(self, number: int) -> Session:
        """The session, or the strand of one, that has a number; the cut of a choice (choices.py) does not matter."""
        wanted = without_cut(number)
        return next(session for session in self.sessions if session.number == wanted)

    def able(self) -> list[Session]:
        """The sessions that can take the next step: those that were released together, before all others."""
        if self._released:
            return sorted(self._released, key=lambda session: session.number)
        return [session for session in self.sessions if session.state is State.READY]

    def step(self, session: Session) -> None:
        """Have an able session take its step, or go on after its wait, and wait until all are at rest."""
        waiting = [other for other in self.sessions if other.state is State.WAITING]
        before = self.waits
        if session.state is State.RELEASED:
            self._go_on(session)
        else:
            session.advance()
        self.rest()
        self.woken, self.raced = [], False
        if not waiting:
            return
        self.woken = [other for other in waiting if other.state is not State.WAITING]
        elsewhere = [
            other
            for other in waiting
            if other.state is State.WAITING and {*self.waits.get(other.pid, ())} - {*before.get(other.pid, ())}
        ]
        moved = [other for other in (*self.woken, *elsewhere) if other.state is not State.RELEASED]
        self.raced = self.freezer is None and len(moved) > 1

    def step_together(self, sessions: Sequence[Session]) -> None:
        """Have able sessions send their next steps at once, and wait until all are at rest."""
        for session in sessions:
            if session.state is State.RELEASED:
                self._go_on(session)
            else:
                session.advance()
        self.rest()
        self.woken, self.raced = [], True

    def rest(self) -> None:
        """Wait until no answer is on its way. Raises DatabaseProblem if one does not come within the step limit."""
        deadline = monotonic() + self._step_limit_s
        self.waits = {}
        self.deadlock = frozenset()
        victim_until = 0.0
        while waiting := self._waiting():
            moving = [session for session in waiting if not self._is_frozen(session)]
            arrived = self._readable(moving) if moving else []
            for session in arrived:
                session.advance()
            if arrived and monotonic() < deadline:
                continue
            blockers = self._blockers(waiting)
            if self._release(waiting, moving, blockers):
                continue
            if self._at_rest(waiting, blockers):
                self.waits = blockers
                self._freeze(moving)
                return
            now = monotonic()
            if self.deadlock and not victim_until:
                victim_until = now + _VICTIM_S
                self._choose_victim(moving)
            elif victim_until and now > victim_until and self.freezer is not None:
                self.freezer.thaw_all()  # the victim has looked for a deadlock before there was one
            if now > deadline:
                self._give_up(waiting, blockers)

    def _waiting(self) -> list[Session]:
        """The sessions that wait; of sessions that were released one after the other, the last one goes on."""
        waiting = [session for session in self.sessions if session.state is State.WAITING and not session.inside]
        if len(self._released) == 1 and all(map(self._is_frozen, waiting)):
            waiting += self._released
            self._go_on(self._released[0])
        return waiting

    def _release(
        self, waiting: Sequence[Session], moving: Sequence[Session], blockers: Mapping[int, tuple[int, ...]]
    ) -> bool:
        """Release the stopped sessions that nothing blocks any more, when no other is on its way to an answer."""
        if not all(blockers.get(session.pid) for session in moving):
            return False
        released = [s for s in waiting if self._is_frozen(s) and not blockers.get(s.pid)]
        for session in released:
            session.state = State.RELEASED
        self._released += released
        return bool(released)

    def _go_on(self, session: Session) -> None:
        """Let a released session go on."""
        session.state = State.WAITING
        self._released.remove(session)
        self._thaw(session)

    def _is_frozen(self, session: Session) -> bool:
        return self.freezer is not None and self.freezer.is_frozen(session.pid)

    def _freeze(self, sessions: Sequence[Session]) -> None:
        if self.freezer is not None:
            for session in sessions:
                self.freezer.freeze(session.pid)

    def _thaw(self, session: Session) -> None:
        if self.freezer is not None:
            self.freezer.thaw(session.pid)

    def _choose_victim(self, moving: Sequence[Session]) -> None:
        """Stop all sessions of a deadlock but the one that is to be its victim: it alone looks for the deadlock."""
        number = min(self.deadlock, key=self.victims.index)
        victim = next(session for session in self.sessions if session_of(session.number) == number)
        if self._is_frozen(victim):
            self._freeze(moving)
            self._thaw(victim)

    def _readable(self, waiting: Sequence[Session]) -> list[Session]:
        # Anew each time: an application may continue over another connection. A closed one has no socket.
        by_socket: dict[int, list[Session]] = {}
        for session in waiting:
            if (socket := session.socket) >= 0:
                by_socket.setdefault(socket, []).append(session)
        # Not poll or epoll: their time-outs are whole milliseconds.
        sockets = list(by_socket)
        until = monotonic() + _EAGER_S
        readable: list[int] = []
        while not readable:
            # To fall asleep and be woken takes longer than most answers do.
            eager = monotonic() < until
            readable, _, _ = select.select(sockets, (), (), 0 if eager else _PATIENCE_S)
            if not eager:
                break
        return [session for socket in readable for session in by_socket[socket]]

    def _blockers(self, waiting: Sequence[Session]) -> dict[int, tuple[int, ...]]:
        try:
            if self.freezer is not None:
                self.freezer.alive()
            rows = self._monitor.execute(_BLOCKERS, ([session.pid for session in waiting],), prepare=True).fetchall()
        except psycopg.Error as problem:
            raise DatabaseProblem(
                f"the server does not say which sessions wait: {one_line(str(problem))}; "
                "GRANT EXECUTE ON FUNCTION pg_blocking_pids(integer), without which nothing can be explored"
                if isinstance(problem, psycopg.errors.InsufficientPrivilege)
                else f"the connection that asks which sessions wait failed: {one_line(str(problem))}"
            ) from None
        return {pid: tuple(blockers) for pid, blockers in rows}

    def _at_rest(self, waiting: Sequence[Session], blockers: Mapping[int, tuple[int, ...]]) -> bool:
        """Whether every waiting session waits, however indirectly, for one that is READY or DONE."""
        pids = {session.pid for session in waiting}
        ours = self.idle.union(*(session.pids for session in self.sessions))
        # A cycle is a deadlock: the server is about to abort one of its sessions, so they are not at rest.
        moving = pids - released(pids, ours, blockers)
        if moving and all(set(blockers.get(pid, ())) & moving for pid in moving):
            self.deadlocked = True
            circular = in_circles(blockers)
            self.deadlock = frozenset(session_of(session.number) for session in waiting if session.pid in circular)
        return not moving

    def _give_up(self, waiting: Sequence[Session], blockers: Mapping[int, tuple[int, ...]]) -> None:
        ours = self.idle.union(*(session.pids for session in self.sessions))
        session = waiting[0]
        strangers = [pid for pid in blockers.get(session.pid, ()) if pid not in ours]
        why = f"it waits for {_stranger(strangers[0])}" if strangers else "no answer; --step-timeout allows more"
        raise DatabaseProblem(
            f"{session.name}: '{describe(session.next_step)}' did not end in {self._step_limit_s:g} s: {why}"
        )

    def wait(self, steps: Any) -> Any:
        """Drive a generator of waits to its end; raises DatabaseProblem if an answer does not come."""
        deadline = monotonic() + self._step_limit_s
        try:
            while True:
                next(steps)
                while not self._readable(self.sessions):
                    if monotonic() > deadline:
                        raise DatabaseProblem(
                            f"the consumer's last polls had no answer in {self._step_limit_s:g} s, though no session "
                            "of this exploration blocks them"
                        )
        except StopIteration as done:
            return done.value

    def end_waits(self, hang: Callable[[Sequence[int]], None]) -> None:
        """End the waits of the sessions that still wait, by `hang`, which takes their numbers.

        Raises DatabaseProblem if that does not end them.
        """
        waiting = [session for session in self.sessions if session.state is State.WAITING]
        for session in waiting:
            self._thaw(session)
        hang([session.number for session in waiting])
        deadline = monotonic() + self._step_limit_s
        while left := [session for session in waiting if session.state is State.WAITING]:
            for session in self._readable(left):
                session.advance()
            if monotonic() > deadline:
                self._give_up(left, self._blockers(left))

    def run_out(self) -> None:
        """Run every session to its end, in turn, since one may wait for another in a loop of its own.

        What waits for each other at the server stays waiting.
        """
        last = 0
        while able := self.able():
            session = next((one for one in able if one.number > last), able[0])
            last = session.number
            self.step(session)

    def abandon(self) -> None:
        """End the sessions' steps and transactions, those of blocking sessions first."""
        while any(session.state is not State.DONE for session in self.sessions):
            for session in self.sessions:
                if session.state is State.READY:
                    session.abandon()
                elif session.state is State.RELEASED:
                    self._go_on(session)
            if any(session.state is State.WAITING for session in self.sessions):
                self.rest()


def _stranger(pid: int) -> str:
    if not pid:  # as pg_blocking_pids has it
        return "a prepared transaction, which no session ends"
    return f"session {pid}, which is not of this exploration"


def in_circles(blockers: Mapping[int, Sequence[int]]) -> set[int]:
    """The pids that wait, however indirectly, for themselves; `blockers` says which pids each waits for."""
    circular = set()
    for pid in blockers:
        reached: set[int] = set()
        left = list(blockers[pid])
        while left:
            blocker = left.pop()
            if blocker not in reached:
                reached.add(blocker)
                left += blockers.get(blocker, ())
        if pid in reached:
            circular.add(pid)
    return circular


def released(pids: AbstractSet[int], ours: AbstractSet[int], blockers: Mapping[int, Sequence[int]]) -> set[int]:
    """Of `pids`, those that wait, however indirectly, for one of `ours` that is not in `pids`: for an idle session.

    `blockers` says which pids each waits for. They can only go on when that session does.
    """
    at_rest: set[int] = set()
    while True:
        more = {
            pid
            for pid in pids - at_rest
            if blockers.get(pid) and all(b in at_rest or (b in ours and b not in pids) for b in blockers[pid])
        }
        if not more:
            return at_rest
        at_rest |= more
