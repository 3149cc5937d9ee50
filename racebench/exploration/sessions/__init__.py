"""The kinds of sessions that an exploration runs, one file a kind. To add one, add a file and an entry here.

A kind is imported when it is chosen: threads and the wire gate take longer to load than a short search takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from racebench.core.model import Strategy
from racebench.exploration.sessions.session import SessionKind


@dataclass(frozen=True, slots=True)
class Kind:
    """Which strategies have sessions of a kind, and its class, as "module:class" of this package."""

    runs: Callable[[Strategy], bool]
    place: str

    def __call__(self) -> SessionKind:
        """The kind, for one search."""
        module, _, name = self.place.partition(":")
        return cast("SessionKind", getattr(import_module(f"{__name__}.{module}"), name)())


KINDS = (
    Kind(lambda strategy: bool(strategy.calls) and not strategy.through_wire, "python:PythonSessions"),
    Kind(lambda strategy: bool(strategy.calls) and strategy.through_wire, "wire_calls:WireCalls"),
    Kind(lambda strategy: bool(strategy.programs or strategy.requests), "wire:WireSessions"),
    Kind(lambda strategy: not strategy.is_application, "script:ScriptSessions"),
)


def kind_of(strategy: Strategy) -> SessionKind:
    """The kind of a strategy's sessions, for one search."""
    return next(kind for kind in KINDS if kind.runs(strategy))()
