"""The processes that a command starts: they end with it, and import nothing of the working folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from conftest import Start, UsersServer
from waiting import wait_for

#: Imported by racebench's processes early or late, and packages that racebench depends on.
SHADOWS = (
    *("queue", "random", "socket", "statistics", "numpy", "dill", "psycopg", "multiprocess", "selectors", "bisect"),
    *("xml", "html", "pyexpat", "jinja2"),
)

PARENT = """
import sys
sys.path[:0] = {paths!r}
from executor_tasks import {function}
from racebench.executors.processes import Processes
if __name__ == "__main__":
    with Processes({method!r}) as executor:
        worker = executor.start({function}, None)
        message = None
        while message is None:
            for _, message in executor.messages([worker], 1.0):
                print(message, flush=True)
        sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _temporary_files(monkeypatch: pytest.MonkeyPatch, short_path: Path) -> None:
    """A killed command leaves a folder."""
    monkeypatch.setenv("TMPDIR", str(short_path))


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and has not been waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("function", ["work_on", "compute"])
def test_a_process_ends_when_its_parent_was_killed_whatever_it_is_doing(
    tmp_path: Path, method: str, function: str
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(paths=[path for path in sys.path if path], function=function, method=method))
    parent = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert _is_alive(child)
    parent.kill()
    parent.wait()
    try:
        wait_for(lambda: not _is_alive(child), f"process {child} works on without its parent")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        parent.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_a_killed_or_interrupted_command_leaves_no_session_on_the_server(
    start: Start, users_server: UsersServer, number: signal.Signals
) -> None:
    """Nor does a proxy, through which the workers' sessions pass, or what terminates them."""
    options = ("-w", "3", "-d", "600", "--hold", "5", "--no-save", "--dsn", users_server.dsn())
    faults = ("--fault", "stall:50ms:1%", "--fault", "terminate-backend:every 200ms")
    process = start("run", "-s", "sequence", *options, *faults)
    wait_for(lambda: _rows(users_server) > 0, "the workers write nothing")
    process.send_signal(number)
    process.wait()
    wait_for(lambda: users_server.sessions() == 0, "sessions stay")
    with users_server.connect() as connection:
        for name in users_server.schemas():
            connection.execute(f'DROP SCHEMA "{name}" CASCADE')


def _rows(server: UsersServer) -> int:
    """The rows that a run has written so far."""
    with server.connect() as connection, contextlib.suppress(psycopg.errors.UndefinedTable):
        for name in server.schemas():
            row = connection.execute(f'SELECT count(*) FROM "{name}".events').fetchone()  # type: ignore[arg-type]
            return int(str(row and row[0]))
    return 0


# The working folder


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """The command as pip installs it: not `python -m`, which puts the working folder on the path."""
    script = tmp_path / "bin" / "racebench"
    script.parent.mkdir()
    script.write_text(
        "import sys\nfrom racebench.cli.main import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    return script


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder whose modules have the names of libraries, and say so if they are imported."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in SHADOWS:
        (folder / f"{name}.py").write_text(f"open({str(folder / 'imported')!r}, 'a').write('{name} ')\n")
    (folder / "prices.py").write_text("def price():\n    return 7\n")
    (folder / "orders.py").write_text(
        "import random, prices\n"
        "def create(connection):\n"
        "    random.random()\n"
        "    connection.execute('INSERT INTO orders VALUES (%s)', [prices.price()])\n"
        "    connection.commit()\n"
    )
    return folder


OWN = ("--call", "orders:create", "--setup", "CREATE TABLE orders (id int)", "--invariant", "SELECT 1 WHERE false")


@pytest.mark.server
@pytest.mark.parametrize("subject", [("-s", "advisory"), OWN], ids=["script", "call"])
@pytest.mark.parametrize("module", [False, True], ids=["command", "python -m"])
def test_modules_of_the_working_folder_do_not_shadow_libraries(
    command: Path, folder: Path, subject: tuple[str, ...], module: bool
) -> None:
    """`orders` and `prices`, which exist only there, are found there."""
    program = ["-m", "racebench"] if module else [str(command)]
    run = subprocess.run(
        [sys.executable, *program, "run", *subject, "-w", "2", "-n", "20", "--report", "junit=report.xml", "--no-save"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert (folder / "report.xml").exists()
    imported = folder / "imported"
    assert not imported.exists(), imported.read_text()
