"""One run in progress: its workers and consumers, and the history made from their records and the table.

The order matters: consumers poll → common start → workers end → their backends are gone → consumers drain → the table
is read.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import psycopg

from racebench.analysis.streaming.confirmation import KnownDuplicate
from racebench.analysis.streaming.duplicates import SuspectedDuplicates
from racebench.core.errors import DatabaseProblem, RacebenchError, ScenarioProblem, UsageProblem
from racebench.core.model import Outcome, Scenario
from racebench.core.plain_text import one_line
from racebench.executors import Executor
from racebench.history import History, Log, Violation, read_operations
from racebench.history.logs import read_log
from racebench.history.records import outcomes
from racebench.history.rows import numbered
from racebench.history.spill import Scratch
from racebench.history.table import ask_invariants, ask_measures, read_rows
from racebench.load.alone import run_alone, try_before
from racebench.load.assignment import Assignment
from racebench.load.crew import Crew, Progress
from racebench.load.detector import Detector, Table
from racebench.load.lost_machines import add_begun
from racebench.load.observation import Observation, Observer
from racebench.postgres.client_sessions import ClientSessions
from racebench.postgres.connection import connect
from racebench.postgres.control import Control
from racebench.postgres.reconnecting import reconnect
from racebench.postgres.restarts import restarted, server_processes
from racebench.postgres.schemas import quiesce
from racebench.postgres.session_settings import loses_commits
from racebench.postgres.standby import follow
from racebench.workloads.callables import broken, unreached

if TYPE_CHECKING:
    from racebench.load.meter import Tell

Array = npt.NDArray[Any]

#: The most sentences of a called invariant that are kept.
_SHOWN = 20
#: How often the tables are read if the connection is lost each time.
_TRIES = 3
#: How many operations are looked at together.
_PIECE = 1 << 20
_RECOVERY_NS = 10_000_000_000


class Run:
    """One strategy under load in a schema that is ready. `crew`: its workers and consumers, and their reports.

    `restarted`: the server crashed or was restarted in the run; `loses_commits`: it may lose commits then. `tell` is
    called with the run's figures while it goes on; None to look at none.
    """

    def __init__(
        self,
        scenario: Scenario,
        assignment: Assignment,
        executor: Executor,
        scratch: Scratch,
        control: Control,
        tell: Tell | None = None,
    ) -> None:
        self._scenario, self._assignment = scenario, assignment
        self._executor, self._scratch, self._control = executor, scratch, control
        table = _table(scenario, assignment, control)
        files = [*map(assignment.files.operations, assignment.sessions)]
        suspected = SuspectedDuplicates()
        observers: list[Observer] = []
        # Operations that say no number that can be looked up have no duplicate that could be known.
        self._detector = None if table is None else Detector(table, suspected)
        if self._detector is not None:
            observers.append(self._detector)
        if tell is not None:
            from racebench.load.meter import Meter  # few runs are looked at

            observers.append(Meter(table, suspected, tell))
        self.crew = Crew(assignment, executor, Observation(files, observers, suspected))
        self.restarted = self.loses_commits = self.cannot_judge_errors = False
        self._server: frozenset[str] = frozenset()

    @property
    def known(self) -> KnownDuplicate | None:
        """The first duplicate, if it was known while the run went on."""
        return None if self._detector is None else self._detector.known

    def history(self, progress: Progress) -> History:
        """Run to the end and return what happened."""
        known, crew = self._assignment, self.crew
        with (
            connect(known.target, own_code=True)
            if known.own_code
            else self._control.session(known.schema, inside=False)
        ) as connection:
            self._server = server_processes(connection)
            if any(consumer.on_standby for consumer in known.consumers):
                # The schema has to be there.
                follow(known.target, connection, known.schema, known.patience.say)
            self.loses_commits = loses_commits(connection) or "synchronous_commit" in known.strategy.script.text.lower()
        tried = try_before(known, self._executor) if known.strategy.is_application else None
        if tried is not None:
            crew.assignment = replace(crew.assignment, late=tried.late, reached=tried.reached)
        load = self._load if tried is None or tried.reached else self._load_and_look_for_statements
        start = load(progress)
        clocks = crew.settle()
        alone = None if tried is None else set(tried.codes)
        history = History(
            start=start,
            operations=read_operations({n: known.files.operations(n) for n in known.sessions}),
            rows=None,
            logs=(),
            violations=(),
            measures={},
            numbering=known.strategy.numbering,
            labels=None,
            alone=None if alone is None else frozenset(alone - {""}),
            clocks=clocks,
        )
        try:
            history = self._with_tables(history)
            if known.pooler is not None and alone is not None:
                known.pooler.restart()
            if known.load.faults and known.instances is not None:
                known.instances.restart()
            if alone is not None and self._cannot_tell_refusals():
                history = replace(history, alone=None)
            elif alone is not None:
                history = replace(history, alone=self._alone_as_well(alone, history))
        except (DatabaseProblem, psycopg.OperationalError) as problem:
            if not crew.gave_up:
                raise DatabaseProblem(one_line(str(problem))) from None
            crew.notes.append(f"the tables could not be read: {one_line(str(problem))}")
        except ScenarioProblem as problem:
            # What operations make themselves, as the column of a migration, is not there if a fault met each of them.
            if not (known.load.faults or self.restarted) or _has(history, Outcome.OK):
                raise
            crew.notes.append(f"nothing was committed, and the tables could not be read: {one_line(str(problem))}")
        return history

    def _alone_as_well(self, before: Set[str], history: History) -> frozenset[str] | None:
        """The errors of calls that run alone, before the load and after it; None if they do not come to an end now.

        What the load has left may be why. Then it is not known which errors of the load were no race's.
        """
        try:
            after = run_alone(self._assignment, self._executor).codes
        except UsageProblem as problem:
            self.cannot_judge_errors = _has(history, Outcome.FAIL)
            counted = "; no error was counted as refused" if self.cannot_judge_errors else ""
            self.crew.notes.append(f"after the load {problem}{counted}")
            return None
        return frozenset({*before, *after} - {""})

    def _cannot_tell_refusals(self) -> bool:
        """Whether operations may have failed for another reason than a race, and their errors do not say so.

        A program or a service answers with an exit code or a status when its connection was lost.
        """
        known = self._assignment
        if known.instances is not None and known.instances.dead():
            return True
        if known.pooler is not None and self.crew.gave_up:
            return True
        return self.crew.hung or (self.restarted and not known.strategy.calls)

    def _load(self, progress: Progress) -> int:
        """Have the crew work; return the common start."""
        self.crew.start()
        start = self.crew.go(progress)
        self.crew.look_at_surroundings()
        if self._assignment.strategy.is_application:
            self.crew.retire_workers()  # an application's pool would keep its connections open
        return start

    def _load_and_look_for_statements(self, progress: Progress) -> int:
        """As `_load`, of calls that have sent nothing alone: some may never send anything, but not all of them.

        Raises UsageProblem if the server has seen nothing of any.
        """
        known, crew = self._assignment, self.crew
        with connect(known.target) as connection:
            sessions = ClientSessions(connection, known.schema)
            start = self._load(progress)
            if not (crew.used or crew.gave_up or sessions.worked(own=crew.connections)):
                raise UsageProblem(unreached(known.strategy.subjects, known.target.label))
        return start

    def _with_tables(self, history: History) -> History:
        """A history with the rows, the consumers' logs and the invariants, once the workers have ended.

        If the connection is lost meanwhile, all is read again over another.
        """
        known = self._assignment
        if self.crew.gave_up or known.load.faults:
            self._control.distrust()
        for _ in range(_TRIES - 1):
            with contextlib.ExitStack() as stack:
                connection = self._connected(stack)
                try:
                    return self._read(history, connection)
                except (RacebenchError, psycopg.Error):
                    if not connection.broken:
                        raise
        with contextlib.ExitStack() as stack:
            return self._read(history, self._connected(stack))

    def _connected(self, stack: contextlib.ExitStack) -> psycopg.Connection[Any]:
        """A connection to read with; the server may be in recovery after a crash. Raises DatabaseProblem."""
        connections: list[psycopg.Connection[Any]] = []
        known = self._assignment

        def open_one() -> None:
            session = (
                connect(known.target, schema=known.schema) if known.own_code else self._control.session(known.schema)
            )
            connections.append(stack.enter_context(session))

        if self.crew.gave_up:
            open_one()
            return connections[0]
        pauses = reconnect(open_one, time.perf_counter_ns() + _RECOVERY_NS)
        while True:
            try:
                time.sleep(next(pauses))
            except StopIteration as end:
                if end.value:
                    raise DatabaseProblem(end.value) from None
                return connections[0]

    def _read(self, history: History, connection: psycopg.Connection[Any]) -> History:
        scenario, known, crew = self._scenario, self._assignment, self.crew
        rows, labels = None, None
        if known.instances is not None and (still := known.instances.settle(connection)):
            crew.notes.append(still)
        if known.pooler is not None:
            known.pooler.stop()  # its sessions of the server would stay, and may have statements yet to carry out
        quiesce(connection, known.schema, role="worker", wait_seconds=0.5, resting=crew.resting)
        crew.measure_server()
        self.restarted = restarted(self._server, server_processes(connection))
        if scenario.rows is not None:
            rows, labels = read_rows(connection, scenario.rows, self._scratch)
            if crew.lost:
                history = self._with_begun(history, rows)
            crew.drain(numbered(rows), connection)
        violations = (*ask_invariants(connection, scenario), *_called(scenario, connection))
        measures = ask_measures(connection, scenario)
        return replace(
            history,
            rows=rows,
            logs=() if rows is None else tuple(self._log(place) for place in range(len(known.consumers))),
            violations=violations,
            measures=measures,
            labels=labels,
            clocks=crew.settle(),
        )

    def _with_begun(self, history: History, rows: Array) -> History:
        """A history with the operations that were begun on lost machines, as far as rows show them."""
        known, width = self._assignment, self._assignment.load.connections_per_worker
        sessions = [
            session for number in self.crew.lost for session in range((number - 1) * width + 1, number * width + 1)
        ]
        add_begun(known.files, sessions, rows, history.start)
        return replace(history, operations=read_operations({n: known.files.operations(n) for n in known.sessions}))

    def _log(self, place: int) -> Log:
        known, table = self._assignment, self._scenario.rows
        consumer = known.consumers[place]
        report = self.crew.reports.get(consumer.name)
        versions = {"version"} if table is None else {"version", table.version}
        ordered = bool(versions & consumer.cursor.keys())
        if (
            report is None or report.behind
        ):  # only a cursor that is the version, and never goes back, shows what is passed for good
            ordered = ordered and len(consumer.cursor) == 1 and not consumer.dedupe
        return read_log(
            consumer.name,
            known.files.deliveries(place),
            known.files.polls(place),
            ordered=ordered,
            drained=report is not None and not report.behind,
            longest_poll_ns=None if report is None else report.longest_poll_ns,
            quiet=None if report is None else known.files.quiet(place),
        )


def _table(scenario: Scenario, known: Assignment, control: Control) -> Table | None:
    """Where numbers are looked up while a run goes on; None where operations say no version that is a number.

    An application's never do.
    """
    strategy, rows = known.strategy, scenario.rows
    if rows is None or strategy.is_application or not strategy.integer:
        return None
    return Table(control, known.schema, rows)


def _has(history: History, outcome: Outcome) -> bool:
    """Whether an operation is known to have ended so."""
    return any((outcomes(piece["status"]) == outcome).any() for piece in history.operations.pieces(_PIECE))


def _called(scenario: Scenario, connection: psycopg.Connection[Any]) -> Iterator[Violation]:
    """Ask the invariants that are Python callables."""
    for name, check in scenario.checks.items():
        if sentences := broken(check, connection):
            rows = tuple({"said": sentence} for sentence in sentences[:_SHOWN])
            yield Violation(invariant=name, count=len(sentences), rows=rows)
