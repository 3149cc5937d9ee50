"""A client sees through the proxy what it sees without it, message by message."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from conftest import UsersServer
from conversation import SCRIPT, Admin, transcript
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.embedded import EmbeddedServer
from racebench.postgres.external import external
from relays import relaying


@dataclass(frozen=True)
class Ways:
    """How to reach a server by itself and through the proxy."""

    admin: Admin
    direct: Mapping[str, Any]
    proxied: Mapping[str, Any]


@contextlib.contextmanager
def ways(target: Target) -> Iterator[Ways]:
    with relaying(target) as proxy, contextlib.closing(connect(target)) as admin:
        parameters = dict(target.parameters)
        place = {"host": "127.0.0.1", "port": str(proxy.listen()), "sslmode": "disable"}
        yield Ways(admin, parameters, {**parameters, **place})


@pytest.fixture(scope="module", params=["15", "16", "18"])
def server(request: pytest.FixtureRequest, cache_folder: object) -> Iterator[Ways]:
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
        yield stack.enter_context(ways(target))


@pytest.mark.parametrize("name", SCRIPT)
def test_the_proxy_is_not_seen(server: Ways, name: str) -> None:
    expected = transcript(name, server.admin, **server.direct)
    assert transcript(name, server.admin, **server.proxied) == expected
