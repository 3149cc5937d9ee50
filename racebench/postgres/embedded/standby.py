"""A hot standby of an embedded server: a base backup in a slot of its own, which then streams over a Unix socket.

It ends as the server does (process.py), and before it. What it replays, and when, is asked by postgres/standby.py.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from racebench.core.errors import DatabaseProblem, RacebenchError
from racebench.core.plain_text import one_line
from racebench.core.signals import shielded
from racebench.core.target import Target
from racebench.postgres.embedded import access, template
from racebench.postgres.embedded.folders import delete, explain
from racebench.postgres.embedded.process import ServerProcess
from racebench.postgres.embedded.programs import give_to_server_user, run_program
from racebench.postgres.embedded.server import SETTINGS, EmbeddedServer, Source, command_of, target_of
from racebench.postgres.embedded.slots import data_folder, server_programs, take_slot

#: What a standby writes into its log, in English by its locale, when it accepts connections.
_READY = b"database system is ready to accept read-only connections"
#: The replication slot by which the server keeps what the standby has not received.
_SLOT = "racebench_standby"
_NAME = "the embedded standby"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """Whether the standby accepts connections; if so, its socket's folder is closed to other users."""

    log: Path
    sockets: Path

    def __call__(self) -> bool:
        if _READY not in self.log.read_bytes():
            return False
        access.close_socket_folder(self.sockets)
        return True


class EmbeddedStandby:
    """A hot standby of a running embedded server that is `replicated`; a context manager that starts and stops it.

    `delay_ms`: it replays each commit so long after it (recovery_min_apply_delay). Raises DatabaseProblem if it cannot
    be started, with the next move.
    """

    def __init__(self, server: EmbeddedServer, *, delay_ms: int = 0) -> None:
        assert server.source is not None, "the server is not running"
        self._source: Source = server.source
        self._delay_ms = delay_ms
        self._stack = contextlib.ExitStack()
        self._process: ServerProcess | None = None

    def __enter__(self) -> Target:
        try:
            return self._started()
        except OSError as problem:
            self.stop()
            raise RacebenchError(f"cannot start {_NAME}: {explain(problem)}") from None
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_problem: object) -> None:
        self.stop()

    def _started(self) -> Target:
        source = self._source
        programs = server_programs(source.version)
        slot = take_slot(source.version, self._stack)
        data = data_folder(slot)
        self._stack.callback(delete, data)
        data.mkdir(mode=0o700)
        give_to_server_user(data)
        _copy(programs, source, data)
        sockets = access.socket_folder(slot, self._stack)
        settings = {
            **access.rules(slot),
            **SETTINGS,
            **source.settings,
            "unix_socket_directories": f'"{sockets}"',
            "hot_standby": "on",
            "primary_conninfo": f"{_connection(source)} application_name=racebench_standby",
            "primary_slot_name": _SLOT,
            "recovery_min_apply_delay": f"{self._delay_ms}ms",
            "wal_retrieve_retry_interval": "100ms",
        }
        self._process = ServerProcess(
            command_of(programs, data, settings), what=_NAME, data=data, log=slot / "log", stack=self._stack
        )
        self._process.wait_ready(_Ready(log=self._process.log, sockets=sockets))
        return target_of(sockets, _NAME, self._process.pid, behind_ms=self._delay_ms)

    def stop(self) -> None:
        """Stop it and delete its data; safe to call twice."""
        with shielded():
            if self._process is not None:
                process, self._process = self._process, None
                process.stop()
            self._stack.close()


def _connection(source: Source) -> str:
    """How the standby connects to the server, as a connection string of libpq."""
    folder = str(source.sockets).replace("\\", "\\\\").replace("'", "\\'")
    return f"host='{folder}' port={access.PORT} user={template.ROLE} sslmode=disable gssencmode=disable"


def _copy(programs: Path, source: Source, data: Path) -> None:
    """Make a base backup in an empty data directory; raises DatabaseProblem with what pg_basebackup says."""
    command = [str(programs / "pg_basebackup"), "-D", str(data), "-d", _connection(source), "--no-password"]
    command += ["--checkpoint=fast", "--wal-method=stream", "--no-sync", "--no-manifest"]
    command += ["--write-recovery-conf", "--create-slot", f"--slot={_SLOT}"]
    code, said = run_program(command, cwd=data)
    if code != 0:
        reason = one_line(next(iter(said.strip().splitlines()), "it gave no reason"))
        raise DatabaseProblem(f"{_NAME} cannot be made: {reason}; free some space, or leave out --standby")
