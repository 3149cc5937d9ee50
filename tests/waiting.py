"""The one limit on waiting in tests: for a condition, for a program's end, for a race that must show.

A test waits for what must happen, not for a time. The limit is generous, because a busy machine is no failure; it only
ends what would hang. What must never happen is asserted once and is not waited for.
"""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LIMIT_S = 300.0


def wait_for(condition: Callable[[], object], failure: str | Callable[[], str]) -> None:
    """Wait until the condition is true; `failure` says what did not happen."""
    limit = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() >= limit:
            raise AssertionError(f"{failure if isinstance(failure, str) else failure()} (after {LIMIT_S:.0f} s)")
        time.sleep(0.01)


def repeat(run: Callable[[int], T], until: Callable[[T], object]) -> T:
    """Run again, with the seeds 0, 1, 2, …, until a result shows what depends on chance; that result."""
    limit = time.monotonic() + LIMIT_S
    for seed in itertools.count():
        result = run(seed)
        if until(result):
            return result
        if time.monotonic() >= limit:
            raise AssertionError(f"{seed + 1} runs in {LIMIT_S:.0f} s did not show it; the last: {result}")
    raise AssertionError("unreachable")


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the end of a program; its output and its errors."""
    return process.communicate(timeout=LIMIT_S)
