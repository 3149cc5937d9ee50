"""Processes of programs under test: how they end, what they print, and that none is left."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from racebench.core.errors import UsageProblem
from racebench.workloads.processes import Process, none_left
from tests.waiting import wait_for
from tests.workloads.programs import python, written

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")


@pytest.fixture
def started() -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.stop()


def runs(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def number_in(path: Path) -> int:
    wait_for(lambda: path.exists() and path.read_text().endswith("\n"), f"no number in {path}")
    return int(path.read_text())


def test_a_process_ends_with_its_code_and_what_it_printed(started: list[Process]) -> None:
    text = "import os, sys; print(os.environ['WHO'], 'PGHOST' in os.environ); print('x' * 200000); sys.exit('no stock')"
    os.environ["PGHOST"] = "elsewhere"
    try:
        process = Process.start(python(text), {"WHO": "you", "PGHOST": None})
    finally:
        del os.environ["PGHOST"]
    started.append(process)
    ended = process.wait(60)
    assert ended is not None
    assert (ended.code, ended.described, ended.stderr) == (1, "exit 1", b"no stock\n")
    assert ended.stdout.startswith(b"you False\n")
    assert len(ended.stdout) == 200_011
    assert process.last_lines() == "no stock"
    if process.exited is not None:
        assert select.select([process.exited], [], [], 0)[0]
    process.stop()
    process.stop()
    assert process.poll() == ended
    assert process.last_lines() == "no stock"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("no-such-command-here",),
            "'no-such-command-here' cannot be started: there is no such command; give its path",
        ),
        (("/etc/passwd",), "'/etc/passwd' cannot be started: Permission denied; make it executable"),
        (("/etc/passwd/x",), "there is no such command"),
        (("echo", "a\0b"), "'echo' cannot be started: embedded null byte"),
    ],
)
def test_a_command_that_cannot_be_started_is_one_clear_line(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageProblem) as raised:
        Process.start(words, {})
    assert message in str(raised.value)


def test_stop_ends_a_process_that_ignores_sigterm_with_what_a_shell_started_for_it(
    started: list[Process], tmp_path: Path
) -> None:
    stubborn = written(
        tmp_path,
        "stubborn.py",
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.setsid() if 'leaves' in sys.argv else None\n"
        "print(os.getpid(), file=open(sys.argv[1], 'w'))\n"
        "time.sleep(600)\n",
    )
    first, second = tmp_path / "first", tmp_path / "second"
    interpreter = python("")[0]
    process = Process.start(
        ("sh", "-c", f"'{interpreter}' {stubborn} {first} & '{interpreter}' {stubborn} {second} leaves; true"), {}
    )
    started.append(process)
    pids = [number_in(first), number_in(second)]
    process.stop(termination_s=0.1)
    assert process.poll() is not None
    wait_for(lambda: not any(map(runs, pids)), "a process is left")


def test_a_process_that_a_killed_worker_or_a_daemon_left_ends_with_the_command(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    daemon = (
        "import os, sys, time\n"
        "if os.fork(): sys.exit()\n"
        "os.setsid()\n"
        f"print(os.getpid(), file=open({str(file)!r}, 'w'), flush=True)\n"
        "time.sleep(600)\n"
    )
    with none_left():
        process = Process.start(python(daemon), {})
        assert process.wait(60) is not None
        pid = number_in(file)
        process.stop()
        assert runs(pid)  # it has left the group, and its parent has ended
    wait_for(lambda: not runs(pid), "the daemon is left")


def test_a_signal_is_named(started: list[Process]) -> None:
    process = Process.start(("sleep", "600"), {})
    started.append(process)
    assert process.poll() is None
    assert process.wait(0.01) is None
    os.kill(process.pid, signal.SIGKILL)
    began = time.monotonic()
    ended = process.wait(60)
    assert ended is not None
    assert ended.described == "SIGKILL"
    assert time.monotonic() - began < 30
