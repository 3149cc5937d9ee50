"""The three values of a verdict."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """VALID under load is an upper bound, never a proof; UNKNOWN is an honest answer."""

    VALID = "VALID"
    INVALID = "INVALID"
    UNKNOWN = "UNKNOWN"
