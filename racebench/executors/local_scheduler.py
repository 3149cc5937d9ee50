"""Starts a Dask scheduler and machines here, each machine a process, for as long as one command needs them.

The processes are forked from one that has imported Dask once. They and what they start have a session of their own,
which a Ctrl-C of the terminal does not reach, and a folder for temporary files, which is deleted with them, even if one
of them was killed.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator
from typing import Any

from racebench.core.environ import exported
from racebench.core.errors import RacebenchError
from racebench.core.plain_text import one_line
from racebench.core.signals import shielded
from racebench.core.temporary import parent_of_sockets, temporary_folder

_CLOSE_SECONDS = 5.0
_PRELOAD = ("racebench.executors.own_session", "distributed", "racebench.executors.agent")
_METHOD = "distributed.worker.multiprocessing-method"
#: Where the scheduler, which runs in this process, makes a folder that it does not delete.
_TEMPORARY = "temporary-directory"
#: Of what a killed machine has shared, Python would say that it is removed.
_UNSAID = "ignore:resource_tracker:UserWarning"


@contextlib.contextmanager
def started(machines: int) -> Iterator[Any]:
    """A scheduler and so many machines, for a Client of Dask; raises RacebenchError."""
    import dask

    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    with (
        temporary_folder("machines", parent=parent_of_sockets(), in_use=True) as folder,
        dask.config.set({_METHOD: method, _TEMPORARY: str(folder)}),
    ):
        with shielded(), exported({"TMPDIR": str(folder), "PYTHONWARNINGS": _UNSAID}):
            cluster = _start(machines, str(folder), forked=method == "forkserver")
        try:
            yield cluster
        finally:
            with shielded():
                cluster.close(timeout=_CLOSE_SECONDS)


def _start(machines: int, folder: str, *, forked: bool) -> Any:
    from multiprocessing import resource_tracker

    from distributed import LocalCluster
    from distributed.utils import get_mp_context

    # It lets SIGINT through when it is started, so that it is started before SIGINT is blocked.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # the new processes inherit it
    try:
        if forked:
            from multiprocessing import forkserver

            get_mp_context().set_forkserver_preload(list(_PRELOAD))  # get_mp_context sets Dask's own list at first
            forkserver.ensure_running()
        return LocalCluster(
            n_workers=machines,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None would be port 8787, and a warning where that is occupied
            scheduler_kwargs={"dashboard": False},
            local_directory=folder,
            env={**os.environ, "TMPDIR": folder},  # a fork server that runs already has an older one
            preload=["racebench.executors.own_folder"],
            silence_logs=logging.CRITICAL,
        )
    except Exception as problem:  # noqa: BLE001 - of whatever kind, from Dask or from one of its processes
        raise RacebenchError(f"cannot start Dask here: {one_line(str(problem))}") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
