"""A command's own way to start processes: forks of a fork that it makes before it has opened anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from executor_tasks import fail, wait_forever, work_on
from racebench.executors import Channel, Died, Executor, Failure, Worker, forks
from racebench.executors.processes import Processes
from waiting import wait_for

PROGRAM = """
import os, sys
sys.path[:0] = {paths!r}
from test_forks import {function}
sys.stdout.write(str({function}()))
"""


def ended(executor: Executor, worker: Worker) -> Any:
    while True:
        for _, message in executor.messages([worker], 1.0):
            return message


def tell(task: object, channel: Channel) -> None:
    """Send what a process has inherited."""
    files = sorted(int(name) for name in os.listdir("/dev/fd") if Path(f"/dev/fd/{name}").exists())  # noqa: PTH208
    links = {number: str(Path(f"/proc/self/fd/{number}").readlink()) for number in files}
    channel.send((task, links, signal.getsignal(signal.SIGINT) is signal.SIG_IGN, os.getpid()))


def exits(_task: object, _channel: Channel) -> None:
    sys.exit(7)


def in_new_process(function: str) -> str:
    """Run a function of this module in a process of its own, which has one thread; what it prints."""
    paths = [str(Path(__file__).parent), *(path for path in sys.path if path)]
    program = [sys.executable, "-c", PROGRAM.format(paths=paths, function=function)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def forked() -> Processes:
    assert forks.possible()
    return Processes(starter=forks.Forks())


def use_processes() -> bool:
    """Everything that a pool can do; whether a process is left."""
    with forked() as pool:
        first = pool.start(fail, None)
        message = ended(pool, first)
        assert isinstance(message, Failure)
        assert str(message.error) == "of the task"
        pool.release([first])
        assert pool.start(wait_forever, None) is first
        first.kill()
        assert ended(pool, first) == Died(-9)
        pool.release([first])
        second = pool.start(exits, None)
        assert second is not first
        assert ended(pool, second) == Died(7)
        pool.release([second])
        pool.warm(3)
        working = pool.start(work_on, None)
        pid = ended(pool, working)
    return Path(f"/proc/{pid}").exists()


def inherit_nothing() -> None:
    with open("/dev/zero") as _kept, forked() as pool:  # noqa: PTH123 - a file that the command has open
        worker = pool.start(tell, "task")
        task, links, ignores, _ = ended(pool, worker)
        assert task == "task"
        assert ignores
        assert not [path for path in links.values() if path == "/dev/zero"]
        pool.release([worker])


def lose_the_forker() -> str:
    """Without the process that forks, the pool says so, and ends."""
    said = ""
    from racebench.core.errors import RacebenchError

    with forked() as pool:
        worker = pool.start(wait_forever, None)
        starter: Any = pool._starter
        os.kill(starter._pid, signal.SIGKILL)
        try:
            pool.start(wait_forever, None)
        except RacebenchError as problem:
            said = str(problem)
        worker.kill()
    return said


def receive_the_signals_of_a_group() -> list[object]:
    """What ends the processes of a command's group does not end the one that forks, which is asked for their ends."""
    with forked() as pool:
        worker = pool.start(wait_forever, None)
        starter: Any = pool._starter
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(starter._pid, number)
        worker.kill()
        first = ended(pool, worker)
        pool.release([worker])
        again = pool.start(tell, None)
        pid = ended(pool, again)[-1]
        pool.release([again])
        sleeper = pool.start(work_on, None)
        os.kill(ended(pool, sleeper), signal.SIGTERM)
        return [first, ended(pool, sleeper), pid > 0]


def test_signals_do_not_end_the_process_that_forks() -> None:
    assert in_new_process("receive_the_signals_of_a_group") == str([Died(-9), Died(-15), True])


def be_interrupted_while_starting() -> bool:
    """A signal that comes when a process has just been forked: whether that process is left."""
    from racebench.core import signals
    from racebench.core.errors import Interrupted

    pids: list[int] = []
    try:
        with signals.handled(), forked() as pool:
            starter: Any = pool._starter
            ask = starter._ask

            def interrupted(*request: int) -> Any:
                answer = ask(*request)
                if not pids:
                    pids.append(answer[1])
                    signal.raise_signal(signal.SIGTERM)
                return answer

            starter._ask = interrupted
            pool.warm(2)
    except Interrupted:
        return Path(f"/proc/{pids[0]}").exists()
    raise AssertionError("it was not interrupted")


def test_a_process_whose_start_was_interrupted_is_ended() -> None:
    assert in_new_process("be_interrupted_while_starting") == "False"


def test_processes_are_started_ended_and_reported_as_others_are() -> None:
    assert in_new_process("use_processes") == "False"


def test_a_process_inherits_no_file_of_the_command() -> None:
    in_new_process("inherit_nothing")


def test_the_end_of_the_process_that_forks_is_one_line() -> None:
    assert in_new_process("lose_the_forker").startswith("cannot start a process: ")


def test_a_process_with_threads_does_not_fork() -> None:
    waiting = threading.Event()
    thread = threading.Thread(target=waiting.wait)
    thread.start()
    try:
        assert not forks.possible()
    finally:
        waiting.set()
        thread.join()


@pytest.mark.parametrize("function", ["work_on", "compute"])
def test_a_fork_ends_when_the_command_was_killed_whatever_it_is_doing(function: str) -> None:
    paths = [str(Path(__file__).parent), *(path for path in sys.path if path)]
    program = (
        f"import sys\nsys.path[:0] = {paths!r}\nfrom test_forks import forked, ended\n"
        f"from executor_tasks import {function}\n"
        "with forked() as pool:\n"
        f"    worker = pool.start({function}, None)\n"
        "    print(ended(pool, worker), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    pid = int(command.stdout.readline())
    command.kill()
    command.communicate()
    wait_for(lambda: not _is_alive(pid), f"process {pid} works on without its parent")


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
