"""A client sees through the proxy, and through the gate, what it sees without it, message by message."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import pytest

from benchmarks.between import gating, relaying
from conftest import UsersServer
from conversation import SCRIPT, transcript
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.embedded import EmbeddedServer
from racebench.postgres.external import external

#: What a client sees in a conversation, by how it reaches the server.
See = Callable[[str, str], list[str]]


@contextlib.contextmanager
def seeing(target: Target) -> Iterator[See]:
    with relaying(target) as proxy, gating(target) as gate, contextlib.closing(connect(target)) as admin:
        ports = {"proxy": proxy.listen(), "gate": gate.listen()}

        @functools.cache
        def see(name: str, way: str) -> list[str]:
            port = ports.get(way)
            place = {} if port is None else {"host": "127.0.0.1", "port": str(port), "sslmode": "disable"}
            return transcript(name, admin, **{**target.parameters, **place})

        yield see


@pytest.fixture(scope="module", params=["15", "16", "18"])
def server(request: pytest.FixtureRequest, cache_folder: object) -> Iterator[See]:
    """The user's server (Debian's 15 where it is installed), and both embedded ones."""
    with contextlib.ExitStack() as stack:
        match request.param:
            case "15":
                users_server: UsersServer = request.getfixturevalue("users_server")
                target = external(users_server.dsn())
            case "16":
                target = stack.enter_context(EmbeddedServer(connections=8, version=16))
            case _:
                target = request.getfixturevalue("embedded")
        yield stack.enter_context(seeing(target))


@pytest.mark.parametrize("way", ["proxy", "gate"])
@pytest.mark.parametrize("name", SCRIPT)
def test_what_is_between_is_not_seen(server: See, name: str, way: str) -> None:
    assert server(name, way) == server(name, "direct")
