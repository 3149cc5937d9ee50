"""Starts and stops one embedded server, which ends with the command that started it.

It ends by `stop` or, if the command is killed, by a watcher that waits on a pipe.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from racebench.core.errors import DatabaseProblem, RacebenchError
from racebench.core.plain_text import one_line
from racebench.core.signals import shielded
from racebench.core.target import Target
from racebench.postgres.embedded import access, template
from racebench.postgres.embedded.folders import delete, explain, server_folder
from racebench.postgres.embedded.programs import DEFAULT_VERSION, start_program
from racebench.postgres.embedded.slots import data_folder, server_programs, take_slot
from racebench.postgres.embedded.watcher import watched

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
#: How long after a signal it is sent again.
_AGAIN_SECONDS = 0.1
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


class EmbeddedServer:
    """A running embedded server; a context manager that starts and stops it.

    `settings` are added to SETTINGS, and override them. Its data is new, and is deleted when it is stopped.
    `pooled`: a pooler will connect, which runs as the server's user.
    Raises DatabaseProblem if the server cannot be started, with the next move.
    """

    def __init__(
        self,
        *,
        version: int = DEFAULT_VERSION,
        connections: int,
        settings: Mapping[str, str] | None = None,
        pooled: bool = False,
    ) -> None:
        self.version, self.pooled = version, pooled
        self._settings = dict(settings or {})
        self.max_connections = max(100, connections + 10)
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = False
        self._log = self._data = Path()
        #: None until it was begun.
        self.coming: Coming | None = None
        self._said: IO[bytes] = io.BytesIO()

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
            return self._wait_ready()
        except OSError as problem:
            self.stop()
            raise RacebenchError(f"cannot start the embedded server: {explain(problem)}") from None
        except BaseException:
            self.stop()
            raise

    def __exit__(self, _type: object, problem: BaseException | None, _traceback: object) -> None:
        ended = self._process is not None and self._process.poll() is not None
        if self._begun:
            self._send(signal.SIGQUIT)
        else:
            self.stop()
        if ended and isinstance(problem, RacebenchError):
            raise DatabaseProblem(
                f"the embedded server ended during the command: {_last_words(self._log)}; see {self._log}"
            ) from None

    def _launch(self) -> None:
        """Start the processes: the one that unpacks the data becomes the server."""
        programs = server_programs(self.version)
        slot = take_slot(self.version, self._stack)
        data = data_folder(slot)
        self._stack.callback(delete, data)
        packed = self._stack.enter_context(template.place(programs, slot.parent, data))
        sockets = access.socket_folder(slot, self._stack)
        self._data, self._log = data, slot / "log"
        settings = {
            **SETTINGS,
            **access.rules(slot, pooled=self.pooled),
            "max_connections": str(self.max_connections),
            "max_prepared_transactions": str(self.max_connections),
            "max_wal_senders": "10",
            "unix_socket_directories": str(sockets),
            **self._settings,
        }
        command = [str(programs / "postgres"), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._said = self._stack.enter_context(contextlib.closing(tempfile.TemporaryFile()))  # noqa: SIM115
        with self._log.open("wb") as output, shielded():
            self._process = start_program(
                template.unpacking(command), cwd=data, output=output, errors=self._said, stdin=packed
            )
            # A backend that an exploration has stopped (SIGSTOP) does not end by itself: after 5 s the server ends it
            # by force. A background job of a shell ignores SIGQUIT, and so does the server until it has got that far.
            self._stack.enter_context(watched(self._process.pid, "QUIT"))
        target = self._target(self._process.pid, sockets)
        self.coming = Coming(target=target, log=self._log, sockets=sockets, pooled=self.pooled)

    def _target(self, pid: int, sockets: Path) -> Target:
        return Target(
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
            label=f"the embedded PostgreSQL {self.version}",
            sealed=True,
            exclusive=True,
        )

    def _wait_ready(self) -> Target:
        """Wait until the server says in its log that it is ready; raises DatabaseProblem with the log's end."""
        assert self._process is not None
        assert self.coming is not None
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                if code == template.NOT_UNPACKED:
                    self._said.seek(0)
                    raise template.not_unpacked(self._data, self._said.read().decode(errors="replace"))
                raise DatabaseProblem(
                    f"the embedded server did not start: {_last_words(self._log)}; see {self._log}, "
                    "or try `racebench server reset`"
                )
            if self.coming.is_ready():
                return self.coming.target
            time.sleep(0.002)
        raise DatabaseProblem(f"the embedded server was not ready within {_START_SECONDS:.0f} s; see {self._log}")

    def stop(self) -> None:
        """Stop the server, whose data is not needed any more, and release the slot; safe to call twice."""
        with shielded():
            self._stop()

    def _send(self, number: int, process: subprocess.Popen[bytes] | None = None) -> None:
        """Send a signal to the server, if it runs, and to what still unpacks its data."""
        process = process or self._process
        if process is not None and process.poll() is None:
            os.killpg(process.pid, number)

    def _stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            deadline = time.monotonic() + _STOP_SECONDS
            while process.returncode is None and time.monotonic() < deadline:
                # Where SIGQUIT is ignored, as in a background job of a shell, it is so until the server sets its own.
                self._send(signal.SIGQUIT, process)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_AGAIN_SECONDS)
            if process.returncode is None:
                self._send(signal.SIGKILL, process)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5.0)
        self._stack.close()


def as_superuser(target: Target) -> Target:
    """An embedded server, with connections of its superuser."""
    return replace(target, parameters={**target.parameters, "user": template.SUPERUSER})


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    grave = ("PANIC", "FATAL", "ERROR", "error")
    fatal = [line for word in reversed(grave) for line in lines if word in line and "terminating conn" not in line]
    return one_line((fatal or lines or ["nothing in its log"])[-1])
