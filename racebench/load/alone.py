"""Runs the calls of a strategy one after the other, in a separate process: an error that occurs then is not a race."""

from __future__ import annotations

import time
from dataclasses import dataclass

from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.executors import Died, Executor, Failure, Worker
from racebench.load.assignment import Assignment
from racebench.load.call_worker import Alone, AloneTask, try_alone
from racebench.load.crew import READY_SECONDS, TICK_SECONDS
from racebench.load.standing import standing_at
from racebench.load.waits import Question, explained
from racebench.postgres.client_sessions import ClientSessions
from racebench.postgres.connection import connect
from racebench.postgres.schemas import application_name
from racebench.postgres.snapshot import Snapshot
from racebench.workloads.callables import advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The calls' results without other sessions. `reached`: a statement of theirs may have reached the server.

    `late`: the modules of libraries that the calls imported.
    """

    codes: frozenset[str]
    reached: bool
    late: tuple[str, ...]


def try_before(assignment: Assignment, executor: Executor) -> Tried:
    """Try the calls without other sessions; the tables are restored. Raises UsageProblem if a call fails."""
    with connect(assignment.target, schema=assignment.schema) as connection:
        before = Snapshot(connection, assignment.schema)
        sessions = ClientSessions(connection, assignment.schema)
        alone = run_alone(assignment, executor)
        pooled = assignment.entrance.pooled
        reached = alone.used or pooled or sessions.worked(own=alone.connections)
        if assignment.instances is not None:
            assignment.instances.settle(connection)
        if assignment.pooler is not None:
            assignment.pooler.restart()  # what the calls have set, locked or prepared is not the load's
        before.restore()
    if assignment.instances is not None:
        assignment.instances.reset()
    if alone.codes[0]:
        raise UsageProblem(
            f"{assignment.strategy.subjects[0]} fails when it runs alone, right after the setup: {alone.error}"
            + advice(alone.codes[0], alone.error)
        )
    return Tried(codes=frozenset(alone.codes), reached=reached, late=alone.late)


def run_alone(assignment: Assignment, executor: Executor) -> Alone:
    """Run the calls one after the other in a separate process, which always ends afterwards.

    Raises DatabaseProblem if no call comes to an end because its connection is lost.
    """
    task = AloneTask(application=assignment.application("alone"), standing=assignment.files.standing(0))
    worker = executor.start(try_alone, task)
    try:
        alone = _wait(worker, assignment, executor)
    except BaseException:
        worker.kill()
        executor.release([worker])
        raise
    executor.retire([worker])
    return alone


def _wait(worker: Worker, assignment: Assignment, executor: Executor) -> Alone:
    name = assignment.strategy.name
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() <= deadline:
        for _, message in executor.messages([worker], TICK_SECONDS):
            if isinstance(message, Failure):
                raise message.error
            if isinstance(message, Died):
                raise UsageProblem(f"{name} ends its process ({message.cause}); a call must return")
            assert isinstance(message, Alone)
            if message.lost and assignment.instances is not None and (dead := assignment.instances.dead()):
                raise UsageProblem(f"{dead}; a request alone, right after the setup, must have an answer")
            if message.lost:
                raise DatabaseProblem(f"the connection was lost each time a call ran alone: {message.lost}")
            return message
    question = Question(target=assignment.target, application_name=application_name(assignment.schema, "alone"))
    raise UsageProblem(
        f"{name} did not end in {READY_SECONDS:.0f} s, running alone: {explained(question, executor)}"
        f"{standing_at([assignment.files.standing(0)])}; "
        "does it wait for something, or has the network failed?"
    )
