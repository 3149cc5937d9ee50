"""The folders of embedded servers: where they are, who owns them, and the locks in them.

Root does nothing under a path that another user could replace. Everything here is the command's user's own; only the
data directory and the folder of the socket, inside a slot, are given to the server's user.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.postgres.embedded.programs import is_root

#: Counts the arrangements of the folder so far: a command never uses what a version with another one has made.
_LAYOUT = 2
_MOVE = "set RACEBENCH_CACHE_DIR to another folder"


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
    return cache_folder() / f"postgresql-{version}-{_LAYOUT}"


def old_folders(version: int) -> list[Path]:
    """The folders of a version that racebench has made in other arrangements."""
    current = server_folder(version)
    named = re.compile(rf"postgresql-{version}(-\d+)?")
    folders = current.parent.iterdir() if current.parent.is_dir() else ()
    return sorted(path for path in folders if named.fullmatch(path.name) and path != current and not path.is_symlink())


def made_folder(version: int) -> Path:
    """As server_folder, and make it. Raises DatabaseProblem if it cannot be made, or if another user could change it.

    The server's user must be able to enter it, whatever the umask is.
    """
    folder = server_folder(version)
    try:
        for path in (folder.parent, folder):
            if not path.exists():
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(0o755)
    except OSError as problem:
        raise DatabaseProblem(
            f"cannot make {folder}: {problem.strerror}; set RACEBENCH_CACHE_DIR to a folder that can be written"
        ) from None
    check_owned(folder)
    return folder


def check_owned(folder: Path) -> None:
    """Raise DatabaseProblem if another user could change what is in a folder; for root, or replace the folder."""
    status = folder.lstat()
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
        raise DatabaseProblem(f"{folder} is not a folder of this user's own; {_MOVE}")
    if not is_root():
        return
    for path in (resolved := folder.resolve(), *resolved.parents):
        status = path.stat()
        protected = status.st_mode & stat.S_ISVTX and path != resolved
        if status.st_uid != 0 or (status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not protected):
            raise DatabaseProblem(f"root cannot use {folder}: other users may change {path}; {_MOVE}")


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


def explain(problem: OSError) -> str:
    """An error of the file system in one line, with the file and without its number."""
    return one_line(f"{problem.filename or ''} {problem.strerror or problem}".strip())


def delete(folder: Path) -> None:
    """Delete a folder and all in it, following no link. What another process still adds may stay."""
    shutil.rmtree(folder, ignore_errors=True)
