"""How a command ended, and what is wrong with a trial, by column of the matrix."""

from __future__ import annotations

from dataclasses import dataclass, field

#: The columns of the matrix; every one should be 0.
COLUMNS = ("wrong", "unaccounted", "tracebacks", "leftovers", "hangs", "codes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the command ended: exit code (-9: killed), seconds, text, and whether it had to be ended."""

    code: int
    seconds: float
    out: str
    err: str
    hung: bool
    hit: bool

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(slots=True)
class Look:
    """What is wrong with a trial, by column; and the verdicts that racebench gave, by subject."""

    problems: dict[str, list[str]] = field(default_factory=dict)
    verdicts: list[tuple[str, str]] = field(default_factory=list)

    def blame(self, column: str, what: str) -> None:
        self.problems.setdefault(column, []).append(what[:300])
