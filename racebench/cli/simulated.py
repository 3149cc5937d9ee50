"""The pooler that explore and replay simulate: from the options to the request."""

from __future__ import annotations

from racebench.cli.option_groups import PoolerOptions, SubjectOptions
from racebench.core.errors import UsageProblem
from racebench.core.model import Scenario
from racebench.core.target import Pooling
from racebench.exploration import pool
from racebench.exploration.pool import PoolOptions
from racebench.exploration.request import ExplorationRequest


def pooling_of(options: PoolerOptions, subject: SubjectOptions, scenario: Scenario, *, crash: int) -> Pooling | None:
    """The mode of the pooler; None without one. Raises UsageProblem for what cannot be explored behind one."""
    if options.pooler is None:
        if options.pool_size is not None:
            raise UsageProblem("--pool-size needs --pooler transaction, session or statement")
        return None
    own_code = subject.own_code
    if own_code is not None or any(strategy.is_application for strategy in scenario.strategies.values()):
        named = (own_code or "an application").partition(" ")[0]
        raise UsageProblem(
            f"--pooler simulates a pooler for scripts, not for {named}, whose connections are its own; leave out "
            "--pooler, or write the statements as a script: racebench explore FILE.sql --pooler " + options.pooler
        )
    if crash:
        raise UsageProblem("--crash cuts connections to the server, and --pooler simulates a pooler; give one of them")
    return Pooling(options.pooler)


def options_of(pooling: Pooling | None, options: PoolerOptions, *, sessions: int) -> PoolOptions | None:
    """The pooler of an exploration of so many sessions; more server sessions than that are never opened."""
    if pooling is None:
        return None
    return PoolOptions(pooling=pooling, size=min(options.pool_size or sessions, sessions))


def refusal(exploration: ExplorationRequest) -> str:
    """Why the pooler cannot serve the strategy's script; "" if it can, and without a pooler."""
    pooler = exploration.pooler
    return "" if pooler is None else pool.refusal(pooler.pooling, exploration.strategy)
