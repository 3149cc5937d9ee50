"""The results that the public functions return: a result of a driver, and the server it was found on.

Each has `assert_clean()`, for a test, and prints as the command does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from racebench.analysis import comparison
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.exploration import result as explored

if TYPE_CHECKING:
    from racebench.reports.results.document import Document
    from racebench.reports.results.explorations import Explorations

_WIDTH = 110


class NotClean(AssertionError):  # noqa: N818 - what was found is not a fault of the program
    """A result is not VALID. The message begins with what was found, in one line, and ends with the next step.

    `document` has the result as reports take it; None of a replay.
    """

    document: Document | Explorations | None = None
    __module__ = "racebench"  # the name by which a program catches it, and which a traceback prints


class RaceFound(NotClean):
    """A race was found: the verdict is INVALID."""

    __module__ = "racebench"


class VerdictUnknown(NotClean):
    """No race was found, and that says nothing: the verdict is UNKNOWN."""

    __module__ = "racebench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """The result of exploring. `result` has everything that was found.

    `given`: the parameters, of `setup`, `invariant` and `serve`, that a replay needs again.
    """

    result: explored.Exploration
    environment: Mapping[str, Any]
    given: tuple[str, ...] = ()

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

    def assert_clean(self, *, width: int = _WIDTH) -> Exploration:
        """Return self if every schedule was run and none goes wrong.

        Raises RaceFound with the shortest witness, and VerdictUnknown if the search found none and proves nothing. Its
        message is `width` columns wide.
        """
        __tracebackhide__ = True
        if self.verdict is not Verdict.VALID:
            from racebench.reports.terminal import failures

            document = self._document()
            said = failures.of_exploration(document, width=width, given=self.given)
            raise _error_of(self.verdict, said, document)
        return self

    def _document(self) -> Explorations:
        from racebench.reports.results.document import now
        from racebench.reports.results.explorations import Explorations

        return Explorations(environment=self.environment, created=now(), explorations=(self.result,), complete=True)

    def __str__(self) -> str:
        from racebench.reports.terminal import exploration_table

        document = self._document()
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

    def assert_clean(self, *, width: int = _WIDTH) -> Replay:
        """Return self if nothing went wrong; else raise RaceFound with what happened, `width` columns wide."""
        __tracebackhide__ = True
        if self.counts:
            from racebench.reports.terminal import failures

            raise RaceFound(failures.of_replay(self.result, width=width))
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
        """INVALID if an anomaly that must not occur was found, UNKNOWN if it shows nothing, else VALID."""
        return self.result.verdict

    @property
    def counts(self) -> Mapping[str, int]:
        """Operations by their outcome, and anomalies by their kind."""
        return self.result.counts

    def assert_clean(self, *, width: int = _WIDTH) -> Hammering:
        """Return self if the verdict is VALID; else raise RaceFound or VerdictUnknown, `width` columns wide."""
        __tracebackhide__ = True
        if self.verdict is not Verdict.VALID:
            from racebench.reports.terminal import failures

            verdicts = {self.result.strategy: self.verdict}
            document = self._document()
            raise _error_of(self.verdict, failures.of_runs(document, verdicts, width=width), document)
        return self

    def _document(self) -> Document:
        from racebench.reports.results.document import Document, now

        return Document(environment=self.environment, created=now(), runs=(self.result,), complete=True)

    def __str__(self) -> str:
        from racebench.reports.terminal import run_table

        return _plain(lambda console: run_table.show(console, self._document()))


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

    def assert_clean(self, *, width: int = _WIDTH) -> Comparison:
        """Return self if the verdict of every strategy is VALID; else raise RaceFound with the report.

        Raises VerdictUnknown if no strategy is INVALID. The message is `width` columns wide.
        """
        __tracebackhide__ = True
        verdicts = {compared.strategy: compared.verdict for compared in self.result.strategies}
        worst = max(verdicts.values(), key=[Verdict.VALID, Verdict.UNKNOWN, Verdict.INVALID].index)
        if worst is not Verdict.VALID:
            from racebench.reports.terminal import failures

            document = self._document()
            raise _error_of(worst, failures.of_runs(document, verdicts, width=width), document)
        return self

    def _document(self) -> Document:
        from racebench.reports.results.document import Document, now

        return Document(
            environment=self.environment, created=now(), runs=self.runs, complete=True, comparison=self.result
        )

    def __str__(self) -> str:
        from racebench.reports.terminal import run_table

        return _plain(lambda console: run_table.show(console, self._document()))


def _error_of(verdict: Verdict, said: str, document: Document | Explorations) -> NotClean:
    """The exception for a verdict that is not VALID."""
    problem = RaceFound(said) if verdict is Verdict.INVALID else VerdictUnknown(said)
    problem.document = document
    return problem


def _plain(show: Callable[[Any], None]) -> str:
    """The text that a report prints, in the library's words."""
    from racebench.reports.library_words import in_library_words
    from racebench.reports.terminal import tables

    lines = in_library_words(tables.plain(show, width=_WIDTH)).rstrip().splitlines()
    return "\n".join(line.rstrip() for line in lines)
