"""Starts PgBouncer before a server, for the workers of one run, and ends it with the command.

It runs as an ordinary user (PgBouncer refuses root), and listens on a Unix socket in a folder that only the command's
user may enter, so that no client needs a password. What it has to know, the password of the user's server included, is
in a file that has no name. Each session of the server begins with the schema and the settings of the run
(connect_query): a client behind a pooler cannot rely on what it has set itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Self

from psycopg import sql

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.core.signals import shielded
from racebench.core.target import Pooling, Target
from racebench.core.temporary import parent_of_sockets, temporary_folder
from racebench.postgres.connection import connect
from racebench.postgres.embedded.programs import give_to_server_user, is_root, run_program, start_program
from racebench.postgres.embedded.watcher import watcher

_PORT = "5432"
_START_SECONDS = 30.0
#: How many clients PgBouncer takes beside the workers' sessions: calls that run alone, and those that connect again.
_MORE_CLIENTS = 100
#: Where distributions install it, beside PATH.
_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
#: What a client may send in its start-up packet, and the sessions of the server have anyway.
_IGNORED = "extra_float_digits,options,search_path,default_transaction_isolation"
#: DISCARD ALL in parts, because it cannot be sent with another statement; then connect_query follows.
_RESET = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DEALLOCATE ALL; UNLISTEN *; "
    "SELECT pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES; "
)
#: sslmode and what belongs to it, in PgBouncer's words.
_TLS = {"sslrootcert": "server_tls_ca_file", "sslcert": "server_tls_cert_file", "sslkey": "server_tls_key_file"}
_MODES_OF_TLS = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def program() -> Path:
    """PgBouncer's program; raises DatabaseProblem if it is not installed."""
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), *_FOLDERS))
    if (found := shutil.which("pgbouncer", path=places)) is None:
        raise DatabaseProblem(
            "pgbouncer is not installed, and --pooler needs it; install it (Debian's package 'pgbouncer'), "
            "or leave out --pooler"
        )
    return Path(found)


def version() -> str:
    """PgBouncer's name and version as it says them: "PgBouncer 1.18.0". Raises DatabaseProblem."""
    code, said = run_program([str(program()), "--version"], cwd=Path("/"))
    if code != 0 or not said.strip():
        raise DatabaseProblem(f"{program()} cannot be run: {one_line(said)}; install it again, or leave out --pooler")
    return said.splitlines()[0].strip()


def server_sessions(mode: Pooling, clients: int) -> int:
    """How many sessions of the server so many clients share: each has one in session pooling, else two share one."""
    return clients if mode is Pooling.SESSION else max(2, clients // 2)


def described(target: Target, clients: int) -> Mapping[str, Any]:
    """The pooler in the description of where a result was measured. Raises DatabaseProblem."""
    assert target.pooler is not None
    return {
        "program": version(),
        "mode": target.pooler.value,
        "server_sessions": server_sessions(target.pooler, clients),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What the server has of a connection to it: PgBouncer connects to the same place, as the same role."""

    host: str
    port: int
    user: str
    database: str
    password: str

    @classmethod
    def of(cls, target: Target) -> _Place:
        """As libpq found it: the DSN may leave it to a service or a password file. Raises DatabaseProblem."""
        with contextlib.closing(connect(target)) as connection:
            info = connection.info
            password = info.password
            host = target.parameters.get("hostaddr") or info.host
            place = cls(host=host, port=info.port, user=info.user, database=info.dbname, password=password)
        if any(mark in value for value in (place.password, place.user, place.database) for mark in "\r\n\0"):
            raise DatabaseProblem(
                f"the user, password or database of {target.label} has a line break, which PgBouncer's configuration "
                "cannot have; leave out --pooler"
            )
        return place


class Pooler:
    """PgBouncer for the workers of one run; a context manager that starts and stops it.

    `target` is where the workers connect to. Raises DatabaseProblem if it cannot be started, or if its sessions of the
    server do not work in the schema.
    """

    def __init__(
        self, server: Target, schema: str, *, clients: int, settings: Mapping[str, str], own_code: bool = False
    ) -> None:
        """`settings`: of the strategy's sessions; the user's own code keeps those of its role."""
        assert server.pooler is not None
        self._server, self._schema, self._mode, self._clients = server, schema, server.pooler, clients
        self._settings = {**({} if own_code else server.settings), **settings}
        self._program = program()
        self._stack = contextlib.ExitStack()
        self._running = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._folder = self._sockets = Path()
        self.target = server

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._folder = stack.enter_context(temporary_folder("pooler", parent=_parent()))
            self._folder.chmod(0o711)
            place = _Place.of(self._server)
            self._sockets = self._folder / "socket"
            self.target = replace(
                self._server,
                parameters={
                    "host": str(self._sockets),
                    "port": _PORT,
                    "user": place.user,
                    "dbname": place.database,
                    "sslmode": "disable",
                    "gssencmode": "disable",
                },
                label=f"PgBouncer before {self._server.label}",
                sealed=True,
                server_pid=None,
                pooled=True,
                keeps_search_path=True,
                settings={},
                standby=None,
            )
            self._configuration = _configuration(self._text(place))
            stack.callback(self._configuration.close)
            stack.callback(self.stop)
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with shielded():
            self._stack.close()

    def start(self) -> None:
        """Start it, and wait until a session through it works in the schema. Raises DatabaseProblem."""
        self._sockets.mkdir(mode=0o700)
        give_to_server_user(self._sockets)
        self._configuration.seek(0)
        with contextlib.ExitStack() as stack, shielded():
            self._said = stack.enter_context(contextlib.closing(tempfile.TemporaryFile()))  # noqa: SIM115
            watch = stack.enter_context(watcher("KILL"))
            self._process = start_program(
                [str(self._program), "/dev/stdin"], cwd=Path("/"), stdin=self._configuration, output=self._said
            )
            watch(self._process.pid)
            self._running = stack.pop_all()
        deadline = time.monotonic() + _START_SECONDS
        while not _listens(self._sockets):
            if self.ended():
                raise DatabaseProblem(f"PgBouncer did not start: {self._last_words()}; leave out --pooler")
            if time.monotonic() > deadline:
                raise DatabaseProblem(f"PgBouncer was not ready within {_START_SECONDS:.0f} s: {self._last_words()}")
            time.sleep(0.002)
        os.chown(self._sockets, os.geteuid(), os.getegid(), follow_symlinks=False)
        try:
            with contextlib.closing(connect(self.target, schema=self._schema)):
                pass
        except DatabaseProblem as problem:
            words = self._last_words()
            raise DatabaseProblem(f"{one_line(str(problem))}; PgBouncer's log ends: {words}") from None

    def stop(self) -> None:
        """Kill it, whatever its clients do; its sessions of the server end. Safe to call twice."""
        with shielded():
            process, self._process = self._process, None
            if process is None:
                return
            process.kill()
            process.wait()
            self._running.close()
            shutil.rmtree(self._sockets, ignore_errors=True)

    def restart(self) -> None:
        """Stop it and start it: the sessions of the server are new."""
        self.stop()
        self.start()

    def ended(self) -> str:
        """How it has ended by itself, as in "SIGKILL" or "exit 1"; "" while it runs, and once it was stopped."""
        if self._process is None or (code := self._process.poll()) is None:
            return ""
        return f"exit {code}" if code >= 0 else signal.Signals(-code).name

    def _last_words(self) -> str:
        assert self._said is not None
        self._said.seek(0)
        lines = [line for line in self._said.read().decode(errors="replace").splitlines() if line.strip()]
        grave = [line for line in lines if any(word in line for word in ("FATAL", "ERROR", "WARNING"))]
        return one_line((grave or lines or ["nothing"])[-1])

    def _text(self, place: _Place) -> str:
        """The configuration, with the password if there is one."""
        settings = {"search_path": self._schema, **self._settings}
        begin = " ".join(_set(name, value) for name, value in settings.items())
        database = {"host": place.host, "port": str(place.port), "user": place.user, "dbname": place.database}
        if place.password:
            database["password"] = place.password
        database["connect_query"] = begin
        options = {
            "listen_addr": "",
            "listen_port": _PORT,
            "unix_socket_dir": str(self._sockets),
            "unix_socket_mode": "0777",  # its folder is closed
            "auth_type": "any",
            "pool_mode": self._mode.value,
            "default_pool_size": str(server_sessions(self._mode, self._clients)),
            # Those that wait for a session of the server wait: the run itself notices when nothing goes on.
            "query_wait_timeout": "0",
            "max_client_conn": str(self._clients + _MORE_CLIENTS),
            "ignore_startup_parameters": _IGNORED,
            "server_reset_query": _RESET + begin,
            "log_connections": "0",
            "log_disconnections": "0",
            **self._tls(),
        }
        if self._mode is Pooling.SESSION:
            # Calls that run alone, and a client that connects again before its last session has been reset.
            options["default_pool_size"] = str(self._clients + _MORE_CLIENTS)
        lines = [
            "[databases]",
            "* = " + " ".join(f"{name}={_quoted(value)}" for name, value in database.items()),
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in options.items()),
        ]
        return "\n".join([*lines, ""])

    def _tls(self) -> dict[str, str]:
        """As the DSN says, and libpq would do it."""
        known = self._server.parameters
        mode = known.get("sslmode") or ("disable" if self._server.sealed else os.environ.get("PGSSLMODE", "prefer"))
        if mode not in _MODES_OF_TLS:
            return {}
        files = {ours: known[name] for name, ours in _TLS.items() if known.get(name) not in (None, "system")}
        return {"server_tls_sslmode": mode, **files}


def _parent() -> Path:
    """Where the folder of the socket is made: where PgBouncer's user may enter, if that is another one."""
    usual = parent_of_sockets()
    entered = all(path.stat().st_mode & stat.S_IXOTH for path in (usual, *usual.parents))
    return usual if entered or not is_root() else Path("/tmp")


def _set(name: str, value: str) -> str:
    return sql.SQL("SET {} = {};").format(sql.Identifier(*name.split(".")), sql.Literal(value)).as_string(None)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _configuration(text: str) -> IO[bytes]:
    """A file without a name; the program opens it again by its standard input."""
    if hasattr(os, "memfd_create"):
        file = os.fdopen(os.memfd_create("racebench-pooler"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - its user closes it
    file.write(text.encode())
    file.flush()
    return file


def _listens(sockets: Path) -> bool:
    """Whether it takes clients; a socket is in its folder a little earlier."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(sockets / f".s.PGSQL.{_PORT}"))
        return True
    return False
