"""Asks the server what a run's sessions wait for, in a process of its own: the server may not answer."""

from __future__ import annotations

import time
from dataclasses import dataclass

from racebench.core.target import Target
from racebench.executors import Channel, Executor
from racebench.postgres import waits

_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Whose waits are asked for: the sessions with an application name."""

    target: Target
    application_name: str


def ask(question: Question, channel: Channel) -> None:
    """Send a text about what the sessions wait for."""
    channel.send(waits.of_application(question.target, question.application_name))


def explained(question: Question, executor: Executor) -> str:
    """What the sessions wait for; that the server does not answer, if it does not within a few seconds."""
    worker = executor.start(ask, question)
    deadline = time.monotonic() + _ANSWER_SECONDS
    try:
        while time.monotonic() < deadline:
            for _, message in executor.messages([worker], 0.1):
                return message if isinstance(message, str) else "the server cannot be asked"
    finally:
        worker.kill()
        executor.release([worker])
    return f"the server does not answer within {_ANSWER_SECONDS:.0f} s"
