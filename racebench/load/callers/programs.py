"""Programs under load: an operation is a process, from its start to its end."""

from __future__ import annotations

from dataclasses import dataclass

from racebench.core import codes
from racebench.core.model import Program
from racebench.load.callers import Caller, Ending, Place, Surroundings
from racebench.workloads.addresses import Environment
from racebench.workloads.processes import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramApplication:
    """What a process has to know to run programs. `environment`: the variables that name the database to them."""

    programs: tuple[Program, ...]
    environment: Environment
    surroundings: Surroundings
    late: tuple[str, ...] = ()

    def caller(self, place: Place) -> Caller:
        """See callers.Application."""
        return _Caller(self, place)


class _Caller:
    used = sees_faults = False

    def __init__(self, application: ProgramApplication, place: Place) -> None:
        application.surroundings.enter()
        self.subjects = application.programs
        self._place = place
        self._environment = application.environment

    def connect(self) -> None:
        """A program connects by itself."""

    def silent_connections(self) -> tuple[int, ...]:
        return ()

    def run(self, program: Program) -> Ending:
        """Run a program to its end. Raises UsageProblem if it cannot be started."""
        self._place.begun += 1
        self._place.says = f"in '{program}'"
        process = Process.start(program.words, self._environment)
        try:
            ended = process.wait()
            assert ended is not None
            if ended.code == 0:
                return Ending()
            last = process.last_lines()
            message = f"{ended.described}{f': {last}' if last else ''}"
            return Ending(codes.of_exit(ended.code), message, unknown=ended.code < 0)
        finally:
            process.stop()

    def close(self) -> None:
        """Nothing is left: each program was stopped."""
