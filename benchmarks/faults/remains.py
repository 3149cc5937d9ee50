"""What a command leaves: processes, sessions and objects on the server, and files. There should be nothing.

What is found is removed, so that the next trial does not find it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.faults.fault import Fault
from benchmarks.faults.findings import Ended, Look
from benchmarks.faults.grounds import Kind
from benchmarks.faults.scene import Scene
from benchmarks.faults.servers import AUDITED, PLAIN
from benchmarks.faults.subjects import COMMAND

_PATIENCE_S = 5.0
_MINE = re.compile(r"racebench_[0-9a-f]{12}")


def look_at_processes(scene: Scene, seen: Look) -> None:
    limit = time.monotonic() + _PATIENCE_S
    while (left := scene.processes() + _of_cache(scene)) and time.monotonic() < limit:
        time.sleep(0.02)
    if left:
        titles = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:80] for pid in left[:3]]
        seen.blame("leftovers", f"{len(left)} processes: {titles}")
        for pid in left:
            scene.signal(pid, signal.SIGKILL)


def _of_cache(scene: Scene) -> list[int]:
    """The processes of an embedded server: their working folder, or an argument, is in the trial's cache."""
    if scene.ground.layout.kind is not Kind.EMBEDDED:
        return []
    cache, pids = str(scene.ground.folder / "cache"), []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str((place / "cwd").readlink()).startswith(cache) or cache.encode() in (place / "cmdline").read_bytes():
                pids.append(int(place.name))
    return pids


def look_at_server(scene: Scene, fault: Fault, ended: Ended, seen: Look) -> None:
    """No session, schema, publication, slot or prepared transaction stays; a schema that was named may, until then."""
    server = scene.ground.server
    if server is None:
        return
    named = set(_MINE.findall(ended.text))
    with server.connect(AUDITED if scene.driver.audited else PLAIN) as connection:
        limit = time.monotonic() + _PATIENCE_S
        while (sessions := _sessions(connection)) and time.monotonic() < limit:
            time.sleep(0.02)
        if sessions:
            seen.blame("leftovers", f"sessions: {sessions[:3]}")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'racebench%'"
            )
        left = set(_schemas(connection))
        if (unnamed := left - named) and not (fault.kills or ended.hung):
            seen.blame("leftovers", f"schemas that are not named: {sorted(unnamed)}")
        if left:
            said = _clean(scene)
            if still := set(_schemas(connection)):
                seen.blame("leftovers", f"server clean leaves {sorted(still)}: {said}")
                for name in still:
                    connection.execute(f'DROP SCHEMA "{name}" CASCADE'.encode())
        for what, question in _NEVER.items():
            if others := connection.execute(question.encode()).fetchall():
                seen.blame("leftovers", f"{what}: {others[:3]}")


_NEVER = {
    "slots": "SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'racebench%'",
    "publications": "SELECT pubname FROM pg_publication",
    "prepared transactions": "SELECT gid FROM pg_prepared_xacts",
    "tables outside of its schema": "SELECT nspname, relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
    " WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema', 'faults', 'pg_toast')",
}


def _sessions(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT application_name, state, left(query, 60) FROM pg_stat_activity WHERE application_name LIKE 'racebench%'"
    ).fetchall()


def _schemas(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """Schemas of racebench's; on a standby none can be."""
    for (name,) in connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'racebench%'").fetchall():
        yield str(name)


def _clean(scene: Scene) -> str:
    """Run `racebench server clean`, as the next command's line advises."""
    assert scene.ground.server is not None
    dsn = scene.ground.server.dsn(AUDITED if scene.driver.audited else PLAIN)
    done = subprocess.run(
        [*COMMAND, "server", "clean", "--dsn", dsn],
        env={**scene.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr


def look_at_files(scene: Scene, fault: Fault, seen: Look) -> None:
    """The folder for temporary files is empty, and every file of results is whole."""
    if any(scene.tmp.iterdir()) and fault.kills:
        for path in scene.tmp.iterdir():
            os.utime(path, (0, 0))  # a new one may belong to a command that has just begun
        command = [*COMMAND, "server", "clean"]
        subprocess.run(command, env={**scene.environment}, capture_output=True, check=False, timeout=60)
    if left := sorted(path.name for path in scene.tmp.iterdir()):
        seen.blame("leftovers", f"temporary files: {left[:3]}")
    for path in sorted(scene.work.rglob("*")):
        if not path.is_file():
            continue
        known = path.suffix in {".json", ".npz", ".xml", ".md"} and not path.name.startswith(".")
        if not known:
            seen.blame("leftovers", f"file {path.relative_to(scene.work)}")
        elif path.suffix == ".json":
            try:
                json.loads(path.read_text())
            except ValueError as problem:
                seen.blame("leftovers", f"half-written {path.relative_to(scene.work)}: {problem}")
