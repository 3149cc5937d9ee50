"""Checks what a strategy, a consumer or an exploration requires of the server, and of the pooler before it.

What a strategy or consumer lacks is an error if it was asked for by name, else a note.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from racebench.core.errors import DatabaseProblem
from racebench.core.model import Consumer, Statement, Strategy
from racebench.core.target import Pooling, Target
from racebench.postgres.compiler.transactions import begins


def lacking(
    strategies: Iterable[Strategy], consumers: Iterable[Consumer], environment: Mapping[str, Any], target: Target
) -> dict[str, str]:
    """What strategies and consumers require and the target does not have: a sentence for each one's name.

    A name that is missing lacks nothing. The environment must hold the settings that the consumers require
    (environment.describe's `more`).
    """
    found = {strategy.name: _of_strategy(strategy, environment, target) for strategy in strategies}
    found |= {consumer.name: _of_consumer(consumer, environment, target) for consumer in consumers}
    return {name: lack for name, lack in found.items() if lack}


def _of_strategy(strategy: Strategy, environment: Mapping[str, Any], target: Target) -> str:
    version = int(re.match(r"\d*", str(environment["server_version"])).group() or 0)  # type: ignore[union-attr]
    if strategy.server > version:
        return f"needs PostgreSQL {strategy.server}, {target.label} is {version}"
    return for_pooler(strategy, target.pooler)


def _of_consumer(consumer: Consumer, environment: Mapping[str, Any], target: Target) -> str:
    if target.standby is not None and consumer.unfit_for_standby:
        return consumer.unfit_for_standby
    settings = environment["server_settings"]
    for name, value in consumer.requires.items():
        if settings.get(name) != value:
            return (
                f"needs {name} = {value}, the server has '{settings.get(name)}'; set it in postgresql.conf and restart"
            )
    return ""


def refused_statement(strategy: Strategy, pooler: Pooling | None) -> Statement | None:
    """The first statement of a script that begins a transaction, if a pooler in this mode refuses that; else None."""
    if pooler is not Pooling.STATEMENT:
        return None
    return next((statement for statement in strategy.script.statements if begins(statement)), None)


def for_pooler(strategy: Strategy, pooler: Pooling | None) -> str:
    """A sentence about the transactions of a script, if the pooler refuses them; else "".

    PgBouncer ends the connection at BEGIN then. What the user's own code sends is not known before.
    """
    if refused_statement(strategy, pooler) is None:
        return ""
    return "begins transactions, which statement pooling refuses; use --pooler transaction"


def check_steps(target: Target) -> None:
    """Raise DatabaseProblem if the steps of sessions cannot be told apart on the server: behind a pooler."""
    if target.pooled:
        raise DatabaseProblem(
            f"{target.label} is a pooler, which hides the server's process of each session, so that racebench cannot "
            "see which session waits for which; give a DSN of the server itself"
        )


def refused(name: str, lack: str, named: Collection[str], left_out: list[str]) -> bool:
    """Whether something is left out because of a `lack`; the reason is added to `left_out`.

    Raises DatabaseProblem if it was asked for by name.
    """
    if lack and name in named:
        raise DatabaseProblem(f"'{name}' {lack}, or leave it out")
    if lack and (line := f"{name}: {lack}") not in left_out:
        left_out.append(line)
    return bool(lack)
