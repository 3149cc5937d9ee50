"""PgBouncer before a server; a fault may end it, and its owner starts it again."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.faults.servers import free_port, give, identity, wait_for


class Pooler:
    """PgBouncer in a folder, which it makes. `settings`: of its section [pgbouncer]; `users`: their passwords."""

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        server_port: int,
        settings: Mapping[str, object],
        users: Mapping[str, str],
    ) -> None:
        folder.mkdir()
        give(folder)
        self.port, self._folder, self._program = free_port(), folder, program
        (folder / "users").write_text("".join(f'"{name}" "{password}"\n' for name, password in users.items()))
        options = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_file": folder / "users",
            "default_pool_size": 30,
            **settings,
        }
        lines = ["[databases]", f"* = host=127.0.0.1 port={server_port}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in options.items()]
        (folder / "pgbouncer.ini").write_text("\n".join([*lines, ""]))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, if it does not run, and wait until it listens."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [str(self._program), "-q", "pgbouncer.ini"],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                **identity(),
            )
        wait_for(self._listens, f"the pooler in {self._folder} does not start")

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
            return True
        return False
