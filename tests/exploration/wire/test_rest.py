"""Whether real processes are at rest: of several languages, with threads, children and timers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from racebench.exploration.kernel_threads import KernelThread
from racebench.exploration.wire import process_trees, rest, timers
from racebench.exploration.wire.rest import Processes

pytestmark = pytest.mark.skipif(not rest.available(), reason="asks the Linux kernel")

Started = tuple[subprocess.Popen[bytes], Processes]
Start = Callable[..., Started]

#: How long something is awaited, in seconds; far longer than it takes.
_LIMIT_S = 60.0
#: Waits for ever once its input has ended, as an application that is idle.
_PYTHON_IDLE = "import threading; threading.Event().wait()"


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "what was awaited did not happen"
        time.sleep(0.001)


def _kill(group: int) -> None:
    with suppress(ProcessLookupError):  # all of it has ended
        os.killpg(group, signal.SIGKILL)


@pytest.fixture
def started() -> Iterator[Start]:
    """Starts a program in a process group of its own, and looks at it; ends it with all its processes."""
    with ExitStack() as stack:

        def start(*words: str, limit_s: float = _LIMIT_S, folder: Path | None = None) -> Started:
            pipe = subprocess.PIPE
            process = subprocess.Popen(words, stdin=pipe, stdout=pipe, process_group=0, cwd=folder)
            stack.enter_context(process)
            stack.callback(_kill, process.pid)
            return process, stack.enter_context(closing(Processes(lambda: (process.pid,), limit_s=limit_s)))

        yield start


def _says(process: subprocess.Popen[bytes]) -> str:
    """The next line that a program prints."""
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def _go_on(process: subprocess.Popen[bytes]) -> None:
    """Give a program a line to read."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def _ran(processes: Processes) -> list[bytes]:
    return [thread.activity() for thread in processes._threads.threads()]


NODE = "process.stdin.once('data', () => setTimeout(() => setTimeout(() => console.log('done'), 30000), 1500))"
ASYNCIO = """
import asyncio, sys
sys.stdin.readline()
async def main():
    await asyncio.sleep(1.5)
    await asyncio.sleep(30)
asyncio.run(main())
"""
THREAD = """
import sys, threading, time
def work():
    time.sleep(1.5)
    threading.Event().wait(30)
sys.stdin.readline()
threading.Thread(target=work).start()
"""
JAVA = """
public class Sleeper {
    public static void main(String[] arguments) throws Exception {
        System.in.read();
        Thread.sleep(450);
        Thread.sleep(30000);
    }
}
"""


@pytest.mark.parametrize("program", ["node", "asyncio", "thread", "shell"])
def test_a_timer_is_seen_and_what_goes_on_when_it_has_passed_is_awaited(started: Start, program: str) -> None:
    words: dict[str, Sequence[str]] = {
        "node": ("node", "-e", NODE),
        "asyncio": (sys.executable, "-c", ASYNCIO),
        "thread": (sys.executable, "-c", THREAD),
        "shell": ("sh", "-c", "read line; sleep 1.5; sleep 30"),
    }
    if shutil.which(words[program][0]) is None:
        pytest.skip(f"{words[program][0]} is not installed")
    process, processes = started(*words[program])
    _until(processes.asleep)
    before = processes.activity()
    assert processes.activity() == before
    assert processes.timer_s() is None, "it waits for its input"
    _go_on(process)
    _until(lambda: processes.asleep() and 0 < (processes.timer_s() or 0) <= 1.5)
    assert processes.activity() != before
    _until(lambda: processes.asleep() and 29 < (processes.timer_s() or 0) <= 30)


def test_the_timers_of_a_virtual_machine_that_is_idle_are_not_those_of_a_session(
    started: Start, tmp_path: Path
) -> None:
    if shutil.which("javac") is None:
        pytest.skip("Java is not installed")
    (tmp_path / "Sleeper.java").write_text(JAVA)
    subprocess.run(["javac", "Sleeper.java"], cwd=tmp_path, check=True)
    process, processes = started("java", "Sleeper", folder=tmp_path)

    def noted() -> bool:
        processes.note_idle()
        return processes.asleep() and (processes.timer_s() or 60) > 0.5

    _until(noted)  # until then its thread that wakes up every 50 ms counts
    _go_on(process)
    _until(lambda: processes.asleep() and 0.06 < (processes.timer_s() or 0) <= 0.45)


def test_a_wait_that_is_repeated_when_idle_is_told_from_another_one_of_the_same_thread(started: Start) -> None:
    program = """
import queue, sys, threading, time
work = queue.Queue()
def serve():
    while True:
        try:
            work.get(timeout=0.02)
        except queue.Empty:
            continue
        time.sleep(2)
threading.Thread(target=serve).start()
sys.stdin.readline()
work.put(1)
"""
    process, processes = started(sys.executable, "-c", program)

    def noted() -> bool:
        processes.note_idle()
        return processes.asleep() and processes.timer_s() is None

    _until(noted)
    before, ran = processes.activity(), _ran(processes)
    _until(lambda: _ran(processes) != ran and processes.activity() == before)
    _go_on(process)
    _until(lambda: processes.asleep() and (processes.timer_s() or 0) > 1)
    assert processes.activity() != before


def _names(process: subprocess.Popen[bytes]) -> set[str]:
    """The names and ids of the threads of a process, as messages write them."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return {f"{(thread / 'comm').read_text().strip()} (thread {thread.name})" for thread in threads}


@pytest.mark.parametrize(
    ("program", "threads"),
    [
        ("while True: pass", 1),
        ("import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin).start()\nspin()", 2),
    ],
)
def test_a_busy_loop_is_named_and_not_awaited_any_more(started: Start, program: str, threads: int) -> None:
    """The second one's threads take turns: each waits for the interpreter's lock half of the time.

    Which of the two is found awake is chance, and which is the first that is no longer awaited.
    """
    process, processes = started(sys.executable, "-c", f"print(flush=True)\n{program}", limit_s=0.3)
    _says(process)
    assert not processes.asleep()
    assert processes.restless == ()
    awake = processes.awake
    assert awake in _names(process)
    _until(processes.asleep)
    names = _names(process)
    assert len(names) == threads
    assert any(f"(thread {process.pid})" in name for name in names)
    assert set(processes.restless) == names


def test_a_thread_that_was_busy_for_long_is_awaited_again_when_it_has_slept(started: Start) -> None:
    program = """
import sys, threading
goes_on = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), goes_on.set())).start()
while not goes_on.is_set(): pass
sys.stdin.readline()
while True: pass
"""
    process, processes = started(sys.executable, "-c", program, limit_s=0.2)
    _until(lambda: processes.asleep() and processes.restless)
    _go_on(process)
    _until(lambda: processes.asleep() and not processes.restless)
    _go_on(process)
    _until(lambda: not processes.asleep())


def test_a_thread_that_waits_for_the_interpreters_lock_is_not_at_rest(started: Start) -> None:
    """It is asleep; the one that has the lock is not."""
    program = f"""
import sys, threading
goes_on = threading.Event()
def spin():
    while not goes_on.is_set(): pass
threading.Thread(target=lambda: (sys.stdin.readline(), goes_on.set())).start()
threading.Thread(target=spin).start()
print(flush=True)
spin()
print(flush=True)
{_PYTHON_IDLE}
"""
    process, processes = started(sys.executable, "-c", program)
    _says(process)
    looks = [processes.asleep() for _ in range(50)]
    assert not any(looks)
    _go_on(process)
    _says(process)
    _until(processes.asleep)


def test_a_thread_in_an_uninterruptible_sleep_is_not_at_rest(started: Start) -> None:
    """The parent of vfork(2) is in state D until its child has ended: nothing else that a test can do is that long."""
    program = "import ctypes, sys\nchild = ctypes.CDLL(None).vfork()\nif not child: sys.stdin.readline()"
    process, processes = started(sys.executable, "-c", f"{program}\nimport time; time.sleep(30)")
    thread = KernelThread(process.pid, process.pid)
    with closing(thread):
        _until(lambda: b" D " in os.pread(thread._state, 1024, 0))
        assert not processes.asleep()
        assert str(process.pid) in processes.awake


def test_processes_that_are_born_later_belong_to_it_also_when_their_parent_has_ended(started: Start) -> None:
    """As a server that forks its workers, and a shell that ends before the program that it has started."""
    program = """
import os, signal, sys, time
sys.stdin.readline()
for _ in range(2):
    if os.fork() == 0:
        if os.fork():
            os._exit(0)
        sys.stdin.readline()
        sum(range(10**7))
        time.sleep(30)
signal.pause()
"""
    process, processes = started(sys.executable, "-c", program)
    _until(processes.asleep)
    assert len(processes._threads.threads()) == 1
    _go_on(process)
    _until(lambda: processes.asleep() and len({thread.process for thread in processes._threads.threads()}) >= 3)
    _go_on(process)
    _until(lambda: not processes.asleep())
    _until(lambda: processes.asleep() and processes.timer_s() is not None)


def test_an_application_that_has_ended_is_at_rest(started: Start) -> None:
    process, processes = started("sh", "-c", "read line")
    _until(processes.asleep)
    _go_on(process)
    process.wait()
    assert processes.asleep()
    assert processes.activity() == frozenset()
    assert processes.timer_s() is None
    assert processes.awake == ""


def test_a_thread_that_ends_between_two_questions_is_no_error(started: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    _, processes = started(sys.executable, "-c", "while True: pass", limit_s=0.01)
    _until(lambda: processes._awake is not None or processes.asleep())

    def ended(thread: KernelThread) -> str:
        raise ProcessLookupError

    monkeypatch.setattr(KernelThread, "name", ended)
    for _ in range(20):
        processes.asleep()
        processes._note_awake()
    assert processes.restless == ()
    assert processes.awake == ""


def test_a_process_that_ends_while_its_timer_is_read_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        address = int(Path(f"/proc/{process.pid}/maps").read_text().partition("-")[0], 16)
        really_open = os.open

        def open_and_end(path: str, flags: int) -> int:
            opened = really_open(path, flags)
            process.kill()
            process.wait()
            return opened

        assert timers._time_at(process.pid, address)
        monkeypatch.setattr(os, "open", open_and_end)
        with pytest.raises(ProcessLookupError):
            timers._time_at(process.pid, address)


def test_births_are_found_also_where_the_kernel_does_not_count_them(
    started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_trees.ProcessTrees, "_last_id", lambda _: 0)
    process, processes = started("sh", "-c", "read line; sleep 30; true")
    _until(processes.asleep)
    _go_on(process)
    _until(lambda: processes.asleep() and (processes.timer_s() or 0) > 20)


def test_what_the_kernel_does_not_show_is_said(started: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    _, processes = started("sleep", "30")
    _until(lambda: processes.asleep() and processes.timer_s() is not None)
    assert processes.shows_timers

    def hidden(process: int, tid: int) -> None:
        raise PermissionError

    monkeypatch.setattr(timers, "wait_of", hidden)
    assert processes.timer_s() is None
    assert not processes.shows_timers
