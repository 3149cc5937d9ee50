"""A server that does not answer: one line says so, and after the limit the connections are ended."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator

import pytest

from racebench.core import watching
from racebench.core.watching import Patience, beat, current, watched
from waiting import wait_for

IDLE, ACTIVE = 0, 1
#: Closed after each test.
ENDS: list[socket.socket] = []


class Connection:
    """What a watch uses of libpq's connection. `looks`: how often it has looked; `looked` is called each time."""

    backend_pid = 4711

    def __init__(self, status: int, looked: Callable[[], None] = lambda: None) -> None:
        self._status, self._looked = status, looked
        self.looks = 0
        self._end, self._other = socket.socketpair()
        ENDS.extend((self._end, self._other))
        self.socket = self._end.fileno()

    @property
    def transaction_status(self) -> int:
        self.looks += 1
        self._looked()
        return self._status

    def is_cut(self) -> bool:
        self._other.setblocking(False)
        try:
            return self._other.recv(1) == b""
        except BlockingIOError:
            return False


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(watching, "_SAY_SECONDS", 0.05)
    monkeypatch.setattr(watching, "_LOOK_SECONDS", 0.01)
    yield
    for end in ENDS:
        end.close()
    ENDS.clear()


def test_a_wait_is_said_once_with_its_reason() -> None:
    lines: list[str] = []
    with watched(Patience(say=lines.append)) as watch:
        watch.explain = lambda pids: f"session {pids[0]} waits for a lock"
        waiting = Connection(ACTIVE)
        watch.add(waiting)
        wait_for(lambda: bool(lines), "nothing was said")
        before = waiting.looks
        wait_for(lambda: waiting.looks > before + 10, "the watch does not look")
        assert not waiting.is_cut()
    (line,) = lines
    assert re.fullmatch(r"no answer from the server for \d+ s: session 4711 waits for a lock", line)


def test_all_connections_are_ended_after_the_limit() -> None:
    lines: list[str] = []
    with watched(Patience(give_up_s=0.1, say=lines.append)) as watch:
        watch.explain = lambda _pids: "a lock"
        waiting, idle = Connection(ACTIVE), Connection(IDLE)
        for connection in (waiting, idle):
            watch.add(connection)
        wait_for(lambda: waiting.is_cut() and idle.is_cut(), "the connections were not ended")
        assert re.fullmatch(r"gave up: no answer from the server for \d+ s \(--give-up-after\)", watch.gave_up)
        assert watch.gave_up in lines


def test_what_works_without_a_connection_of_libpq_is_watched_too() -> None:
    lines: list[str] = []
    with watched(Patience(give_up_s=0.1, say=lines.append)) as watch:
        watch.explain = lambda _pids: "a lock"
        idle = Connection(IDLE)
        watch.add(idle)
        watch.begin()
        wait_for(idle.is_cut, "the connection was not ended")
    assert re.fullmatch(r"no step has ended for \d+ s", lines[0]), (
        "it may be the application's code that takes its time"
    )


@pytest.mark.parametrize("progress", ["idle", "ended", "beats"])
def test_progress_and_idleness_are_no_reason_to_end_a_connection(progress: str) -> None:
    lines: list[str] = []
    with watched(Patience(give_up_s=0.02, say=lines.append)) as watch:
        connection = Connection(ACTIVE, watch.beat) if progress == "beats" else Connection(IDLE)
        watch.add(connection)
        if progress == "ended":
            watch.begin()
            watch.end()
        before = connection.looks
        wait_for(lambda: connection.looks > before + 10, "the watch does not look")
        assert not connection.is_cut()
    assert lines == []


def test_a_watch_belongs_to_its_block() -> None:
    assert current() is None
    beat()  # nothing is watched, so nothing happens
    with watched(Patience()) as outer:
        with watched(Patience()) as inner:
            assert current() is inner
        assert current() is outer
    assert current() is None
