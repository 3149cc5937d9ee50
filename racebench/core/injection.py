"""The faults that a run injects, as values: `cut-after-commit:1%`, `stall:200ms:1%`, `crash-server:once` …

Owns how they are written. What they do to a connection or a server is racebench.load.faults'; which errors of a server
are faults is racebench.core.faults'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from racebench.core.errors import UsageProblem, suggest

_UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000}
_LONGEST_US = 60_000_000
#: A server that loses its sessions more often does nothing else.
_SHORTEST_PAUSE_US = 10_000
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s)")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


class FaultKind(StrEnum):
    """What is done to connections, and to the server."""

    CUT_AFTER_COMMIT = "cut-after-commit"
    CUT_BEFORE_COMMIT = "cut-before-commit"
    CUT = "cut"
    STALL = "stall"
    LATENCY = "latency"
    TERMINATE_BACKEND = "terminate-backend"
    CRASH_SERVER = "crash-server"


#: How each kind is written.
EXAMPLES = {
    FaultKind.CUT_AFTER_COMMIT: "cut-after-commit:1%",
    FaultKind.CUT_BEFORE_COMMIT: "cut-before-commit:1%",
    FaultKind.CUT: "cut:2%",
    FaultKind.STALL: "stall:200ms:1%",
    FaultKind.LATENCY: "latency:5ms+-2ms",
    FaultKind.TERMINATE_BACKEND: "terminate-backend:every 500ms",
    FaultKind.CRASH_SERVER: "crash-server:once",
}
#: The word for a load without the scenario's faults.
NO_FAULT = "none"
#: The kinds that a proxy between the client and the server injects.
ON_THE_WIRE = frozenset(EXAMPLES) - {FaultKind.TERMINATE_BACKEND, FaultKind.CRASH_SERVER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault that a run injects, `text` as it was written.

    `percent`: of the statements, or of the commits, that it meets. `duration_us`: of a stall, the mean latency, or the
    time between two terminated sessions. `spread_us`: the most that a latency differs from its mean.
    """

    kind: FaultKind
    text: str
    percent: float = 0.0
    duration_us: int = 0
    spread_us: int = 0

    @property
    def on_the_wire(self) -> bool:
        """Whether a proxy injects it."""
        return self.kind in ON_THE_WIRE


def parse_all(texts: Iterable[str]) -> tuple[Fault, ...]:
    """Read several faults; raises UsageProblem for one that cannot be read, or that is given twice."""
    faults: list[Fault] = []
    for text in texts:
        fault = parse(text)
        if any(fault.text == other.text for other in faults):
            raise UsageProblem(f"fault '{fault.text}' is given twice; leave one out")
        faults.append(fault)
    return tuple(faults)


def chosen(texts: Sequence[str], default: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """The faults that a load names, those of its scenario if it names none, or none if it says so. As parse_all."""
    if not texts:
        return default
    return () if tuple(texts) == (NO_FAULT,) else parse_all(texts)


def check(faults: Iterable[Fault], *, embedded: bool) -> None:
    """Raise UsageProblem for a fault that cannot be injected into the server; `embedded`: racebench has started it."""
    for fault in faults:
        if fault.kind is FaultKind.CRASH_SERVER and not embedded:
            raise UsageProblem(
                f"fault '{fault.text}' is for the embedded server, which racebench may crash; with --dsn use "
                f"'{EXAMPLES[FaultKind.TERMINATE_BACKEND]}', or crash the server yourself"
            )


def parse(text: str) -> Fault:
    """Read a fault; raises UsageProblem, with how it is written, for any other text."""
    text = text.strip()
    name, _, rest = text.partition(":")
    name = name.strip()
    if name not in EXAMPLES:
        raise UsageProblem(f"fault '{name}' is unknown{suggest(name, EXAMPLES)}")
    kind, rest = FaultKind(name), rest.strip()
    match kind:
        case FaultKind.STALL:
            duration, _, percent = rest.rpartition(":")
            return Fault(
                kind=kind, text=text, percent=_percent(kind, text, percent), duration_us=_us(kind, text, duration)
            )
        case FaultKind.LATENCY:
            mean, sign, spread = rest.replace("+-", "±").replace("+/-", "±").partition("±")
            mean_us, spread_us = _us(kind, text, mean), _us(kind, text, spread) if sign else 0
            if spread_us > mean_us:
                raise _problem(kind, text, "the latency would be below 0")
            return Fault(kind=kind, text=text, duration_us=mean_us, spread_us=spread_us)
        case FaultKind.TERMINATE_BACKEND:
            pause_us = _us(kind, text, rest.removeprefix("every"))
            if pause_us < _SHORTEST_PAUSE_US:
                raise _problem(kind, text, f"the shortest time is {_SHORTEST_PAUSE_US // 1000} ms")
            return Fault(kind=kind, text=text, duration_us=pause_us)
        case FaultKind.CRASH_SERVER:
            if rest != "once":
                raise _problem(kind, text, "it is injected once")
            return Fault(kind=kind, text=text)
        case _:
            return Fault(kind=kind, text=text, percent=_percent(kind, text, rest))


def _percent(kind: FaultKind, text: str, part: str) -> float:
    if (match := _PERCENT.fullmatch(part.strip())) is None or not 0 < (percent := float(match[1])) <= 100:
        raise _problem(kind, text, "a percentage is above 0% and at most 100%")
    return percent


def _us(kind: FaultKind, text: str, part: str) -> int:
    match = _DURATION.fullmatch(part.strip())
    duration = round(float(match[1]) * _UNITS_US[match[2]]) if match is not None else 0
    if not 0 < duration <= _LONGEST_US:
        raise _problem(kind, text, "a time has a unit, us, ms or s, and is at most 60s")
    return duration


def _problem(kind: FaultKind, text: str, why: str) -> UsageProblem:
    return UsageProblem(f"fault '{text}' cannot be read: {why}; it is written '{EXAMPLES[kind]}'")
