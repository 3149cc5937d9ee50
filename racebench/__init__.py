"""racebench reproduces, proves and measures the races that happen when applications number rows.

As a library: the names in `__all__`, loaded when they are first used. Their code is in racebench.api.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not from typing, which takes as long to import as the rest of what the command needs first
if TYPE_CHECKING:
    from typing import Any

    from racebench.analysis.offline import CheckResult
    from racebench.api import (
        Bench,
        Comparison,
        Exploration,
        Hammering,
        HttpRequest,
        LoadOptions,
        NotClean,
        Program,
        RacebenchError,
        RaceFound,
        Replay,
        Search,
        Service,
        Verdict,
        VerdictUnknown,
        check,
        compare,
        explore,
        hammer,
        http,
        program,
        replay,
        service,
    )
    from racebench.pytest_plugin import Fixture

__version__ = "0.2.0"

__all__ = [
    "Bench",
    "CheckResult",
    "Comparison",
    "Exploration",
    "Fixture",
    "Hammering",
    "HttpRequest",
    "LoadOptions",
    "NotClean",
    "Program",
    "RaceFound",
    "RacebenchError",
    "Replay",
    "Search",
    "Service",
    "Verdict",
    "VerdictUnknown",
    "check",
    "compare",
    "explore",
    "hammer",
    "http",
    "program",
    "replay",
    "service",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'racebench' has no attribute '{name}'")
    if name == "Fixture":
        from racebench import pytest_plugin  # it imports pytest, which only tests need

        return pytest_plugin.Fixture
    if name == "CheckResult":
        from racebench.analysis import offline

        return offline.CheckResult
    from racebench import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
