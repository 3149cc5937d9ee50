"""The folder in which multiprocess makes its sockets: named after its process, so that a left one can be recognized.

multiprocess deletes its own folder when the process ends, but not after kill -9, and its name does not say whose it is.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import multiprocess.process
import multiprocess.util

from racebench.core import temporary
from racebench.core.errors import RacebenchError

#: Short, because the path of a socket is limited.
_NAME = re.compile(r"racebench-(\d+)-\w+")
#: How old a folder is before it can be an abandoned one.
_ABANDONED_SECONDS = 60.0


def make() -> None:
    """Make the folder, once for this process, and have it deleted when the process ends. Raises RacebenchError."""
    settings = multiprocess.process.current_process()._config  # where multiprocess itself keeps its folder
    if settings.get("tempdir") is None:
        parent = temporary.parent_of_sockets()
        try:
            folder = tempfile.mkdtemp(prefix=f"racebench-{os.getpid()}-", dir=parent)
        except OSError as problem:
            raise RacebenchError(
                f"cannot make a folder for sockets in {parent}: {problem.strerror}; set TMPDIR to a short path"
            ) from None
        multiprocess.util.Finalize(None, shutil.rmtree, args=[folder, True], exitpriority=-100)
        settings["tempdir"] = folder


def delete_abandoned() -> list[Path]:
    """Delete this user's folders whose process has ended; return which."""
    deleted = []
    for folder in sorted(folder for parent in temporary.parents() for folder in parent.glob("racebench-*")):
        if (name := _NAME.fullmatch(folder.name)) is None or _runs(int(name[1])):
            continue
        with suppress(OSError):
            status = folder.lstat()
            old = time.time() - status.st_mtime > _ABANDONED_SECONDS
            if old and status.st_uid == os.geteuid() and not folder.is_symlink():
                shutil.rmtree(folder)
                deleted.append(folder)
    return deleted


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
