"""Temporary folders with a lock, by which those of killed commands are recognized and can be deleted."""

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


@contextlib.contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A new folder, which is deleted at the end. Its lock ends with the process."""
    prefix = f"{_PREFIX}{purpose}-"
    with tempfile.TemporaryDirectory(prefix=prefix) as name, (Path(name) / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(name)


def delete_abandoned() -> list[Path]:
    """Delete this user's temporary folders that no command uses; return which."""
    deleted = []
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")):
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
