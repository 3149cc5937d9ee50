"""What happens while the command runs. Each function makes a strike: given the scene, whether it has hit."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.faults.scene import Scene


def kill(role: str) -> Callable[[Scene], bool]:
    return lambda scene: scene.signal(scene.client(role), signal.SIGKILL)


def pause(role: str) -> Callable[[Scene], bool]:
    return lambda scene: scene.pause(scene.client(role))


def terminate(role: str) -> Callable[[Scene], bool]:
    """pg_terminate_backend of one session; of every session of the command for the role `all`."""

    def strike(scene: Scene) -> bool:
        session = scene.backend("any" if role == "all" else role)
        if session is None or scene.ground.server is None:
            return False
        pids = [pid for pid, _ in scene.backends("any")] if role == "all" else [session[0]]
        with scene.ground.server.connect() as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", (pids,))
        return True

    return strike


def to_backend(what: Callable[[Scene, int], bool]) -> Callable[[Scene], bool]:
    def strike(scene: Scene) -> bool:
        session = scene.backend("any")
        return session is not None and what(scene, session[0])

    return strike


def end_server(how: signal.Signals, *, again: bool = True) -> Callable[[Scene], bool]:
    def strike(scene: Scene) -> bool:
        if not scene.wait_for_moment() or scene.ground.server is None:
            return False
        scene.ground.server.stop(how)
        if again:
            time.sleep(scene.draw.uniform(0.0, 0.5))
            scene.ground.server.start()
        return True

    return strike


def end_pooler(scene: Scene) -> bool:
    if not scene.wait_for_moment() or scene.ground.pooler is None:
        return False
    scene.ground.pooler.stop()
    time.sleep(scene.draw.uniform(0.0, 0.5))
    scene.ground.pooler.start()
    return True


def embedded(what: signal.Signals, name: bytes) -> Callable[[Scene], bool]:
    """Send a signal to a process of the embedded server: its postmaster, or one of its backends."""

    def strike(scene: Scene) -> bool:
        def pids() -> list[int]:
            return [pid for pid, title in _embedded_processes(scene.ground.folder) if name in title]

        # The server's start takes longer than the command on it.
        if not scene.wait_until(lambda: bool(pids())) or not scene.wait(
            scene.draw.uniform(0.0, scene.driver.seconds / 2)
        ):
            return False
        there = pids()
        return bool(there) and scene.signal(scene.draw.choice(there), what)

    return strike


def _embedded_processes(folder: Path) -> Iterator[tuple[int, bytes]]:
    """The processes of the embedded server of a cell, with their titles: a backend's has `[local]`."""
    postmasters = set()
    for path in folder.glob("cache/*/slot-*/data/postmaster.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            postmasters.add(int(path.read_text().split()[0]))
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            pid = int(place.name)
            if pid in postmasters:
                yield pid, b"postmaster"
            elif parent in postmasters:
                yield pid, (place / "cmdline").read_bytes()


def send(what: signal.Signals, *, group: bool = False, times: int = 1) -> Callable[[Scene], bool]:
    def strike(scene: Scene) -> bool:
        # Before that, and after the last test, Python itself or pytest would answer a signal.
        if not scene.wait_until(lambda: scene.handles(signal.SIGTERM)):
            return False
        if not scene.wait(scene.draw.uniform(0.0, scene.driver.seconds)) or not scene.handles(signal.SIGTERM):
            return False
        for _ in range(times):
            scene.signal(-scene.command.pid if group else scene.command.pid, what)
            time.sleep(scene.draw.uniform(0.0, 0.3) if times > 1 else 0.0)
        return True

    return strike
