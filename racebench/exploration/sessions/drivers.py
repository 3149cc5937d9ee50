"""Where drivers connect to a server, each by its own function, so that a connection can be led through the wire gate.

A driver that is imported later, and one that is not named here, connects past it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from psycopg import generators
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from racebench.core.errors import UsageProblem
from racebench.core.target import Target
from racebench.exploration.sessions.patches import Function, Patch

#: Asked in the application's thread or task when a driver is about to connect to the server: by which port of
#: 127.0.0.1 it is to connect instead; None for where it was about to. May raise.
PortOf = Callable[[str], int | None]


class OtherDriver(UsageProblem):
    """A call was about to connect over another driver than psycopg 3, or has perhaps used one.

    `otherwise`: what is wrong with the call if it has not; None if it is certain.
    """

    def __init__(self, message: str, *, otherwise: Exception | None = None) -> None:
        super().__init__(message)
        self.otherwise = otherwise


_HOST = "127.0.0.1"
#: The functions by which drivers connect, or find out where to: module and name.
_CONNECTING = (
    ("psycopg2", "_connect"),
    ("asyncpg.connect_utils", "_parse_connect_arguments"),
    ("pg8000.core", "_make_socket"),
)
_SOCKET = ".s.PGSQL."
#: What has no meaning between a driver and the gate on the same machine.
_OF_TRANSPORT = ("sslmode", "sslrootcert", "sslcert", "sslkey", "channel_binding", "gssencmode", "hostaddr")


class Redirection:
    """Leads the connections of this process that go to a server by the ports that `port_of` names."""

    def __init__(self, target: Target, port_of: PortOf) -> None:
        self._place = _place(target.parameters)
        self._port_of = port_of
        #: The modules of the drivers whose connections are led.
        self._led: set[str] = set()

    def patches(self, *, psycopg: bool) -> Iterator[Patch]:
        """The patches for the drivers that this process has imported; `psycopg`: for psycopg 3 too."""
        if psycopg:
            yield Patch(generators, "connect", self._of_psycopg(generators.connect))
        replacements = (self._of_psycopg2, self._of_asyncpg, self._of_pg8000)
        for (module, name), replaced in zip(_CONNECTING, replacements, strict=True):
            owner = sys.modules.get(module)
            original = getattr(owner, name, None)
            if original is not None:
                self._led.add(module)
                yield Patch(owner, name, replaced(original))

    @property
    def is_used(self) -> bool:
        """Whether there is another driver than psycopg 3 whose connections are led."""
        return bool(self._led)

    @property
    def has_missed(self) -> bool:
        """Whether a driver was imported after the patches were made."""
        return any(module in sys.modules and module not in self._led for module, _ in _CONNECTING)

    def _port(self, driver: str, host: str, port: object) -> int | None:
        if (host, str(port)) != self._place:
            return None  # another server
        return self._port_of(driver)

    def _conninfo(self, driver: str, conninfo: str) -> str:
        """A connection string of libpq's, led by the port."""
        known: dict[str, Any] = conninfo_to_dict(conninfo)
        port = self._port(driver, *_place(known))
        if port is None:
            return conninfo
        kept = {name: value for name, value in known.items() if name not in _OF_TRANSPORT}
        return make_conninfo(**{**kept, "host": _HOST, "port": port, "sslmode": "disable"})

    def _of_psycopg(self, connect: Function) -> Function:
        def connected(conninfo: str, *args: Any, **kwargs: Any) -> Any:
            return (yield from connect(self._conninfo("psycopg", conninfo), *args, **kwargs))

        return connected

    def _of_psycopg2(self, connect: Function) -> Function:
        def connected(dsn: str, *args: Any, **kwargs: Any) -> Any:
            return connect(self._conninfo("psycopg2", dsn), *args, **kwargs)

        return connected

    def _of_asyncpg(self, parse: Function) -> Function:
        def parsed(**kwargs: Any) -> Any:
            addresses, parameters, *rest = parse(**kwargs)
            port = self._port("asyncpg", *_of_address(addresses[0])) if addresses else None
            if port is not None:
                addresses = [(_HOST, port)]
                parameters = parameters._replace(ssl=None, sslmode=type(parameters.sslmode).disable)
            return (addresses, parameters, *rest)

        return parsed

    def _of_pg8000(self, make: Function) -> Function:
        def made(unix_sock: Any, sock: Any, host: Any, port: Any, *rest: Any) -> Any:
            place = _of_address(unix_sock) if unix_sock is not None else (str(host), port)
            led = self._port("pg8000", *place) if sock is None else None
            if led is None:
                return make(unix_sock, sock, host, port, *rest)
            return make(None, None, _HOST, led, *rest[:-1], False)

        return made


def _of_address(address: Any) -> tuple[str, str]:
    """The host and the port of an address: a pair of them, or the path of a Unix socket."""
    if not isinstance(address, str):
        return str(address[0]), str(address[1])
    path = PurePath(address)
    return str(path.parent), path.name.removeprefix(_SOCKET)


def _place(parameters: Mapping[str, Any]) -> tuple[str, str]:
    """Where libpq connects to with parameters: host or folder, and port."""
    host = parameters.get("host") or parameters.get("hostaddr") or os.environ.get("PGHOST", "")
    return str(host), str(parameters.get("port") or os.environ.get("PGPORT") or "5432")
