"""The folder of one run: a file for each session's operations, two for each consumer, and a lock while it is in use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "racebench-run-"
_LOCK = "in-use"
#: How old a folder is before it can be an abandoned one: its lock is taken just after it is made.
_ABANDONED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The paths of a run's files, none of which this makes."""

    folder: Path

    def operations(self, session: int) -> Path:
        """The operations of a session, numbered from 1 over all workers."""
        return self.folder / f"worker-{session}"

    def deliveries(self, consumer: int) -> Path:
        """The rows delivered to a consumer, by its place in the run."""
        return self.folder / f"deliveries-{consumer}"

    def polls(self, consumer: int) -> Path:
        """The polls of a consumer, by its place in the run."""
        return self.folder / f"polls-{consumer}"


@contextlib.contextmanager
def temporary() -> Iterator[RunFiles]:
    """The files of a run in a new folder, which is deleted at the end. Its lock ends with the process."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, (Path(name) / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield RunFiles(Path(name))


def delete_abandoned() -> list[Path]:
    """Delete this user's run folders that no command uses; return which."""
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
