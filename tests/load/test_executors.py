"""A place where workers run: what the driver needs of it, and that it needs no more."""

from __future__ import annotations

import os
import queue
import re
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from multiprocess.process import BaseProcess

from executor_tasks import fail, wait_forever, work_on
from racebench.core.errors import Interrupted, RacebenchError
from racebench.core.model import Load, Scenario
from racebench.core.target import Target
from racebench.executors import Channel, Died, Executor, Failure, Worker
from racebench.executors.processes import Processes
from racebench.history.clocks import MachineClock
from racebench.load.driver import LoadDriver


class ThreadChannel:
    def __init__(self, inbox: queue.Queue[object], outbox: queue.Queue[object]) -> None:
        self.inbox, self.outbox = inbox, outbox
        self.peeked: list[object] = []
        self.kept: dict[str, Any] = {}

    def send(self, message: object) -> None:
        self.outbox.put(message)

    def receive(self) -> Any:
        return self.peeked.pop() if self.peeked else self.inbox.get()

    def waiting(self, timeout: float = 0.0) -> bool:
        if not self.peeked:
            try:
                self.peeked.append(self.inbox.get(timeout=timeout))
            except queue.Empty:
                return False
        return True


class ThreadWorker:
    def __init__(self, function: Callable[[Any, Channel], None], task: object) -> None:
        self.inbox: queue.Queue[object] = queue.Queue()
        self.outbox: queue.Queue[object] = queue.Queue()
        self.thread = threading.Thread(target=self.run, args=(function, task), daemon=True)
        self.thread.start()

    def run(self, function: Callable[[Any, Channel], None], task: object) -> None:
        try:
            function(task, ThreadChannel(self.inbox, self.outbox))
        except Exception as error:  # noqa: BLE001 - as a process would
            self.outbox.put(Failure(error))

    def send(self, message: object) -> None:
        self.inbox.put(message)

    def kill(self) -> None:
        self.inbox.put(None)
        self.thread.join(10)


class Threads:
    """Workers as threads of this process."""

    offset_ns = 0
    lead_ns = 20_000_000

    def __init__(self) -> None:
        self.started: list[ThreadWorker] = []
        self.released = 0

    def warm(self, count: int) -> None:
        pass

    def start(self, function: Callable[[Any, Channel], None], task: object) -> Worker:
        self.started.append(ThreadWorker(function, task))
        return self.started[-1]

    def messages(self, workers: Collection[Worker], timeout: float) -> Iterator[tuple[Worker, Any]]:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            ready = [worker for worker in self.started if worker in workers and not worker.outbox.empty()]
            if ready:
                yield from ((worker, worker.outbox.get()) for worker in ready)
                return
            time.sleep(0.001)

    def release(self, workers: Iterable[Worker]) -> None:
        self.released += len(list(workers))

    def settle(self, workers: Iterable[Worker]) -> tuple[MachineClock, ...]:
        assert all(worker in self.started for worker in workers)
        return ()

    def retire(self, workers: Iterable[Worker]) -> None:
        self.release(workers)


def test_a_run_needs_nothing_of_an_executor_but_its_protocol(embedded: Target, version_counter: Scenario) -> None:
    threads = Threads()
    executor: Executor = threads
    driver = LoadDriver(target=embedded, executor=executor)
    load = Load(workers=3, duration_s=None, operations=60)
    strategy, consumer = version_counter.strategies["advisory"], version_counter.consumers["cursor"]
    result = driver.run(version_counter, strategy, [consumer], load, lambda _fraction: None)
    assert result.counts["committed"] == result.counts["rows"] == 60
    assert result.consumers[0].counts["delivered"] == 60
    assert len(threads.started) == threads.released == 4


def ended(executor: Executor, worker: Worker) -> Any:
    """The next message of a worker, however long it takes."""
    while True:
        for _, message in executor.messages([worker], 1.0):
            return message


def test_a_process_says_what_its_function_raised_and_takes_the_next_task() -> None:
    with Processes() as executor:
        worker = executor.start(fail, None)
        failure = ended(executor, worker)
        assert isinstance(failure, Failure)
        assert str(failure.error) == "of the task"
        executor.release([worker])
        assert executor.start(fail, None) is worker


def test_a_message_for_a_task_that_has_failed_does_not_end_the_process() -> None:
    with Processes() as executor:
        worker = executor.start(fail, None)
        assert isinstance(ended(executor, worker), Failure)
        worker.send("late")
        executor.release([worker])
        assert executor.start(fail, None) is worker
        assert isinstance(ended(executor, worker), Failure)


def test_a_killed_process_is_reported_with_its_signal_and_is_not_used_again() -> None:
    with Processes() as executor:
        worker = executor.start(wait_forever, None)
        worker.kill()
        assert ended(executor, worker) == Died(-9)
        executor.release([worker])
        assert executor.start(fail, None) is not worker


def test_a_process_is_ended_even_if_its_retirement_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    join = BaseProcess.join

    def interrupted(_process: BaseProcess, _timeout: float | None = None) -> None:
        monkeypatch.setattr(BaseProcess, "join", join)
        raise Interrupted

    with Processes() as executor:
        worker = executor.start(work_on, None)
        pid = ended(executor, worker)
        monkeypatch.setattr(BaseProcess, "join", interrupted)
        with pytest.raises(Interrupted):
            executor.retire([worker])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.server
@pytest.mark.parametrize("subject", [("-s", "advisory"), ("--call", "calls:ask")])
def test_workers_import_nothing_of_racebench_after_they_were_forked(subject: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "calls.py").write_text(
        "def ask(connection):\n    connection.execute('SELECT 1')\n    connection.commit()\n"
    )
    script = tmp_path / "racebench"  # as pip writes it; `python -m racebench` is not run again in each worker
    script.write_text(
        "import sys\nfrom racebench.cli.main import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    run = subprocess.run(
        [sys.executable, str(script), "run", *subject, "--workers", "6", "--operations", "6", "--no-save"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = Counter(re.findall(r"^import time:.*\|\s+(racebench\S*)$", run.stderr, re.MULTILINE))
    assert modules["racebench.executors.processes"] >= 1
    # By the command and by the server that forks; a module that its package imports has two lines each time.
    assert [name for name, times in modules.items() if times >= 6] == []


@pytest.mark.parametrize(("code", "cause"), [(None, "no exit code"), (-9, "signal 9"), (3, "exit code 3")])
def test_the_end_of_a_process_is_explained_in_words(code: int | None, cause: str) -> None:
    assert Died(code).cause == cause


def test_too_few_descriptors_for_the_processes_are_named_before_one_is_started() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Processes() as pool:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 40, before[1]))
        try:
            with pytest.raises(RacebenchError, match=r"^50 more processes need \d+ open files, and the limit is \d+; "):
                pool.warm(50)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        pool.warm(1)
