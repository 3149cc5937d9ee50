"""The results that the public functions return: a result of a driver, and the server it was found on.

Each has `assert_clean()`, for a test, and prints as the command does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from racebench.analysis import comparison
from racebench.core.results import RunResult, Verdict
from racebench.exploration import result as explored

_WIDTH = 110


class NotClean(AssertionError):  # noqa: N818 - what was found is not a fault of the program
    """A result is not VALID. The message is the report."""


class RaceFound(NotClean):
    """A race was found: the verdict is INVALID."""


class VerdictUnknown(NotClean):
    """No race was found, and that says nothing: the verdict is UNKNOWN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """The result of exploring. `result` has everything that was found."""

    result: explored.Exploration
    environment: Mapping[str, Any]

    @property
    def verdict(self) -> Verdict:
        """VALID if every schedule was run and none goes wrong, INVALID if one does, else UNKNOWN."""
        return self.result.verdict

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each kind of anomaly occurred, over all schedules."""
        return self.result.counts

    @property
    def run(self) -> int:
        """Schedules run to their end."""
        return self.result.run

    @property
    def anomalous(self) -> int:
        """Schedules that went wrong."""
        return self.result.anomalous

    @property
    def complete(self) -> bool:
        """Whether every schedule was run."""
        return self.result.complete

    @property
    def schedule(self) -> str | None:
        """The shortest schedule that goes wrong, as `racebench.replay` takes it; None if none does."""
        return None if self.result.witness is None else str(self.result.witness.schedule)

    @property
    def seconds(self) -> float:
        """The duration of the search, in seconds."""
        return self.result.seconds

    def assert_clean(self) -> Exploration:
        """Return self if every schedule was run and none goes wrong.

        Raises RaceFound with the shortest witness, and VerdictUnknown if the search found none and proves nothing.
        """
        __tracebackhide__ = True
        if self.verdict is not Verdict.VALID:
            raise _error_of(self.verdict)(f"\n{self}")
        return self

    def __str__(self) -> str:
        from racebench.reports.results.document import now
        from racebench.reports.results.explorations import Explorations
        from racebench.reports.terminal import exploration_table

        document = Explorations(environment=self.environment, created=now(), explorations=(self.result,), complete=True)
        again = ""
        if self.result.witness is not None and self.result.witness.command is None:
            again = f"\n  again: racebench.replay(…, schedule={self.schedule!r})"
        return _plain(lambda console: exploration_table.show(console, document)) + again


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The result of running one schedule again. `result` has everything that was seen."""

    result: explored.Replay

    @property
    def counts(self) -> Mapping[str, int]:
        """What went wrong: anomalies that must not occur, with their counts; empty if none did."""
        return self.result.anomalies

    def assert_clean(self) -> Replay:
        """Return self if nothing went wrong; else raise RaceFound with what happened."""
        __tracebackhide__ = True
        if self.counts:
            raise RaceFound(f"\n{self}")
        return self

    def __str__(self) -> str:
        from racebench.reports.terminal import exploration_table

        return _plain(lambda console: exploration_table.show_replay(console, self.result))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hammering:
    """The result of a load. `result` has everything that was measured and found. VALID is an upper bound, no proof."""

    result: RunResult
    environment: Mapping[str, Any]

    @property
    def verdict(self) -> Verdict:
        """INVALID if an anomaly that must not occur was found, UNKNOWN if nothing was committed, else VALID."""
        return self.result.verdict

    @property
    def counts(self) -> Mapping[str, int]:
        """Operations by their outcome, and anomalies by their kind."""
        return self.result.counts

    def assert_clean(self) -> Hammering:
        """Return self if the verdict is VALID; else raise RaceFound or VerdictUnknown with the report."""
        __tracebackhide__ = True
        if self.verdict is not Verdict.VALID:
            raise _error_of(self.verdict)(f"\n{self}")
        return self

    def __str__(self) -> str:
        from racebench.reports.results.document import Document, now
        from racebench.reports.terminal import run_table

        document = Document(environment=self.environment, created=now(), runs=(self.result,), complete=True)
        return _plain(lambda console: run_table.show(console, document))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of comparing strategies. `result` has the judgements, `runs` each run, in the order of the rounds."""

    result: comparison.Comparison
    runs: tuple[RunResult, ...]
    environment: Mapping[str, Any]

    @property
    def reference(self) -> str:
        """The strategy that the others are compared with."""
        return self.result.reference

    @property
    def strategies(self) -> Mapping[str, comparison.Compared]:
        """The strategies by name, the correct ones first and the fastest of them first."""
        return {compared.strategy: compared for compared in self.result.strategies}

    def assert_clean(self) -> Comparison:
        """Return self if the verdict of every strategy is VALID; else raise RaceFound with the report.

        Raises VerdictUnknown if no strategy is INVALID.
        """
        __tracebackhide__ = True
        verdicts = {compared.verdict for compared in self.result.strategies}
        if verdicts != {Verdict.VALID}:
            raise _error_of(Verdict.INVALID if Verdict.INVALID in verdicts else Verdict.UNKNOWN)(f"\n{self}")
        return self

    def __str__(self) -> str:
        from racebench.reports.results.document import Document, now
        from racebench.reports.terminal import run_table

        document = Document(
            environment=self.environment, created=now(), runs=self.runs, complete=True, comparison=self.result
        )
        return _plain(lambda console: run_table.show(console, document))


def _error_of(verdict: Verdict) -> type[NotClean]:
    """The exception for a verdict that is not VALID."""
    return RaceFound if verdict is Verdict.INVALID else VerdictUnknown


def _plain(show: Callable[[Any], None]) -> str:
    """The text that a report prints, in the library's words."""
    from racebench.reports.library_words import in_library_words
    from racebench.reports.terminal import tables

    lines = in_library_words(tables.plain(show, width=_WIDTH)).rstrip().splitlines()
    return "\n".join(line.rstrip() for line in lines)
