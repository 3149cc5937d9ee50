"""A replication passes: both sides send what they have."""

from __future__ import annotations

from racebench.exploration.wire.stream import Stream
from racebench.postgres.proxy import messages
from racebench.postgres.proxy.messages import Message


def message(raw: bytes) -> Message:
    return Message(raw[:1], raw)


def test_a_replication_is_given_to_the_client_as_it_arrives() -> None:
    to_server, to_client = bytearray(), bytearray()
    stream = Stream(to_server.extend, to_client.extend, lambda _piece: False)
    start = messages.query(b"START_REPLICATION SLOT s LOGICAL 0/0")
    stream.from_client([message(start)])
    both, news = messages.build(b"W", b"\0\0\0"), messages.copy_data(b"k" + bytes(17))
    stream.from_server([message(both)])
    stream.from_server([message(news)])
    assert to_client == both + news
    status = messages.copy_data(b"r" + bytes(33))
    stream.from_client([message(status)])
    assert to_server == start + status
    end = [messages.COPY_DONE, messages.command_complete(b"COPY 0"), messages.ready_for_query()]
    stream.from_client([message(messages.COPY_DONE)])
    stream.from_server([message(raw) for raw in end])
    assert to_client == both + news + b"".join(end)
    assert stream.idle
