"""Several sessions of a process: each goes on when its socket can be read, or when its pause is over."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from racebench.load.multiplexing import drive

WAYS = ["epoll", "poll", *(["compiled"] if find_spec("racebench_compiled") else [])]


@pytest.fixture(params=WAYS, autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits: epoll; poll, where there is no epoll; the extension."""
    monkeypatch.setenv("RACEBENCH_COMPILED", "1" if request.param == "compiled" else "0")
    if request.param == "poll":
        monkeypatch.delattr(select, "epoll")


class Session:
    """Reads from one end of a pair of sockets; `told` is the other end."""

    def __init__(self) -> None:
        self.ours, self.told = socket.socketpair()
        self.heard: list[bytes] = []

    @property
    def socket(self) -> int:
        return self.ours.fileno()

    def close(self) -> None:
        self.ours.close()
        self.told.close()

    def hear(self) -> Generator[float | None, Any, None]:
        yield None
        self.heard.append(self.ours.recv(100))


@pytest.fixture
def sessions() -> Iterator[list[Session]]:
    made = [Session(), Session()]
    yield made
    for session in made:
        session.close()


def test_each_session_goes_on_when_its_socket_can_be_read(sessions: list[Session]) -> None:
    first, second = sessions

    def asks() -> Generator[float | None, Any, None]:
        for number in range(3):
            second.told.send(b"%d" % number)
            yield from first.hear()

    def answers() -> Generator[float | None, Any, None]:
        for _ in range(3):
            yield from second.hear()
            first.told.send(second.heard[-1] * 2)

    drive([(first, asks()), (second, answers())])
    assert first.heard == [b"00", b"11", b"22"]


def test_a_session_that_pauses_goes_on_afterwards_and_holds_nobody_up(sessions: list[Session]) -> None:
    first, second = sessions
    order: list[str] = []

    def sleeps() -> Generator[float | None, Any, None]:
        first.told.send(b"early")  # what arrives during a pause can wait
        begun = time.perf_counter_ns()
        yield 0.05
        assert time.perf_counter_ns() - begun >= 50_000_000
        order.append("slept")
        yield from first.hear()

    def works() -> Generator[float | None, Any, None]:
        for _ in range(3):
            second.told.send(b"x")
            yield from second.hear()
        order.append("worked")

    drive([(first, sleeps()), (second, works())])
    assert order == ["worked", "slept"]
    assert first.heard == [b"early"]


def test_after_a_pause_a_session_is_waited_for_on_its_new_socket(sessions: list[Session]) -> None:
    first, second = sessions

    def moves() -> Generator[float | None, Any, None]:
        first.told.send(b"old")
        yield from first.hear()
        number = first.socket
        first.close()
        first.ours, first.told = socket.socketpair()
        assert number in (first.socket, first.told.fileno())
        yield 0.0
        first.told.send(b"new")
        yield from first.hear()
        second.told.send(b"end")

    drive([(first, moves()), (second, second.hear())])
    assert first.heard == [b"old", b"new"]
    assert second.heard == [b"end"]


def test_an_error_of_a_session_ends_the_drive(sessions: list[Session]) -> None:
    first, second = sessions

    def fails() -> Generator[float | None, Any, None]:
        yield 0.0
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        drive([(first, first.hear()), (second, fails())])
