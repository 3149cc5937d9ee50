"""The commands that are run under faults, and what each is asked about: a subject that is innocent, guilty, or both.

An innocent subject keeps its rule whatever happens around it; a guilty one breaks it in most of its operations. Every
command is short, so that a fault hits its beginning and its end, too.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

FOLDER = Path(__file__).parent / "subjects"
SCENARIO = FOLDER / "scenario"
COMMAND = (sys.executable, "-m", "racebench")
#: What a command writes in its working folder.
RESULT, JUNIT = "result.json", "junit.xml"


class Subject(Enum):
    """What a command is asked about."""

    INNOCENT = "innocent"
    GUILTY = "guilty"
    #: One strategy of each, as `compare` needs.
    BOTH = "both"


INNOCENT = ("advisory", "unique-retry", "serializable-retry")
#: Innocent strategies that are refused and try again.
RETRYING = ("unique-retry", "serializable-retry")
GUILTY = ("naive", "repeatable-read-max")

_PATIENCE = ("--give-up-after", "4")
_LOAD = ("-w", "3", "-d", "0.4", *_PATIENCE)
_SHORT = ("-w", "3", "-d", "0.3", "--hold", "1", *_PATIENCE)
_GUARD = ("--fail-on", "any")
_SAVE = ("--json", RESULT, "--results", "results")
_OWN = (
    *("--setup", str(SCENARIO / "schema.sql")),
    *("--invariant", "SELECT version FROM events GROUP BY version HAVING count(*) > 1"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A command. `words`: its arguments for a strategy or a function.

    `audited`: whether its subjects write their rows into a table of their own, too, so that they can be counted.
    `seconds`: how long it takes about. `roles`: whom of its sessions and processes a fault can hit.
    """

    name: str
    words: Callable[[str], tuple[str, ...]]
    audited: bool = False
    seconds: float = 1.2
    roles: tuple[str, ...] = ("command",)
    both: bool = False
    call: bool = False
    server: bool = True
    program: tuple[str, ...] = ()

    def subject(self, seed: int) -> Subject:
        """Even seeds ask about an innocent subject, odd ones about a guilty one."""
        if self.both:
            return Subject.BOTH
        return Subject.GUILTY if seed % 2 else Subject.INNOCENT

    def command(self, subject: Subject, draw: random.Random, innocent: tuple[str, ...] = INNOCENT) -> list[str]:
        """The program and its arguments, without the DSN."""
        if self.call or subject is Subject.BOTH:
            name = subject.value
        else:
            name = draw.choice(innocent if subject is Subject.INNOCENT else GUILTY)
        return [*(self.program or COMMAND), *self.words(name)]


def _run(*more: str) -> Callable[[str], tuple[str, ...]]:
    return lambda name: ("run", str(SCENARIO), "-s", name, *_think(name), "--hold", "1", *_LOAD, *more, *_GUARD, *_SAVE)


def _think(name: str) -> tuple[str, ...]:
    return ("--think", "1") if name in GUILTY else ()


def _both(command: str, *more: str) -> Callable[[str], tuple[str, ...]]:
    return lambda _name: (command, str(SCENARIO), "-s", "unique-retry", "-s", "naive", *more)


_LOADED = ("command", "worker", "consumer")

DRIVERS: Mapping[str, Driver] = {
    driver.name: driver
    for driver in (
        Driver(name="run", words=_run(), audited=True, seconds=1.5, roles=_LOADED),
        Driver(
            name="run several",
            words=_run("-w", "2", "--connections-per-worker", "3"),
            audited=True,
            seconds=1.5,
            roles=_LOADED,
        ),
        Driver(
            name="run --call",
            words=lambda name: ("run", "--call", f"orders:{name}", *_OWN, *_LOAD, *_GUARD, *_SAVE),
            audited=True,
            seconds=1.8,
            roles=("command", "worker"),
            call=True,
        ),
        Driver(
            name="compare",
            words=_both("compare", "--rounds", "2", "--think", "1", *_SHORT, *_GUARD, *_SAVE),
            audited=True,
            seconds=2.6,
            roles=_LOADED,
            both=True,
        ),
        Driver(
            name="matrix",
            words=_both("matrix", "--consumer", "cursor", "--think", "1", *_SHORT, *_SAVE),
            audited=True,
            seconds=2.6,
            roles=_LOADED,
            both=True,
        ),
        Driver(
            name="explore",
            words=_both("explore", "--sessions", "3", "--budget", "unlimited", *_PATIENCE, *_GUARD, *_SAVE),
            seconds=1.0,
            roles=("command", "session"),
            both=True,
        ),
        Driver(
            name="explore --call",
            words=lambda name: (
                *("explore", "--call", f"orders:{name}", *_OWN, "--sessions", "3", "--budget", "unlimited"),
                *(*_PATIENCE, *_GUARD, *_SAVE),
            ),
            roles=("command", "session"),
            call=True,
        ),
        Driver(
            name="demo",
            words=lambda _name: ("demo", "naive", "--fix", "advisory", *_PATIENCE),
            seconds=1.0,
            roles=("command", "session"),
            both=True,
        ),
        Driver(
            name="check",
            words=lambda name: ("check", f"../{name}.npz", *_GUARD, "--json", RESULT),
            seconds=0.4,
            call=True,
            server=False,
        ),
        Driver(
            name="pytest",
            words=lambda name: (
                *("-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(FOLDER)),
                *(f"--junitxml={JUNIT}", str(FOLDER / f"{name}_tests.py")),
            ),
            seconds=2.5,
            roles=("command", "worker", "session"),
            call=True,
            program=(sys.executable, "-m", "pytest"),
        ),
    )
}
