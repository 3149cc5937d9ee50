"""Keeps waiting backends of the embedded server from going on before it is their turn.

A backend that waits for a lock is stopped (SIGSTOP), and continued (SIGCONT) when the lock is granted and the schedule
lets it go on. Without that, two backends that one COMMIT wakes race inside the server, and the victim of a deadlock
depends on the clock. A stopped backend is in its lock wait and holds no lock of the server's own memory, except in the
moment of a deadlock check: then the server itself would hang. Therefore no backend stays stopped for long without a
sign of life of the search.

Which backends wait, and when they go on, is scheduler.py's. Only children of a postmaster that racebench has started
are ever stopped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

_PROC = Path("/proc")
#: The longest time between two signs of life, in seconds.
_PATIENCE_S = 1.0


class Freezer:
    """Stops and continues backends. `postmaster`: the pid of a server that racebench has started."""

    def __init__(self, postmaster: int) -> None:
        self._postmaster = postmaster
        self._ours: dict[int, bool] = {}
        self._frozen: dict[int, None] = {}
        self._lock = threading.Lock()
        self._alive_s = 0.0
        self._closed = threading.Event()
        self._watchdog: threading.Thread | None = None

    def _can_freeze(self, pid: int) -> bool:
        """Whether a pid is that of a backend of the server, and may be stopped."""
        known = self._ours.get(pid)
        if known is None:
            known = self._ours[pid] = _parent(pid) == self._postmaster
        return known

    def is_frozen(self, pid: int) -> bool:
        """Whether a backend is stopped."""
        return pid in self._frozen

    def freeze(self, pid: int) -> None:
        """Stop a backend that waits; nothing if it may not be stopped."""
        if not self._can_freeze(pid):
            return
        if self._watchdog is None:
            self._watchdog = threading.Thread(target=self._watch, name="racebench freezer", daemon=True)
            self._watchdog.start()
        with self._lock:
            self._alive_s = time.monotonic()
            if pid not in self._frozen and _signal(pid, signal.SIGSTOP):
                self._frozen[pid] = None

    def thaw(self, pid: int) -> None:
        """Continue a backend, if it is stopped."""
        with self._lock:
            if pid in self._frozen:
                del self._frozen[pid]
                _signal(pid, signal.SIGCONT)

    def thaw_all(self) -> None:
        """Continue every stopped backend."""
        with self._lock:
            while self._frozen:
                pid, _ = self._frozen.popitem()
                _signal(pid, signal.SIGCONT)

    def alive(self) -> None:
        """Note that the search goes on."""
        self._alive_s = time.monotonic()

    def close(self) -> None:
        """Continue every backend, and stop none any more."""
        self._closed.set()
        self.thaw_all()
        if self._watchdog is not None:
            self._watchdog.join()

    def _watch(self) -> None:
        while not self._closed.wait(_PATIENCE_S / 4):
            if self._frozen and time.monotonic() - self._alive_s > _PATIENCE_S:
                self.thaw_all()


def _signal(pid: int, number: signal.Signals) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
        return True
    return False


def _parent(pid: int) -> int | None:
    """The parent of a process, as Linux tells it; None elsewhere, and if there is no such process."""
    try:
        # The name, in parentheses, may have blanks in it.
        return int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None
