"""Starts and stops one embedded server, which ends with the command that started it.

It ends by `stop` or, if the command is killed, by a watcher that waits on a pipe.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from racebench.core.errors import DatabaseProblem, RacebenchError
from racebench.core.plain_text import one_line
from racebench.core.signals import shielded
from racebench.core.target import Target
from racebench.postgres.embedded.programs import DEFAULT_VERSION, give_to_server_user, start_program
from racebench.postgres.embedded.slots import copy_template, explain, server_programs, stop_orphan, take_slot

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_LONGEST_SOCKET = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
#: Settings of every embedded server. fsync stays on: the races are timed as a real server times them.
SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "shared_buffers": "128MB",
    "wal_level": "logical",
    "track_commit_timestamp": "on",
    "log_checkpoints": "off",
    "max_wal_size": "256MB",
    "min_wal_size": "8MB",
}
#: Ends the server if the command ends without writing a word to the pipe; a word means that the server was stopped.
#: A backend that an exploration has stopped (SIGSTOP) does not end by itself: after 5 s the server ends it by force.
_WATCHER = """
read -r word && exit
kill -INT "$1" || exit
for tenth in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    sleep 0.1
    kill -0 "$1" || exit
done
kill -QUIT "$1"
"""


class EmbeddedServer:
    """A running embedded server; a context manager that starts and stops it.

    `settings` are added to SETTINGS, and override them.
    Raises DatabaseProblem if the server cannot be started, with the next move.
    """

    def __init__(
        self, *, version: int = DEFAULT_VERSION, connections: int, settings: Mapping[str, str] | None = None
    ) -> None:
        self.version = version
        self._settings = dict(settings or {})
        self.max_connections = max(100, connections + 10)
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._used: Path | None = None
        self._log = Path()

    def __enter__(self) -> Target:
        try:
            return self._start()
        except OSError as problem:
            self.stop()
            raise RacebenchError(f"cannot start the embedded server: {explain(problem)}") from None
        except BaseException:
            self.stop()
            raise

    def __exit__(self, _type: object, problem: BaseException | None, _traceback: object) -> None:
        ended = self._process is not None and self._process.poll() is not None
        self.stop()
        if ended and isinstance(problem, RacebenchError):
            raise DatabaseProblem(
                f"the embedded server ended during the command: {_last_words(self._log)}; see {self._log}"
            ) from None

    def _start(self) -> Target:
        programs = server_programs(self.version)
        slot = take_slot(self.version, self._stack)
        data = slot / "data"
        stop_orphan(data)
        used = slot / "in-use"
        if used.exists() or not (data / "PG_VERSION").exists() or _has_prepared_transactions(data):
            copy_template(programs, self.version, data)
        used.touch()
        self._used = used
        sockets = self._socket_folder(slot)
        log = self._log = slot / "log"
        settings = {
            **SETTINGS,
            "max_connections": str(self.max_connections),
            "max_prepared_transactions": str(self.max_connections),
            "max_wal_senders": "10",
            "unix_socket_directories": str(sockets),
            **self._settings,
        }
        command = [str(programs / "postgres"), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with log.open("wb") as output, shielded():
            self._process = start_program(command, cwd=slot, output=output)
            self._watch(self._process.pid)
        self._wait_ready(data, log)
        return Target(
            server_pid=self._process.pid,
            kind="embedded",
            parameters={
                "host": str(sockets),
                "port": SETTINGS["port"],
                "user": "postgres",
                "dbname": "postgres",
                "sslmode": "disable",
                "gssencmode": "disable",
            },
            label=f"the embedded PostgreSQL {self.version}",
            sealed=True,
            exclusive=True,
        )

    def _socket_folder(self, slot: Path) -> Path:
        if len(os.fsencode(slot / ".s.PGSQL.5432")) <= _LONGEST_SOCKET:
            return slot
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="racebench-")))
        give_to_server_user(folder)
        return folder

    def _watch(self, pid: int) -> None:
        watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, "sh", str(pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the server has ended already
            start_new_session=True,
            cwd="/",
        )

        def dismiss() -> None:
            assert watcher.stdin is not None
            with contextlib.suppress(OSError):
                watcher.stdin.write(b"stopped\n")
                watcher.stdin.close()
            watcher.wait()

        self._stack.callback(dismiss)

    def _wait_ready(self, data: Path, log: Path) -> None:
        """Wait, as pg_ctl does, for "ready" in line 8 of postmaster.pid; raises DatabaseProblem with the log's end."""
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise DatabaseProblem(
                    f"the embedded server did not start: {_last_words(log)}; see {log}, or try `racebench server reset`"
                )
            with contextlib.suppress(OSError):
                lines = (data / "postmaster.pid").read_text().splitlines()
                if len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready":
                    return
            time.sleep(0.002)
        raise DatabaseProblem(f"the embedded server was not ready within {_START_SECONDS:.0f} s; see {log}")

    def stop(self) -> None:
        """Stop the server (fast shutdown, then by force) and release the slot; safe to call twice."""
        with shielded():
            self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            for number, seconds in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
                if process.poll() is None:
                    process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)
                    break
            if process.returncode == 0 and self._used is not None:
                self._used.unlink(missing_ok=True)
        self._stack.close()


def _has_prepared_transactions(data: Path) -> bool:
    """Whether the command before has left a prepared transaction: it keeps its locks when the server starts again."""
    return any((data / "pg_twophase").iterdir())


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    grave = ("PANIC", "FATAL", "ERROR", "error")
    fatal = [line for word in reversed(grave) for line in lines if word in line and "terminating conn" not in line]
    return one_line((fatal or lines or ["nothing in its log"])[-1])
