"""The gate's loop: what it is told of, and when it has nothing to do."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from racebench.core.target import Target
from racebench.exploration.wire.gate import Gate
from racebench.exploration.wire.rest import Processes
from racebench.postgres.connection import connect
from racebench.postgres.proxy.proxy import Proxy


@pytest.fixture
def gate(embedded: Target) -> Iterator[Gate]:
    with connect(embedded) as connection:
        proxy = Proxy(embedded)
        gate = Gate(
            proxy,
            Processes(lambda: ()),
            lambda *_: False,
            lambda _: None,
            beside=connection.pgconn,
            every_row=False,
        )
        yield gate
        gate.close()


def test_an_answer_of_a_service_is_news_once_also_to_who_does_not_wait_for_it(gate: Gate) -> None:
    answered = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        gate.watch(answered)
        os.eventfd_write(answered, 1)
        assert select.select([gate.fileno()], [], [], 1.0)[0]
        gate.pump()
        assert not select.select([gate.fileno()], [], [], 0)[0]
    finally:
        os.close(answered)
