"""The messages between the driver and the processes that inject faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listening:
    """The ports on 127.0.0.1 of an interposer, by the worker's number."""

    ports: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Finish:
    """The workers have ended: inject nothing more, and report."""


@dataclass(frozen=True, slots=True)
class InjectionReport:
    """How often each fault was injected, by its text. `problem`: why one could not be; "" without."""

    counts: Mapping[str, int]
    problem: str = ""
