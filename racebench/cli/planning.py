"""From options to a Plan: everything checked that can be checked before anything is started."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from racebench.analysis import thresholds
from racebench.analysis.thresholds import Outcome, Threshold
from racebench.core.anomalies import ANOMALIES
from racebench.core.errors import ExitCode, UsageProblem, suggest
from racebench.core.model import Consumer, Load, Protocol, Scenario, Strategy
from racebench.core.results import RunResult, Verdict
from racebench.core.target import Target
from racebench.reports.results.document import Document, check_writable, now, to_json
from racebench.workloads import ad_hoc, catalog

#: What is run in one go: a strategy, the consumers beside it, and how hard it presses.
Cell = tuple[Strategy, tuple[Consumer, ...], Load]

DEFAULT_SECONDS = 2.0
MOST_SESSIONS = 5000


@dataclass(slots=True, kw_only=True)
class Plan:
    """What a command is going to do, and, as it goes, what it has found. No target means the embedded server.

    `named` are the strategies and consumers asked for by name: if one cannot be had, that is an error; of the others it
    is noted in `left_out`. `each_alone`: every consumer in a run of its own, and one run without (a matrix).
    `history`: keep each run's, or none's; None: of runs with a forbidden anomaly. `stem` is the path of what is saved,
    without an ending; None if nothing is. `thresholds`: each with the strategies it is about. `arrange`: in which order
    the cells are run, and how often; None: each once. `conclude`: what follows from all runs, added to the document.
    """

    scenario: Scenario
    strategies: tuple[Strategy, ...]
    consumers: tuple[Consumer, ...]
    named: frozenset[str]
    each_alone: bool
    load: Load
    target: Target | None
    server_version: int
    keep: bool
    json_path: str | None
    folder: Path | None
    fail_on: tuple[str, ...]
    expect_race: bool
    history: bool | None
    stem: Path | None
    thresholds: tuple[tuple[Threshold, tuple[str, ...]], ...] = ()
    arrange: Callable[[Sequence[Cell]], Sequence[Cell]] | None = None
    conclude: Callable[[Document], Document] | None = None
    created: str = field(default_factory=now)
    environment: Mapping[str, Any] = field(default_factory=dict)
    results: list[RunResult] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    finished: bool = False
    saved: Path | None = None

    def document(self) -> Document:
        """What has been measured so far, as a document."""
        made = Document(
            environment=self.environment,
            created=self.created,
            runs=tuple(self.results),
            complete=self.finished,
        )
        if self.conclude is not None and self.results:
            made = self.conclude(made)
        held = thresholds.judge(self.thresholds, made.runs, made.comparison)
        return replace(made, thresholds=held) if held else made

    def json(self) -> str:
        """The document as JSON; of the many runs of a matrix or a comparison with one witness each."""
        return to_json(self.document(), witnesses=1 if self.each_alone or self.arrange else None)


def target_of(dsn: str | None) -> Target | None:
    """The user's server, None for the embedded one."""
    if not dsn:
        return None
    from racebench.postgres.external import external

    return external(dsn)


def plan(**given: Any) -> Plan:
    """Check the options of `run` and `matrix`, and that what is saved can be; raises UsageProblem."""
    made = draft(**given)
    check_places(made)
    return made


def check_places(made: Plan) -> None:
    """Make the results' folder; raises UsageProblem unless it and --json's file can be written."""
    if made.json_path is not None and made.json_path != "-":
        check_file("--json", Path(made.json_path))
    if made.folder is not None:
        check_writable(made.folder)


def draft(
    *,
    scenario: str | None,
    others: Sequence[str] = (),
    apart: bool = False,
    call: Sequence[str] = (),
    setup: Sequence[str] = (),
    invariant: Sequence[str] = (),
    strategies: Sequence[str],
    workers: int,
    duration: float | None,
    operations: int | None,
    think: float,
    hold: float,
    tenants: int,
    seed: int | None,
    rate: float | None,
    warmup: float,
    protocol: str,
    connections_per_worker: int,
    consumers: Sequence[str],
    rollback: float,
    long: tuple[float, float],
    jitter: float,
    poll_interval: float,
    batch: int,
    server: str,
    dsn: str | None,
    keep: bool,
    json_path: str | None,
    results: str,
    no_save: bool,
    history: bool | None,
    fail_on: str | None,
    expect: str | None,
    each_alone: bool = False,
    threshold: Sequence[str] = (),
    default_seconds: float = DEFAULT_SECONDS,
) -> Plan:
    """Check options, and touch nothing; raises UsageProblem for the first that cannot be carried out.

    Durations are in seconds, delays in milliseconds; `long` is a percentage and a delay. `others` and `apart`: see
    own.find.
    """
    asked = [thresholds.parse(text) for text in threshold]
    found = ad_hoc.find(scenario, called=call, setup=setup, invariants=invariant, others=others, apart=apart)
    sessions = workers * connections_per_worker
    if sessions > MOST_SESSIONS:
        raise UsageProblem(
            f"--workers {workers} × --connections-per-worker {connections_per_worker} is {sessions} connections; "
            f"{MOST_SESSIONS} are the most"
        )
    if operations is not None and operations < sessions:
        each = "workers" if connections_per_worker == 1 else "connections"
        raise UsageProblem(
            f"--operations {operations} is fewer than {sessions} {each}; each needs at least one: "
            f"give --operations {sessions} or more, or fewer {each}"
        )
    if keep and not dsn:
        raise UsageProblem("--keep needs --dsn: the embedded server ends with the command, nobody could look")
    if found.once:
        if duration is not None or operations is not None:
            raise UsageProblem(
                f"scenario '{found.name}' runs each worker's script once; "
                "give --workers, not --duration or --operations"
            )
        if rate is not None or warmup:
            raise UsageProblem(f"scenario '{found.name}' runs each worker's script once; --rate and --warmup need many")
        operations = sessions
    if connections_per_worker > 1 and call:
        raise UsageProblem("--call runs Python, one call at a time in a process; use --workers for more sessions")
    if each_alone and not found.consumers:
        raise UsageProblem(f"scenario '{found.name}' has no consumers; use `racebench run {found.name}`")
    if duration is None and operations is None:
        duration = default_seconds
    stem = _stem(found, None if no_save else Path(results), json_path)
    if history and stem is None:
        raise UsageProblem("--history has nowhere to go: leave out --no-save, or give --json PATH")
    made = Plan(
        scenario=found,
        strategies=catalog.find_strategies(found, strategies or ["all"]),
        consumers=catalog.find_consumers(found, consumers or _default_consumers(found)),
        named=frozenset({*strategies, *consumers}),
        each_alone=each_alone,
        load=Load(
            workers=workers,
            duration_s=duration,
            operations=operations,
            think_us=round(think * 1000),
            hold_us=round(hold * 1000),
            tenants=tenants,
            rollback_percent=rollback,
            long_percent=long[0],
            long_us=round(long[1] * 1000),
            jitter_us=round(jitter * 1000),
            seed=secrets.randbelow(2**32) if seed is None else seed,
            poll_interval_ms=poll_interval,
            batch=batch,
            protocol=Protocol(protocol),
            connections_per_worker=connections_per_worker,
            rate_per_s=rate,
            warmup_s=warmup,
        ),
        target=target_of(dsn),
        server_version=int(server),
        keep=keep,
        json_path=json_path,
        folder=None if no_save else Path(results),
        fail_on=anomalies(fail_on),
        expect_race=expect == "race",
        history=False if each_alone and history is None else history,
        stem=stem,
    )
    made.thresholds = concerning(made, asked, reference=None)
    return made


def concerning(
    made: Plan, asked: Sequence[Threshold], *, reference: str | None
) -> tuple[tuple[Threshold, tuple[str, ...]], ...]:
    """Thresholds with the strategies they are about; raises UsageProblem for one that can never be judged."""
    for each in asked:
        thresholds.check(
            each, made.scenario, made.strategies, made.consumers, groups=catalog.GROUPS, reference=reference
        )
    return tuple((each, tuple(thresholds.concerned(each, made.strategies, catalog.GROUPS))) for each in asked)


def _stem(scenario: Scenario, folder: Path | None, json_path: str | None) -> Path | None:
    """Where what a command saves goes, without an ending: into the results' folder, else beside --json's file."""
    if folder is not None:
        stamp = now().replace(":", "").replace("-", "")
        return folder / f"{stamp}-{scenario.name}-{secrets.token_hex(3)}"
    if json_path is not None and json_path != "-" and not (Path(json_path).exists() and not Path(json_path).is_file()):
        return Path(json_path).with_suffix("")
    return None


def exit_code(made: Plan) -> int:
    """0, or the first of 3, 4 and 5 that --fail-on, --expect and --threshold ask for."""
    outcomes = {held.outcome for held in made.document().thresholds}
    codes = [_code_of_anomalies(made)]
    codes += [ExitCode.THRESHOLD] if Outcome.CROSSED in outcomes else []
    codes += [ExitCode.INCONCLUSIVE] if Outcome.INCONCLUSIVE in outcomes else []
    return gravest(codes)


def gravest(codes: Sequence[int]) -> int:
    """Of several exit codes the one to end with: anomalies outrank limits, and limits what is not known."""
    return min((code for code in codes if code), default=ExitCode.OK)


def _code_of_anomalies(made: Plan) -> int:
    """0, or 3 and 5 as --fail-on and --expect ask: an anomaly found, or a verdict needed and not known."""
    if made.expect_race:
        return ExitCode.OK if all(_raced(made, result) for result in made.results) else ExitCode.ANOMALY
    if not made.fail_on:
        return ExitCode.OK
    if any(_raced(made, result) for result in made.results):
        return ExitCode.ANOMALY
    if any(result.verdict is Verdict.UNKNOWN for result in made.results):
        return ExitCode.INCONCLUSIVE
    return ExitCode.OK


def _raced(made: Plan, result: RunResult) -> bool:
    """Whether a run shows one of the anomalies asked for; "any" (and no --fail-on) means those the scenario forbids."""
    kinds = result.forbidden if made.fail_on in ((), ("any",)) else made.fail_on
    return any(result.counts[kind] > 0 for kind in kinds)


def _default_consumers(scenario: Scenario) -> list[str]:
    """The plain cursor if there is one, else the first consumer, if there is any."""
    return ["cursor"] if "cursor" in scenario.consumers else list(scenario.consumers)[:1]


def anomalies(text: str | None) -> tuple[str, ...]:
    """The kinds that --fail-on names; raises UsageProblem for one that there is not."""
    if text is None:
        return ()
    kinds = tuple(part.strip() for part in text.split(",") if part.strip())
    if not kinds:
        raise UsageProblem(f"--fail-on takes anomalies, as duplicates,missed, or 'any', not '{text}'")
    if "any" in kinds:
        return ("any",)
    for kind in kinds:
        if kind not in ANOMALIES:
            raise UsageProblem(f"--fail-on: anomaly '{kind}' is unknown{suggest(kind, [*ANOMALIES, 'any'])}")
    return kinds


def check_file(option: str, path: Path, *, stdout: bool = True) -> None:
    """Raise UsageProblem unless the file that an option names can be written. `stdout`: it may name that too."""
    if path.is_dir():
        other = ", or '-' for stdout" if stdout else ""
        raise UsageProblem(f"{option} '{path}' is a folder; name a file{other}")
    if not path.parent.is_dir():
        raise UsageProblem(f"{option} '{path}': folder '{path.parent}' does not exist; make it first")
    if path.exists() and not path.is_file():
        return
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as problem:
        raise UsageProblem(f"{option} '{path}' cannot be written: {problem.strerror}; name another place") from None
