"""What a server lacks for a strategy or a consumer, in words, and what becomes of those it lacks something for."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from racebench.core.errors import DatabaseProblem
from racebench.core.model import Consumer, Strategy


def for_strategy(strategy: Strategy, environment: Mapping[str, Any], label: str) -> str:
    """The version that a strategy needs, if the server, called `label`, is older; else ""."""
    version = int(re.match(r"\d*", str(environment["server_version"])).group() or 0)  # type: ignore[union-attr]
    return f"needs PostgreSQL {strategy.server}, {label} is {version}" if strategy.server > version else ""


def for_consumer(consumer: Consumer, environment: Mapping[str, Any]) -> str:
    """What the server would have to be set to for a consumer; "" if it is. The environment must know those settings."""
    settings = environment["server_settings"]
    for name, value in consumer.requires.items():
        if settings.get(name) != value:
            return (
                f"needs {name} = {value}, the server has '{settings.get(name)}'; set it in postgresql.conf and restart"
            )
    return ""


def refused(name: str, lack: str, named: Collection[str], left_out: list[str]) -> bool:
    """Whether something cannot be had: DatabaseProblem if it was asked for by name, else noted and left out."""
    if lack and name in named:
        raise DatabaseProblem(f"'{name}' {lack}, or leave it out")
    if lack and (line := f"{name}: {lack}") not in left_out:
        left_out.append(line)
    return bool(lack)
