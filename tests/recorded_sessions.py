"""Workers that record what a test says, and a table that answers what a test says: for what follows a run meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from racebench.core.errors import DatabaseProblem
from racebench.core.model import Outcome
from racebench.history.records import OPERATION, RecordFile, encode_status

Number = tuple[int, int]


@dataclass
class Sessions:
    """Workers that record whatever a test says: session, version, and by default OK and tenant 1.

    An operation lasts `lasts_ns`; it ends at `clock`.
    """

    folder: Path
    stack: ExitStack
    files: dict[int, RecordFile] = field(default_factory=dict)
    clock: int = 0
    lasts_ns: int = 1

    def record(
        self, session: int, version: int, outcome: Outcome = Outcome.OK, tenant: int = 1, sqlstate: str = ""
    ) -> None:
        self.clock += self.lasts_ns + 1
        if session not in self.files:
            self.files[session] = self.stack.enter_context(
                closing(RecordFile(self.folder / str(session), OPERATION, 4096))
            )
        status = encode_status(outcome, sqlstate)
        self.files[session].write(self.clock - self.lasts_ns, self.clock, version, tenant, 1, status)

    def paths(self) -> list[Path]:
        return [self.folder / str(session) for session in range(1, 5)]


@dataclass
class Answers:
    """A table that has some duplicates, or that does not answer."""

    duplicates: set[Number] = field(default_factory=set)
    silent: bool = False
    asked: list[Sequence[Number]] = field(default_factory=list)

    def repeated(self, numbers: Sequence[Number]) -> set[Number]:
        self.asked.append(numbers)
        if self.silent:
            raise DatabaseProblem("no connection is free")
        return self.duplicates & {*numbers}
