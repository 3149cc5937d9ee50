"""Temporary folders: where they are made, and a lock by which those of killed commands are recognized and deleted.

The path of a socket is limited, so that its folder is in /tmp where the folder for temporary files has too long a path.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "racebench-"
_LOCK = "in-use"
#: How old a folder is before it can be an abandoned one: its lock is taken just after it is made.
_ABANDONED_SECONDS = 60.0
#: How long the path of a socket may be, in bytes: sun_path holds 104 on macOS, 108 on Linux.
LONGEST_SOCKET = 100
#: How long the path of a socket is in the parent of its folder, at most.
_SOCKET_LENGTH = 48
_SHORT = Path("/tmp")


def parent_of_sockets() -> Path:
    """The folder for temporary files, or /tmp where its path is too long for sockets."""
    usual = Path(tempfile.gettempdir())
    return usual if len(os.fsencode(usual)) + _SOCKET_LENGTH <= LONGEST_SOCKET else _SHORT


@contextlib.contextmanager
def temporary_folder(purpose: str, *, parent: Path | None = None, in_use: bool = False) -> Iterator[Path]:
    """A new folder, which is deleted at the end. Its lock ends with the process.

    `in_use`: processes that are about to end may still write there; then what they write may stay.
    """
    prefix = f"{_PREFIX}{purpose}-"
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=in_use) as name,
        (Path(name) / _LOCK).open("wb") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(name)


def delete_abandoned() -> list[Path]:
    """Delete this user's temporary folders that no command uses; return which."""
    deleted = []
    parents = {Path(tempfile.gettempdir()), parent_of_sockets()}
    for folder in sorted(folder for parent in parents for folder in parent.glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if status.st_uid != os.geteuid() or folder.is_symlink():
                continue
            if time.time() - status.st_mtime < _ABANDONED_SECONDS or not _is_free(folder / _LOCK):
                continue
            shutil.rmtree(folder)
            deleted.append(folder)
    return deleted


def _is_free(lock: Path) -> bool:
    file = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True
