"""The template of data directories: one file, packed from what initdb makes, from which each server's data is unpacked.

The file is the command's user's. What is in it is never trusted: the server's user packs it and unpacks it. A template
is there completely or not at all, whatever became of the command that made it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.postgres.embedded.folders import delete, explain, locked
from racebench.postgres.embedded.programs import give_to_server_user, run_program

#: The role that runs the SQL of scenarios and of the user's code, which is no superuser, and the one that is.
ROLE, SUPERUSER = "racebench", "postgres"
_MAKING = "making-"
#: The exit code of a server whose data could not be unpacked. PostgreSQL's own are 0 to 3.
NOT_UNPACKED = 97
#: A shell adds variables of its own to the environment, which is made here.
_UNPACK = f"""
"$1" -xf - || exit {NOT_UNPACKED}
shift
[ $# -eq 0 ] || exec env -i PATH="$PATH" LC_ALL="$LC_ALL" TZ="$TZ" "$@" </dev/null 2>&1
"""
#: What only superusers may set, and what a program or racebench may have to set nevertheless.
_PARAMETERS = (
    *("commit_delay", "deadlock_timeout", "lc_messages", "log_duration", "log_lock_waits"),
    *("log_min_duration_statement", "log_min_error_statement", "log_min_messages", "log_statement"),
    *("session_replication_role", "track_activities", "track_counts", "track_functions", "track_io_timing"),
    "wal_compression",
)
#: The catalogs' maps of free space and of visibility, a fifth of the files. Where one is missing, PostgreSQL takes it
#: for empty, and makes it when it needs it.
_LEFT_OUT = ("--exclude=*_fsm", "--exclude=*_vm")
# Only the database `postgres` is ever used. Without the two templates a copy is 370 files instead of 970.
# No role here can become a superuser, read or write files of the server, or run programs there.
_SET_UP = f"""UPDATE pg_database SET datistemplate = false
DROP DATABASE template0
DROP DATABASE template1
CREATE ROLE {ROLE} LOGIN CREATEDB CREATEROLE REPLICATION BYPASSRLS
GRANT pg_monitor, pg_signal_backend, pg_checkpoint TO {ROLE}
GRANT SET ON PARAMETER {", ".join(_PARAMETERS)} TO {ROLE}
ALTER DATABASE postgres OWNER TO {ROLE}
"""


def unpack(programs: Path, folder: Path, data: Path) -> None:
    """Make a data directory from the template in a folder, and wait until it is complete. Raises DatabaseProblem."""
    with place(programs, folder, data) as template:
        code, said = run_program(unpacking(), cwd=data, stdin=template)
    if code != 0:
        raise not_unpacked(data, said)


def place(programs: Path, folder: Path, data: Path) -> IO[bytes]:
    """Make an empty data directory; return the template in a folder, which is made by initdb if there is none yet.

    Raises DatabaseProblem.
    """
    data.mkdir(mode=0o700)
    give_to_server_user(data)
    return _opened(programs, folder)


def unpacking(program: Sequence[str] = ()) -> list[str]:
    """The command that unpacks the template, its stdin, in its working folder, and then becomes another program.

    The exit code is NOT_UNPACKED if that fails; why is on stderr. What the program writes there goes to stdout.
    """
    return ["/bin/sh", "-c", _UNPACK, "sh", _tar(), *program]


def not_unpacked(data: Path, said: str) -> DatabaseProblem:
    """The error if the template could not be unpacked. `said`: what was written to stderr."""
    return DatabaseProblem(
        f"cannot copy the embedded server's data to {data}: {_reason(said)}; free some space, try "
        "`racebench server reset`, or set RACEBENCH_CACHE_DIR to another place"
    )


def exists(folder: Path) -> bool:
    """Whether there is a template in a folder, so that a server starts soon."""
    return _template(folder).is_file()


def _template(folder: Path) -> Path:
    return folder / "template.tar"


def _opened(programs: Path, folder: Path) -> IO[bytes]:
    """The template, open to be read."""
    template = _template(folder)
    try:
        return template.open("rb")
    except FileNotFoundError:
        with locked(folder / "template.lock", wait=True):
            if not template.exists():
                _make(programs, folder, template)
            return template.open("rb")


def delete_unfinished(folder: Path) -> list[Path]:
    """Delete what killed commands left while they made the template, whose lock is held; return what was deleted."""
    unfinished = sorted(folder.glob(f"{_MAKING}*"))
    for path in unfinished:
        delete(path)
    return unfinished


def _make(programs: Path, folder: Path, template: Path) -> None:
    delete_unfinished(folder)
    making = Path(tempfile.mkdtemp(prefix=_MAKING, dir=folder))
    try:
        making.chmod(0o755)
        cluster = making / "data"
        cluster.mkdir(mode=0o700)
        give_to_server_user(cluster)
        initdb = [str(programs / "initdb"), "-D", str(cluster), "-U", SUPERUSER, "--auth=reject", "--encoding=UTF8"]
        initdb += ["--no-locale", "--wal-segsize=1", "--no-sync", "--no-instructions", "--set", "timezone=UTC"]
        _run(initdb, cluster, folder)
        single = [str(programs / "postgres"), "--single", "-F", "-D", str(cluster), "postgres"]
        _run(single, cluster, folder, _SET_UP.encode())
        packed = making / template.name
        with packed.open("wb") as file:
            code, said = run_program([_tar(), *_LEFT_OUT, "-cf", "-", "."], cwd=cluster, output=file)
        if code != 0:
            raise DatabaseProblem(f"cannot pack the embedded server's data in {folder}: {_reason(said)}")
        packed.rename(template)
    except OSError as problem:
        raise DatabaseProblem(f"cannot set up the embedded server in {folder}: {explain(problem)}") from None
    finally:
        delete(making)


def _run(command: list[str], cluster: Path, folder: Path, commands: bytes = b"") -> None:
    """Run a program that sets the template up, `commands` on its stdin; raises DatabaseProblem with its message."""
    with tempfile.TemporaryFile() as stdin:
        stdin.write(commands)
        stdin.seek(0)
        code, text = run_program(command, cwd=cluster, stdin=stdin)
    errors = [line for line in text.splitlines() if "error" in line or "ERROR" in line or "FATAL" in line]
    if code != 0 or (commands and errors):
        error = errors[0] if errors else text[-300:]
        raise DatabaseProblem(f"cannot set up the embedded server in {folder}: {one_line(error)}")


def _tar() -> str:
    """The program that packs and unpacks; raises DatabaseProblem if there is none."""
    if (program := shutil.which("tar")) is None:
        raise DatabaseProblem(
            "the program 'tar' is not installed, which copies the embedded server's data; install it, or use --dsn"
        )
    return program


def _reason(said: str) -> str:
    """The first line that a program has written."""
    return one_line(next(iter(said.strip().splitlines()), "it gave no reason"))
