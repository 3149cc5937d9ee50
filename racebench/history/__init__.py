"""A run's history: what the sessions recorded, the table as it was afterwards, and the consumers' logs.

The checkers judge a history. table.py reads it from a server, archive.py from a file. The names in `__all__` are loaded
when they are first used: a process that only records needs none of them, nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from racebench.history.history import History, Violation, read_operations
    from racebench.history.logs import Log
    from racebench.history.operations import Chunk, Operation, Operations
    from racebench.history.rows import ROW, Labels, Row

__all__ = ["ROW", "Chunk", "History", "Labels", "Log", "Operation", "Operations", "Row", "Violation", "read_operations"]

_MODULES = {
    **dict.fromkeys(("History", "Violation", "read_operations"), "history"),
    "Log": "logs",
    **dict.fromkeys(("Chunk", "Operation", "Operations"), "operations"),
    **dict.fromkeys(("ROW", "Labels", "Row"), "rows"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'racebench.history' has no attribute '{name}'")
    return getattr(importlib.import_module(f"racebench.history.{_MODULES[name]}"), name)
