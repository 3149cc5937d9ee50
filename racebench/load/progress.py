"""How far a run is, as its files and the clock show it to any process of the run."""

from __future__ import annotations

import time

from racebench.core.model import Load
from racebench.history.records import OPERATION, read_records
from racebench.load.run_files import RunFiles


def begun(load: Load, files: RunFiles) -> int:
    """How many operations have begun."""
    return sum(len(read_records(files.operations(number), OPERATION)) for number in range(1, load.sessions + 1))


def fraction(load: Load, files: RunFiles, start_ns: int, stop_ns: int | None) -> float:
    """How much is done, from 0 to 1: of the time or of the operations, whichever is further."""
    fractions = [0.0]
    if stop_ns is not None:
        fractions.append((time.perf_counter_ns() - start_ns) / (stop_ns - start_ns))
    if load.operations is not None:
        fractions.append(begun(load, files) / load.operations)
    return min(1.0, max(fractions))
