"""Starts and stops one embedded server, which ends with the command that started it (process.py)."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from racebench.core.errors import DatabaseProblem, RacebenchError
from racebench.core.signals import shielded
from racebench.core.target import Target
from racebench.postgres.embedded import access, template
from racebench.postgres.embedded.folders import delete, explain, server_folder
from racebench.postgres.embedded.process import ServerProcess, last_words
from racebench.postgres.embedded.programs import DEFAULT_VERSION, release
from racebench.postgres.embedded.slots import data_folder, server_programs, take_slot

#: Settings of every embedded server. fsync stays on: the races are timed as a real server times them.
#: A role that makes another one may act as it (createrole_self_grant), as a superuser may.
SETTINGS = {
    "listen_addresses": "",
    "port": access.PORT,
    "shared_buffers": "128MB",
    "wal_level": "logical",
    "track_commit_timestamp": "on",
    "log_checkpoints": "off",
    "max_wal_size": "256MB",
    "min_wal_size": "8MB",
    "createrole_self_grant": "set,inherit",
}
#: What the server writes into its log, in English by its locale, when it accepts connections.
_READY = b"database system is ready to accept connections"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """A server that was begun: where it will be, and whether it is there. `log`: its log; `sockets`: its folder.

    `pooled`: a pooler that runs as the server's user may connect.
    """

    target: Target
    log: Path
    sockets: Path
    pooled: bool = False

    def is_ready(self) -> bool:
        """Whether it accepts connections; if so, close its socket's folder to other users. Raises OSError."""
        if _READY not in self.log.read_bytes():
            return False
        access.close_socket_folder(self.sockets, pooled=self.pooled)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a standby of a server has to know of it. `settings`: its own; `sockets`: where a standby connects."""

    version: int
    settings: Mapping[str, str]
    sockets: Path


class EmbeddedServer:
    """A running embedded server; a context manager that starts and stops it.

    `settings` are added to SETTINGS, and override them. Its data is new, and is deleted when it is stopped.
    `pooled`: a pooler will connect, which runs as the server's user. `replicated`: a standby may connect (standby.py).
    Raises DatabaseProblem if the server cannot be started, with the next move.
    """

    def __init__(
        self,
        *,
        version: int = DEFAULT_VERSION,
        connections: int,
        settings: Mapping[str, str] | None = None,
        pooled: bool = False,
        replicated: bool = False,
    ) -> None:
        self.version, self.pooled, self.replicated = version, pooled, replicated
        self._settings = dict(settings or {})
        self.max_connections = max(100, connections + 10)
        self._stack = contextlib.ExitStack()
        self._process: ServerProcess | None = None
        self._begun = False
        #: None until it was begun; `source` also if it is not replicated.
        self.coming: Coming | None = None
        self.source: Source | None = None

    def begin(self) -> None:
        """Begin to start it, and do something else meanwhile: `with` waits, and raises what has gone wrong.

        The end of `with` only begins to stop it then: who has begun it calls `stop`, which waits.
        Nothing is begun where there is no template yet, which takes longer to make.
        """
        self._begun = True
        with contextlib.suppress(OSError, RacebenchError):
            if template.exists(server_folder(self.version)):
                self._launch()
                return
        self.stop()

    def __enter__(self) -> Target:
        try:
            if self._process is None:
                self._launch()
            assert self._process is not None
            assert self.coming is not None
            self._process.wait_ready(self.coming.is_ready)
            return self.coming.target
        except OSError as problem:
            self.stop()
            raise RacebenchError(f"cannot start the embedded server: {explain(problem)}") from None
        except BaseException:
            self.stop()
            raise

    def __exit__(self, _type: object, problem: BaseException | None, _traceback: object) -> None:
        process = self._process
        ended = process is not None and process.ended
        if not self._begun:
            self.stop()
        elif process is not None:
            process.send(signal.SIGQUIT)
        if process is not None and ended and isinstance(problem, RacebenchError):
            raise DatabaseProblem(
                f"the embedded server ended during the command: {last_words(process.log)}; see {process.log}"
            ) from None

    def _launch(self) -> None:
        """Start the processes: the one that unpacks the data becomes the server."""
        programs = server_programs(self.version)
        slot = take_slot(self.version, self._stack)
        data = data_folder(slot)
        self._stack.callback(delete, data)
        packed = self._stack.enter_context(template.place(programs, slot.parent, data))
        sockets = access.socket_folder(slot, self._stack)
        folders = [sockets]
        if self.replicated:
            folders.append(access.socket_folder(slot, self._stack, name=access.REPLICATION))
        settings = {
            **SETTINGS,
            "max_connections": str(self.max_connections),
            "max_prepared_transactions": str(self.max_connections),
            "max_wal_senders": "10",
            **self._settings,
        }
        own = {
            **access.rules(slot, pooled=self.pooled, replicated=self.replicated),
            "unix_socket_directories": ", ".join(f'"{folder}"' for folder in folders),
        }
        self._process = ServerProcess(
            template.unpacking(command_of(programs, data, {**own, **settings})),
            what="the embedded server",
            data=data,
            log=slot / "log",
            stack=self._stack,
            packed=packed,
        )
        label = f"the embedded PostgreSQL {self.version}"
        target = target_of(sockets, label, self._process.pid)
        self.coming = Coming(target=target, log=self._process.log, sockets=sockets, pooled=self.pooled)
        self.source = Source(version=self.version, settings=settings, sockets=folders[-1])

    def stop(self) -> None:
        """Stop the server, whose data is not needed any more, and release the slot; safe to call twice."""
        with shielded():
            if self._process is not None:
                process, self._process = self._process, None
                process.stop()
            self._stack.close()


def described(version: int) -> Mapping[str, str]:
    """The release of a version's server and its settings, by name, as on any machine. Raises DatabaseProblem."""
    return {"PostgreSQL": release(version), **SETTINGS}


def command_of(programs: Path, data: Path, settings: Mapping[str, str]) -> list[str]:
    """The command that starts a server on a data directory, with settings."""
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [str(programs / "postgres"), "-D", str(data), *words]


def target_of(sockets: Path, label: str, pid: int, *, behind_ms: int = 0) -> Target:
    """An embedded server as a target: where its socket is, what it is called, and its postmaster."""
    return Target(
        behind_ms=behind_ms,
        server_pid=pid,
        kind="embedded",
        parameters={
            "host": str(sockets),
            "port": access.PORT,
            "user": template.ROLE,
            "dbname": "postgres",
            "sslmode": "disable",
            "gssencmode": "disable",
        },
        label=label,
        sealed=True,
        exclusive=True,
    )


def as_superuser(target: Target) -> Target:
    """An embedded server, and its standby if it has one, with connections of its superuser."""
    standby = None if target.standby is None else as_superuser(target.standby)
    return replace(target, parameters={**target.parameters, "user": template.SUPERUSER}, standby=standby)
