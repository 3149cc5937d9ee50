"""Functions that the tests of executors run in other processes, which import this module by its name."""

from __future__ import annotations

import os
import time

from racebench.executors import Channel


def fail(_task: object, _channel: Channel) -> None:
    raise ValueError("of the task")


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
