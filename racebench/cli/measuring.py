"""Carry out the request of run, matrix or compare: results, the document of them saved after each, and what is shown.

The runs themselves belong to racebench.load.campaign. A command that is interrupted shows and saves what it has.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from racebench.cli import invocation, machines, next_steps
from racebench.cli.console import application_prints_to_stderr, publish, shown_progress, shows_live
from racebench.cli.early import Early
from racebench.cli.exit_codes import Finding, exit_code
from racebench.cli.files import stdout_is_taken
from racebench.cli.option_groups import OutputOptions
from racebench.cli.requests import Measurement
from racebench.cli.streams import reader_may_leave, say
from racebench.core.errors import ExitCode
from racebench.core.model import Scenario
from racebench.core.results import RunResult
from racebench.core.signals import interruptible, shielded
from racebench.load import campaign
from racebench.load.campaign import Campaign, Cell
from racebench.reports import formats
from racebench.reports.results.document import Document, RunTexts, in_folder, now, to_json
from racebench.reports.terminal import progress, run_table

if TYPE_CHECKING:
    from racebench.executors import Executor
    from racebench.executors.connecting import Scheduler
    from racebench.load.rounds import Rounds
    from racebench.reports.terminal.live_runs import LiveRuns


@dataclass(slots=True, kw_only=True)
class _Record:
    """The results of a request so far. `rounds` and `running` are None until the server is open.

    `made`: the last document, and of how many results it is.
    """

    request: Measurement
    created: str = field(default_factory=now)
    command: str = field(default_factory=invocation.command)
    running: Campaign | None = None
    rounds: Rounds | None = None
    results: list[RunResult] = field(default_factory=list)
    texts: RunTexts = field(default_factory=RunTexts)
    saved: Path | None = None
    made: tuple[int, Document] | None = None

    def add(self, result: RunResult) -> None:
        """Add a result and save the document, so that --json's file and the results folder agree."""
        with shielded():
            self.results.append(self._with_path(result))
            document = cache(self.document)  # made only if there is a file
            self.saved = self.request.files.write(lambda folder: self.json(in_folder(document(), folder)) + "\n")

    def _with_path(self, result: RunResult) -> RunResult:
        """The result with the absolute path of its history."""
        stem = self.request.files.stem
        if result.history is None or stem is None:
            return result
        return replace(result, history=str(stem.resolve().with_name(result.history)))

    def document(self) -> Document:
        """The results so far, with what follows from them: the same document until a result is added.

        A comparison has the state of the machine in it, which would be another one when the document is shown.
        """
        if self.made is None or self.made[0] != len(self.results):
            self.made = len(self.results), self._made()
        return self.made[1]

    def _made(self) -> Document:
        return _document(
            self.request,
            Document(
                environment=self.running.environment if self.running is not None else {},
                created=self.created,
                command=self.command,
                runs=tuple(self.results),
                complete=self.running is not None and len(self.results) == len(self.running.sequence) > 0,
            ),
            self.rounds,
        )

    def json(self, document: Document) -> str:
        return to_json(document, witnesses=self.request.witnesses, texts=self.texts)


def _document(request: Measurement, document: Document, begun: Rounds | None) -> Document:
    """A document with the comparison, the baseline's comparison and the thresholds that the request asks for."""
    comparison = request.comparison
    if comparison is not None and begun is not None and document.runs:
        from racebench.analysis import baselines  # run and matrix need neither
        from racebench.cli.comparison import measured_of

        document = replace(document, comparison=begun.comparison(document.runs))
        if comparison.baseline is not None:
            document = replace(
                document,
                baseline=baselines.beside(
                    measured_of(document),
                    comparison.baseline,
                    name=comparison.baseline_name,
                    fail_slower=comparison.fail_slower,
                ),
            )
    if request.thresholds:
        from racebench.analysis import thresholds

        judged = thresholds.judge(request.thresholds, document.runs, document.comparison)
        document = replace(document, thresholds=judged)
    return document


def measure(
    request: Measurement,
    output: OutputOptions,
    show: Callable[[Document], None],
    early: Early,
) -> Document:
    """Carry out a request, then write reports and show the document, also if it ends early; raises RacebenchError.

    `early`: what was begun before the request was read.
    """
    record = _Record(request=request)
    with interruptible():
        try:
            view = _view(output, request.campaign.scenario)
            with shown_progress(view) as shown, application_prints_to_stderr():
                _run(record, shown, view, early)
        finally:
            if record.results:
                document = record.document()
                with reader_may_leave():
                    try:
                        code = exit_code_of(request, document) if document.complete else None
                        publish(document, output.reports, request.gates, code)
                    finally:  # the results are shown even if a report cannot be written
                        _print(record, output, document, show)
    return record.document()


def _view(output: OutputOptions, scenario: Scenario) -> LiveRuns | None:
    """What --live shows; None where there is no terminal for it."""
    if not (output.live and shows_live()):
        return None
    from racebench.reports.terminal.live_runs import LiveRuns  # few commands have it

    return LiveRuns(scenario.forbid)


def _run(record: _Record, shown: progress.Progress, view: LiveRuns | None, early: Early) -> None:
    request = record.request
    began: float | None = None

    def report_progress(label: str, fraction: float) -> None:
        nonlocal began
        if began is None and fraction > 0:  # the first run has begun
            began = time.monotonic()
        passed_s = 0.0 if began is None else time.monotonic() - began
        shown(label, fraction, left=progress.left(passed_s, fraction))

    with contextlib.ExitStack() as stack:
        report_progress("starting PostgreSQL", 0.0)
        target = stack.enter_context(
            request.server.opened(request.campaign.connections, pooled=request.campaign.pooled, begun=early.server)
        )
        executor: Executor | None = early.processes
        if request.machines is not None:
            report_progress("connecting to the machines", 0.0)
            target, executor = stack.enter_context(
                machines.opened(request.machines, target, workers=request.campaign.load.workers)
            )
        assert executor is not None  # it was begun for this request
        record.running = stack.enter_context(
            campaign.opened(
                request.campaign,
                target,
                executor,
                keep=request.keep,
                schema=None if early.sessions is None else early.sessions.schema,
                patience=request.server.patience,
            )
        )
        if early.sessions is not None:
            running = record.running
            isolated = any(strategy.isolation for strategy in request.campaign.strategies)
            wanted = request.rows_on is None and (not isolated or len(running.sequence) > 1)
            early.sessions.hand_over(wanted=wanted)
        if request.comparison is not None:
            from racebench.load import rounds

            record.rounds = rounds.begin(record.running, request.comparison.reference, margin=request.comparison.margin)

        def history_file(cell: Cell, result: RunResult) -> Path | None:
            wanted = request.history
            if wanted is None:
                wanted = request.files.folder is not None and bool(result.found)
            return request.files.free_history_file(cell.label) if wanted else None

        watch = None if view is None else view.running
        if request.rows_on is not None:
            measured = stack.enter_context(_rows(request, request.rows_on, record.running, report_progress))
        else:
            measured = record.running.results(report_progress, history_file=history_file, watch=watch)
        for result in measured:
            label = record.running.sequence[len(record.results)].label
            record.add(result)
            shown.ended(run_table.row(label, result))
            if view is not None:
                view.ended(label, result)


@contextlib.contextmanager
def _rows(
    request: Measurement, scheduler: Scheduler, running: Campaign, report_progress: campaign.Progress
) -> Iterator[Iterator[RunResult]]:
    """The results of a matrix whose rows are measured on machines. Raises RacebenchError."""
    from racebench.load import rows

    report_progress("connecting to the machines", 0.0)
    server = request.server
    place = rows.Place(
        version=server.version,
        connections=request.campaign.connections,
        superuser=server.superuser,
        pooler=server.pooler,
        standby=server.standby,
        give_up_s=server.patience.give_up_s,
    )
    with rows.opened(scheduler, server.version) as client:
        yield rows.results(client, rows.rows_of(running), place, report_progress)


def _print(record: _Record, output: OutputOptions, document: Document, show: Callable[[Document], None]) -> None:
    """Print the results and where they were saved; nothing but a document if stdout is for that."""
    files = record.request.files
    if files.json_alone:
        say(record.json(document))
    elif output.markdown == "-":
        say(formats.text("markdown", document), end="")
    if stdout_is_taken(output):
        return
    show(document)
    for line in record.running.left_out if record.running is not None else ():
        say(f"left out: {line}")
    if record.saved is not None:
        say(f"saved: {record.saved}")
    kept = [result.history for result in record.results if result.history is not None]
    if kept and files.stem is not None:
        more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
        say(f"history: {files.stem.with_name(Path(kept[0]).name)}{more}")
    request = record.request.campaign
    proof = request.pairing is campaign.Pairing.TOGETHER and request.rounds is None
    pooler = record.request.server.pooler
    for step in next_steps.after_runs(request.scenario, document, files, record.saved, proof=proof, pooler=pooler):
        say(step)


def exit_code_of(request: Measurement, document: Document) -> ExitCode:
    """The exit code of run, matrix and compare."""
    return exit_code(
        [Finding(forbidden=result.forbidden, counts=result.counts, verdict=result.verdict) for result in document.runs],
        request.gates,
        thresholds=document.thresholds,
        baseline=document.baseline,
    )
