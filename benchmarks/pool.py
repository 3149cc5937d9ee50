"""Start worker processes once by a start method, and measure the time: `python -m benchmarks.pool fork 8`.

"early fork" is a command's own way (racebench/executors/forks.py), the others are multiprocess's. Prints the
milliseconds from the creation of the pool until every worker has answered. The workers import the modules that a run
needs. start.py runs this module in a new process each time, so that no process is warm.
"""

from __future__ import annotations

import sys
import time

import click

from racebench.executors import Channel
from racebench.executors.processes import Processes
from racebench.load import worker as _imported  # noqa: F401 - what a run has imported before it starts workers

_PATIENCE_SECONDS = 60.0


def answer(_task: object, channel: Channel) -> None:
    """Answer that this worker is ready."""
    channel.send("up")


def milliseconds(method: str, count: int) -> float:
    """Start a number of workers; return the time until the last one has answered."""
    begin = time.perf_counter()
    with Processes.of_command() if method == "early fork" else Processes(method) as processes:
        processes.warm(count)
        waiting = {processes.start(answer, None) for _ in range(count)}
        everyone = list(waiting)
        while waiting:
            for worker, message in processes.messages(waiting, _PATIENCE_SECONDS):
                if message != "up":
                    raise click.ClickException(f"a worker said {message!r}")
                waiting.discard(worker)
        taken = (time.perf_counter() - begin) * 1e3
        processes.release(everyone)
    return taken


if __name__ == "__main__":
    click.echo(milliseconds(sys.argv[1], int(sys.argv[2])))
