"""A brute force that shares nothing with racebench's explorer: it runs every order of the sessions' statements.

Which sessions wait is asked of the server. If sessions deadlocked, every order is run again for each possible victim.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import pq

from benchmarks.fuzz.interpreter import rows_of
from benchmarks.fuzz.program import Code
from benchmarks.fuzz.statements import Statements, statements

_BLOCKERS = "SELECT pid, pg_blocking_pids(pid) FROM unnest(%s::int[]) AS pid"
_PATIENCE_S = 10.0
#: Of each session the refusal that it ended with, and what it was answered.
Results = Sequence[tuple[psycopg.Error | None, list[Any]]]
#: Called at the end of a schedule with the results, how many sessions a step woke, and whether sessions deadlocked:
#: then the server decides what comes of it.
Ended = Callable[[Results, int, bool], None]


class BruteForce:
    """The sessions' connections, and a monitor that asks which of them wait; all in autocommit mode.

    `opening`: what each session sends before a schedule.
    """

    def __init__(
        self, connections: Sequence[psycopg.Connection[Any]], monitor: psycopg.Connection[Any], opening: str = ""
    ) -> None:
        self._connections, self._wires, self._monitor = connections, [c.pgconn for c in connections], monitor
        self._opening = f"SELECT pg_advisory_unlock_all(); DISCARD SEQUENCES; RESET ALL; {opening}"
        self._victim = 0
        self._running: dict[int, Statements] = {}
        self._ready: dict[int, str] = {}  # by session, the statement that it is about to send
        self._waits: dict[int, Any] = {}  # by session, the pids that the session waits for
        self._results: list[tuple[psycopg.Error | None, list[Any]]] = []

    def explore(self, codes: Sequence[Code], reset: Callable[[], None], ended: Ended, script: bool, most: int) -> bool:
        """Run every schedule, at most `most` for each victim; returns whether these were all.

        The first schedule runs the sessions one after the other.
        """
        complete = True
        for self._victim in range(len(codes)):
            path: list[tuple[list[int], int]] = []
            deadlocks = False
            for _ in range(most):
                reset()
                deadlocks |= self._run([statements(code, script=script) for code in codes], path, ended)
                while path and path[-1][0][-1] == path[-1][1]:
                    path.pop()
                if not path:
                    break
                able, taken = path[-1]
                path[-1] = able, able[able.index(taken) + 1]
            complete &= not path
            if not deadlocks:
                break
        return complete

    def _run(self, sessions: list[Statements], path: list[tuple[list[int], int]], ended: Ended) -> bool:
        """Run a schedule: the choices of the path, then always the first. Completes the path."""
        self._running, self._ready, self._waits = dict(enumerate(sessions)), {}, {}
        self._results = [(None, []) for _ in sessions]
        for place, wire in enumerate(self._wires[: len(sessions)]):
            timeout_ms = 20 if place == self._victim else 500  # the victim looks for a deadlock first
            done = wire.exec_(f"{self._opening}; SET deadlock_timeout = {timeout_ms}".encode())
            assert done.status != pq.ExecStatus.FATAL_ERROR, done.error_message
        woken, deadlocked = 0, False
        for session in list(self._running):
            self._go_on(session, None)
        depth = 0
        while able := sorted(self._ready):
            if depth == len(path) or path[depth][1] not in able:
                path[depth:] = [(able, able[0])]
            taken, before = path[depth][1], dict(self._waits)
            self._wires[taken].send_query(self._ready.pop(taken).encode())
            self._waits[taken] = None
            deadlocked |= self._rest()
            woken = max(woken, sum(self._waits.get(session) != blockers for session, blockers in before.items()))
            depth += 1
        del path[depth:]
        ended(self._results, woken, deadlocked)
        return deadlocked

    def _rest(self) -> bool:
        """Wait until every session is about to send, or waits for one that is; returns whether sessions deadlocked."""
        deadline, deadlocked = time.monotonic() + _PATIENCE_S, False
        while self._waits and time.monotonic() < deadline:
            sockets = {self._wires[session].socket: session for session in self._waits}
            for socket in select.select(sockets, [], [], 0.0003)[0]:
                self._wires[sockets[socket]].consume_input()
            if over := [session for session in self._waits if not self._wires[session].is_busy()]:
                for session in over:
                    del self._waits[session]
                    self._go_on(session, self._wires[session])
                continue
            pids = {self._wires[session].backend_pid: session for session in self._waits}
            blockers = {
                pid: set(others)
                for pid, others in self._monitor.execute(_BLOCKERS, (list(pids),), prepare=True).fetchall()
            }
            moving = set(pids)  # those that do not wait, however indirectly, for a session that is about to send
            while stuck := {pid for pid in moving if blockers[pid] and not blockers[pid] & moving}:
                moving -= stuck
            if not moving:
                self._waits = {pids[pid]: others for pid, others in blockers.items()}
                return deadlocked
            deadlocked |= all(blockers[pid] & moving for pid in moving)
        assert not self._waits, f"sessions {sorted(self._waits)} had no answer in {_PATIENCE_S} s"
        return deadlocked

    def _go_on(self, session: int, wire: pq.abc.PGconn | None) -> None:
        """Give a session its answer, and go on to its next statement or its end."""
        run, rows, refusal = self._running[session], [], None
        while wire is not None and (result := wire.get_result()) is not None:
            rows = rows_of(result)
            if result.status == pq.ExecStatus.FATAL_ERROR:
                refusal = psycopg.errors.error_from_result(result)
        log = self._results[session][1]
        log += [refusal.sqlstate] if refusal else [rows] if rows else []
        try:
            now, later = run.throw(refusal) if refusal else next(run) if wire is None else run.send(rows)
            while now or not later:
                self._wires[session].exec_(now.encode())
                now, later = run.send([]) if not later else ("", later)
            self._ready[session] = later
        except StopIteration:
            pass
        except psycopg.Error as last:
            self._results[session] = (last, log)
