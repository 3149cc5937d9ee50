"""Commands that run in forks of one process that has everything imported: 20 ms a command, not half a second.

The processes from which a command's workers are forked are forks, too, where they would be new programs: that saves
half a second more. `Warm` belongs to the tests' process; run as a program, this file is the other process.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn

import multiprocess
import multiprocess.forkserver
import multiprocess.resource_tracker

from waiting import LIMIT_S

ALSO = ("jinja2", "numpy", "psycopg", "rich.console", "rich.live", "rich.table")
LEFT_OUT = ("racebench.__main__", "racebench.pytest_plugin")
#: Beginnings of the variables that a program reads when it starts, before a fork of it could be given others.
READ_AT_START = ("LANG", "LC_", "PYTHON")


class Warm:
    """The process that forks; its commands run one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, arguments: tuple[str, ...], cwd: Path, environment: dict[str, str], *, module: str = "racebench"
    ) -> subprocess.CompletedProcess[str]:
        """Run `python -m MODULE` with these arguments, in a folder and in an environment."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        output, errors = self._folder / "output", self._folder / "errors"
        request = [module, arguments, str(cwd), environment, str(output), str(errors)]
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], LIMIT_S)[0]:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise AssertionError(f"{module} {arguments} did not end")
        code = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, output.read_text(), errors.read_text())

    def close(self) -> None:
        self._process.communicate()


def _serve() -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a thread would not survive the fork
    package = importlib.import_module("racebench")
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, "racebench.")]
    for name in (*ALSO, *modules):
        if name not in LEFT_OUT:
            importlib.import_module(name)
    for line in sys.stdin:
        module, arguments, cwd, environment, output, errors = json.loads(line)
        importlib.import_module(module)
        pid = os.fork()
        if pid == 0:
            _become(module, arguments, cwd, environment, output, errors)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(
    module: str, arguments: list[str], cwd: str, environment: dict[str, str], output: str, errors: str
) -> NoReturn:
    """What `python -m MODULE` in that folder would be."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # found in the environment of the test that started this process
    for number, path in ((0, os.devnull), (1, output), (2, errors)):
        mode = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(path, mode), number)
    sys.path[0] = cwd
    sys.argv = [module, *arguments]
    multiprocess.util.spawnv_passfds = _fork_python
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    atexit._run_exitfuncs()  # multiprocess deletes its folder
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


def _fork_python(_python: str, arguments: list[str], passed: list[int]) -> int:
    """Start `python -c PROGRAM` as a fork of this process; what multiprocess.util.spawnv_passfds would return.

    What a new program would not have is taken away: other open files, handlers of signals, the state of multiprocess.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        _close_all_but({0, 1, 2, *passed})
        # The command may have detached those that it had.
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
        place = arguments.index("-c")
        sys.argv = ["-c", *arguments[place + 2 :]]
        multiprocess.forkserver._forkserver.__init__()
        multiprocess.resource_tracker._resource_tracker.__init__()
        multiprocess.process.current_process()._config.pop("tempdir", None)
        # A new dictionary: to clear the old one would run its finalizers' own, and delete the command's folders.
        multiprocess.util._finalizer_registry = {}
        exec(arguments[place + 1], {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:  # noqa: BLE001 - printed, as a program's is
        traceback.print_exc()
    os._exit(code)


def _close_all_but(kept: set[int]) -> None:
    """Have files of objects that are still there lead nowhere: closed, their numbers would be those of other files."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in {int(file.name) for file in Path("/dev/fd").iterdir()} - kept - {nowhere}:
        with contextlib.suppress(OSError):  # the listing's own
            os.fstat(number)
            os.dup2(nowhere, number, inheritable=False)
    os.close(nowhere)


if __name__ == "__main__":
    _serve()
