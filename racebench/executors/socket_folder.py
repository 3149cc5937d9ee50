"""The folder in which multiprocess makes its sockets: one with a lock, so that a left one can be recognized.

multiprocess deletes its own folder when the process ends, but not after kill -9, and its name does not say whose it is.
"""

from __future__ import annotations

from contextlib import ExitStack

import multiprocess.process
import multiprocess.util

from racebench.core.errors import RacebenchError
from racebench.core.temporary import parent_of_sockets, temporary_folder


def make() -> None:
    """Make the folder, once for this process, and have it deleted when the process ends. Raises RacebenchError."""
    settings = multiprocess.process.current_process()._config  # where multiprocess itself keeps its folder
    if settings.get("tempdir") is None:
        parent, stack = parent_of_sockets(), ExitStack()
        try:
            folder = stack.enter_context(temporary_folder("sockets", parent=parent))
        except OSError as problem:
            raise RacebenchError(
                f"cannot make a folder for sockets in {parent}: {problem.strerror}; set TMPDIR to a short path"
            ) from None
        multiprocess.util.Finalize(None, stack.close, exitpriority=-100)
        settings["tempdir"] = str(folder)
