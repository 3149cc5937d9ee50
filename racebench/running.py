"""Carrying a Plan out: the target and the processes up, one strategy after the other, each saved as it finishes."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path

from racebench import environment
from racebench.executors.processes import Processes
from racebench.hammer.driver import EXTRA_CONNECTIONS, Hammer
from racebench.planning import Plan
from racebench.reports.document import to_json, write_atomically
from racebench.targets import Target
from racebench.targets.embedded import EmbeddedServer
from racebench.targets.external import check_usable

#: Called with what is going on, and how much of it is done (0 to 1).
Progress = Callable[[str, float], None]


def run(plan: Plan, progress: Progress) -> None:
    """Run every strategy of a plan, adding to `plan.results`; raises RacebenchError, and leaves nothing running."""
    connections = plan.load.workers + EXTRA_CONNECTIONS
    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(Processes())
        progress("starting PostgreSQL", 0.0)
        target = _target(plan, stack, connections)
        plan.environment = environment.describe(target)
        progress("starting workers", 0.0)
        processes.warm(plan.load.workers + 1)
        hammer = Hammer(target=target, processes=processes, keep=plan.keep)
        for strategy in plan.strategies:
            result = hammer.run(plan.scenario, strategy, plan.consumer, plan.load, _labelled(progress, strategy.name))
            plan.results.append(result)
            save(plan)


def _target(plan: Plan, stack: contextlib.ExitStack, connections: int) -> Target:
    if plan.target is None:
        return stack.enter_context(EmbeddedServer(version=plan.server_version, connections=connections))
    check_usable(plan.target, connections)
    return plan.target


def _labelled(progress: Progress, label: str) -> Callable[[float], None]:
    return lambda fraction: progress(label, fraction)


def save(plan: Plan) -> None:
    """Write what there is so far, whole or not at all, to the results folder and to --json's file."""
    text = to_json(plan.document()) + "\n"
    if plan.json_path is not None and plan.json_path != "-":
        write_atomically(Path(plan.json_path), text)
    if plan.folder is not None:
        stamp = plan.created.replace(":", "").replace("-", "")
        path = plan.saved or plan.folder / f"{stamp}-{plan.scenario.name}-{secrets.token_hex(3)}.json"
        write_atomically(path, text)
        plan.saved = path
