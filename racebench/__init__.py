"""racebench reproduces, proves and measures the races that happen when applications number rows.

As a library: `racebench.explore`, `racebench.hammer`, `racebench.check` and `racebench.Bench` (bench.py), loaded when
they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from racebench.api import Bench, Exploration, Hammering, RaceFound, Replay, check, explore, hammer
    from racebench.core.errors import RacebenchError

__version__ = "0.1.0"

__all__ = ["Bench", "Exploration", "Hammering", "RaceFound", "RacebenchError", "Replay", "check", "explore", "hammer"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'racebench' has no attribute '{name}'")
    from racebench import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
