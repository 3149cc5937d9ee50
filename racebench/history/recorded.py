"""A history with its provenance: scenario, strategy, load, environment, and the anomalies that it can show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from racebench.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The provenance of a history. `forbidden` are the anomalies that make its verdict INVALID.

    `load` and `environment` are as in the JSON document; `warmup_ns` is the time from the common start to the start of
    the measurement. `applicable` are the anomalies that the history can show, None for all: the history of another
    program may have no rows. `complete`: what it does not show did not happen; not so if the run was given up, or its
    server may have lost commits. `note` states what was assumed.
    """

    scenario: str
    strategy: str
    forbidden: tuple[str, ...]
    load: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    warmup_ns: int = 0
    applicable: tuple[str, ...] | None = None
    complete: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A history with its provenance."""

    history: History
    about: About
