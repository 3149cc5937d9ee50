"""The kinds of sessions that an exploration runs, one file a kind. To add one, add a file and an entry here."""

from __future__ import annotations

from racebench.core.model import Strategy
from racebench.exploration.sessions.python import PythonSessions
from racebench.exploration.sessions.script import ScriptSessions
from racebench.exploration.sessions.session import SessionKind
from racebench.exploration.sessions.wire import WireSessions
from racebench.exploration.sessions.wire_calls import WireCalls

KINDS: tuple[type[SessionKind], ...] = (PythonSessions, WireCalls, WireSessions, ScriptSessions)


def kind_of(strategy: Strategy) -> SessionKind:
    """The kind of a strategy's sessions, for one search."""
    return next(kind for kind in KINDS if kind.runs(strategy))()
