"""What a session of an application does: its ends, and that racebench's own part of it is never taken for a wait."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from racebench.core.model import HttpRequest, Service
from racebench.exploration.wire import actors
from racebench.exploration.wire.actors import RequestActor
from racebench.workloads.http import HttpClient, NoAnswer
from racebench.workloads.services import RunningService
from tests.waiting import wait_for

REQUEST = HttpRequest(method="POST", path="/")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


@pytest.fixture
def actor(listener: socket.socket) -> Iterator[RequestActor]:
    port = listener.getsockname()[1]
    service = Service(url=f"http://127.0.0.1:{port}")
    one = RequestActor(REQUEST, service, lambda: RunningService(service, "127.0.0.1", port, None), 10)
    yield one
    one.close()


def test_it_is_the_applications_turn_while_a_request_is_sent_and_no_part_of_its_answer_is_here(
    listener: socket.socket, actor: RequestActor
) -> None:
    actor.begin()
    connection = listener.accept()[0]
    with connection:
        wait_for(lambda: actor.is_at_rest, "the request was not sent")
        assert not actor.ended
        connection.sendall(b"HTTP/1.1 200 -\r\nContent-Length: 2\r\n\r\n")  # and the body later
        wait_for(lambda: actor.is_at_rest, "the head was not read")
        assert not actor.ended
        connection.sendall(b"17")
        wait_for(lambda: actor.ended, "the request did not end")
    assert actor.is_at_rest  # the application may go on after the response
    assert (actor.ending().code, actor.ending().returned) == ("", (200, 17))


def test_a_request_that_racebench_has_not_sent_yet_is_no_wait_of_the_applications(
    actor: RequestActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine its thread comes late; the application sleeps meanwhile, and waits for nobody."""
    held = threading.Event()

    def late(client: HttpClient, request: HttpRequest, timeout_s: float | None = None) -> None:
        held.wait()
        raise NoAnswer("it was not sent", sent=False)

    monkeypatch.setattr(actors.HttpClient, "send", late)
    actor.begin()
    assert not actor.is_at_rest
    held.set()
    wait_for(lambda: actor.ended, "the request did not end")
    assert actor.ending().unknown
