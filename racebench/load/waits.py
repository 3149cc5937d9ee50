"""Asks the server what a run's sessions wait for, in a process of its own: the server may not answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from racebench.core.errors import DatabaseProblem
from racebench.core.model import Load, Sleep, Strategy
from racebench.core.target import Pooling, Target
from racebench.executors import Channel, Executor
from racebench.postgres import waits
from racebench.workloads.retry import longest_pause_s

_ANSWER_SECONDS = 5.0
#: How long the server's sessions must be unchanged, beside their longest delay, before a wait is taken for endless.
_QUIET_SECONDS = 2.0
#: The variables of a script that Load.longest_us knows of.
_OF_THE_LOAD = ("think", "hold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Whose waits are asked for: the sessions with an application name. `quiet_s`: see quiet_before_endless."""

    target: Target
    application_name: str
    quiet_s: float = 0.0


def ask(question: Question, channel: Channel) -> None:
    """Send a text about what the sessions wait for."""
    channel.send(waits.of_application(question.target, question.application_name))


def ask_whether_endless(question: Question, channel: Channel) -> None:
    """Send whether no session can go on, because idle ones keep the locks; False if the server cannot be asked."""
    try:
        channel.send(waits.wait_for_idle(question.target, question.application_name, quiet_s=question.quiet_s))
    except (DatabaseProblem, psycopg.Error):
        channel.send(False)


def explained(question: Question, executor: Executor) -> str:
    """What the sessions wait for; that the server does not answer, if it does not within a few seconds."""
    answer = _answer(ask, question, executor)
    if answer is None:
        return f"the server does not answer within {_ANSWER_SECONDS:.0f} s"
    return answer if isinstance(answer, str) else "the server cannot be asked"


def quiet_before_endless(target: Target, strategy: Strategy, load: Load) -> float | None:
    """For how long sessions of the server must be unchanged, in seconds, if they may wait for one another without an
    end; None if they may not, or if that cannot be known.

    A pooler shares sessions of the server unless it is in session mode, so that a lock may be left in an idle one.
    An application may have a limit for its waits, and a script sets one with a setting whose name has "timeout" in it.
    A fault may cut the session that keeps the lock. A client that pauses between two statements may go on.
    """
    shared = target.pooler in (Pooling.TRANSACTION, Pooling.STATEMENT)
    if not shared or strategy.is_application or load.faults or "timeout" in str(strategy).lower():
        return None
    longest_us = load.longest_us + longest_pause_s(strategy.retry) * 1e6
    for step in strategy.script.steps:
        if isinstance(step, Sleep) and step.amount not in _OF_THE_LOAD:
            if isinstance(step.amount, str):
                return None
            longest_us += step.amount * step.unit_us
    return _QUIET_SECONDS + longest_us / 1e6


def endless(question: Question, executor: Executor) -> bool:
    """Whether no session can go on, because idle ones keep the locks that all others wait for."""
    return _answer(ask_whether_endless, question, executor) is True


def _answer(function: Callable[[Question, Channel], None], question: Question, executor: Executor) -> object:
    """What a process of its own is told by the server; None if that takes longer than a few seconds."""
    worker = executor.start(function, question)
    deadline = time.monotonic() + _ANSWER_SECONDS
    try:
        while time.monotonic() < deadline:
            for _, message in executor.messages([worker], 0.1):
                return message
    finally:
        worker.kill()
        executor.release([worker])
    return None
