"""Functions that the tests of executors run in other processes, which import this module by its name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from racebench.executors import Channel


def fail(_task: object, _channel: Channel) -> None:
    raise ValueError("of the task")


def use_cache(folder: str, function: Callable[[Any, Channel], None], task: object, channel: Channel) -> None:
    """Run a function whose embedded servers are in a folder, wherever those of the process would be."""
    os.environ["RACEBENCH_CACHE_DIR"] = folder
    function(task, channel)


def wait_forever(_task: object, channel: Channel) -> None:
    channel.receive()


def work_on(_task: object, channel: Channel) -> None:
    """Work on when the driver has closed the pipe, as an application's thread may."""
    channel.send(os.getpid())
    while True:
        time.sleep(60)


def compute(_task: object, channel: Channel) -> None:
    """Work without a pause, as a worker's loop does."""
    channel.send(os.getpid())
    while True:
        sum(range(1000))
