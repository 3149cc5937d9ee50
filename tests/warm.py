"""Commands that run in forks of one process that has everything imported: 20 ms a command, not half a second.

`Warm` belongs to the tests' process; run as a program, this file is the other process.
"""

from __future__ import annotations

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
from pathlib import Path
from typing import NoReturn

from waiting import LIMIT_S

ALSO = ("jinja2", "numpy", "psycopg", "rich.console", "rich.live", "rich.table")
LEFT_OUT = ("racebench.__main__", "racebench.pytest_plugin")


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

    def run(self, arguments: tuple[str, ...], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run `python -m racebench` with these arguments in a folder, with the environment of now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        output, errors = self._folder / "output", self._folder / "errors"
        request = [arguments, str(cwd), dict(os.environ), str(output), str(errors)]
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], LIMIT_S)[0]:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise AssertionError(f"racebench {arguments} did not end")
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
        arguments, cwd, environment, output, errors = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(arguments, cwd, environment, output, errors)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(arguments: list[str], cwd: str, environment: dict[str, str], output: str, errors: str) -> NoReturn:
    """What `python -m racebench` in that folder would be."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # found in the environment of the test that started this process
    for number, path in ((0, os.devnull), (1, output), (2, errors)):
        mode = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(path, mode), number)
    sys.path[0] = cwd
    sys.argv = ["racebench", *arguments]
    code: object = 0
    try:
        runpy.run_module("racebench", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    _serve()
