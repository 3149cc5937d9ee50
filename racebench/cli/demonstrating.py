"""`demo`: from a walkthrough, a strategy or a schedule to what is shown, and to a file to take along."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from racebench.cli.files import check_file
from racebench.cli.options import TargetOptions
from racebench.cli.replaying import read_schedule
from racebench.cli.servers import Server, server_of
from racebench.core.errors import DatabaseProblem, UsageProblem, suggest
from racebench.core.model import Consumer, Scenario, Strategy
from racebench.core.target import Target
from racebench.demo import player, screen, selection, terminal, viewer, walkthroughs
from racebench.demo.exports import FORMATS, text
from racebench.demo.frames import Frame
from racebench.demo.presentation import Part, Presentation, ScheduleEntry, Walkthrough
from racebench.demo.recording import Recording, schedule_of
from racebench.demo.selection import Tell
from racebench.exploration.request import ExplorationRequest
from racebench.postgres import environment
from racebench.reports.results.document import write_atomically
from racebench.reports.terminal import progress
from racebench.workloads import catalog

_DEFAULT = "naive"
_DEFAULT_CONSUMER = "cursor"
_NO_FIX = "none"
_POLLS = 2
_MOST_SESSIONS = 9
_BUDGET_S = 5.0
#: Beside the sessions: to ask who waits for whom, to prepare, to look at the rows, to make and drop the schema.
_EXTRA_CONNECTIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """What was asked for, checked. `parts` are known, or to be found by exploring `asked`; `fix` may follow them."""

    title: str
    parts: tuple[Part, ...]
    asked: ExplorationRequest | None
    fix: Strategy | None
    server: Server
    format: str | None
    output: Path | None
    pace: float
    notes: bool
    scenario: str | None

    @property
    def sessions(self) -> int:
        """The most sessions of a part, without its consumer."""
        return max([part.sessions for part in self.parts] + [self.asked.sessions if self.asked else 0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What a name stands for: its parts, or what to explore for them; and the strategy that mends it."""

    title: str
    parts: tuple[Part, ...] = ()
    asked: ExplorationRequest | None = None
    fix: str | None = None

    @property
    def of(self) -> Part | ExplorationRequest:
        """The part or exploration whose schedule the fix is played with."""
        last = self.parts[-1] if self.parts else self.asked
        assert last is not None
        return last


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A presentation that has been rehearsed on the server it will be shown on."""

    target: Target
    presentation: Presentation
    recording: Recording


def plan(
    name: str | None,
    *,
    scenario: str | None,
    consumer: str | None,
    fix: str | None,
    autoplay: float | None,
    notes: bool,
    export: str | None,
    output: str | None,
    target: TargetOptions,
) -> Demonstration:
    """Check the options of `demo`; raises UsageProblem for the first that cannot be carried out."""
    format_, path = _destination(export, output)
    wanted = _find(name, scenario, consumer)
    where, reader = wanted.of.scenario, wanted.of.consumer
    cure = wanted.fix if fix is None else None if fix == _NO_FIX else fix
    made = Demonstration(
        title=wanted.title,
        parts=wanted.parts,
        asked=wanted.asked,
        fix=catalog.find_strategy(where, cure) if cure is not None else None,
        server=server_of(target),
        format=format_,
        output=path,
        pace=2.0 if autoplay is None else autoplay,
        notes=notes,
        scenario=scenario,
    )
    if made.fix is not None and reader is not None and not reader.fits(made.fix):
        raise UsageProblem(
            f"consumer '{reader.name}' cannot read what '{made.fix.name}' writes; choose another --fix, or --fix none"
        )
    return made


def _destination(export: str | None, output: str | None) -> tuple[str | None, Path | None]:
    """The format, from --export or from the file's suffix, and the file."""
    if export is None and output is not None:
        suffix = Path(output).suffix.lstrip(".").lower()
        export = {"htm": "html", "mmd": "mermaid", "markdown": "md"}.get(suffix, suffix)
        if export not in FORMATS:
            raise UsageProblem(f"--output '{output}' does not say the format; add --export {'|'.join(FORMATS)}")
    if output is None or output == "-":
        return export, None
    check_file("--output", Path(output))
    return export, Path(output)


def _find(name: str | None, scenario: str | None, consumer: str | None) -> _Wanted:
    """What a walkthrough, a strategy or a schedule stands for."""
    if name is not None and ":" in name:
        if consumer is not None:
            raise UsageProblem("a schedule has its own consumer; leave --consumer out, or name a strategy")
        return _of_schedule(name, scenario)
    where = catalog.find_scenario(scenario)
    shipped = where.folder.parent.resolve() == catalog.shipped_folder().resolve()
    name = name or (_DEFAULT if _DEFAULT in where.strategies else next(iter(where.strategies)))
    walkthrough = walkthroughs.WALKTHROUGHS.get(name) if shipped and name not in where.strategies else None
    if walkthrough is not None and walkthrough.scenario != where.name:
        raise UsageProblem(f"walkthrough '{name}' belongs to {walkthrough.scenario}; leave --scenario out")
    if walkthrough is not None and consumer is not None:
        raise UsageProblem(f"walkthrough '{name}' has its own consumer; leave --consumer out, or name a strategy")
    if walkthrough is None and consumer is None and shipped:
        walkthrough = walkthroughs.of_strategy(where.name, name)
    if walkthrough is not None:
        return _Wanted(title=walkthrough.title, parts=_of_telling(where, walkthrough), fix=walkthrough.fix)
    if name not in where.strategies:
        if (catalog.shipped_folder() / name / catalog.MANIFEST).is_file() or Path(name, catalog.MANIFEST).is_file():
            raise UsageProblem(f"'{name}' is a scenario: racebench demo [STRATEGY] --scenario {name}")
        known = [*where.strategies, *walkthroughs.WALKTHROUGHS]
        raise UsageProblem(f"'{name}' is not a walkthrough or a strategy of {where.name}{suggest(name, known)}")
    strategy = where.strategies[name]
    asked = ExplorationRequest(
        scenario=where, strategy=strategy, consumer=_consumer(where, strategy, consumer), polls=_POLLS,
        budget_s=_BUDGET_S, stop_at_first=where.once,
    )  # fmt: skip
    return _Wanted(title=where.title, asked=asked, fix=_cure(where, strategy))


def _consumer(scenario: Scenario, strategy: Strategy, name: str | None) -> Consumer | None:
    if name == "none":
        return None
    if name is not None:
        found = catalog.find_consumer(scenario, name)
        if not found.fits(strategy):
            raise UsageProblem(f"consumer '{name}' cannot read what '{strategy.name}' writes; choose another")
        return found
    default = scenario.consumers.get(_DEFAULT_CONSUMER)
    return default if default is not None and default.fits(strategy) else None


def _cure(scenario: Scenario, strategy: Strategy) -> str | None:
    """What the scenario recommends, for a strategy that needs it."""
    return None if strategy.right or scenario.advise == strategy.name else scenario.advise


def _of_telling(scenario: Scenario, walkthrough: Walkthrough) -> tuple[Part, ...]:
    return tuple(
        Part(
            scenario=scenario,
            strategy=scenario.strategies[part.strategy],
            consumer=scenario.consumers[part.consumer] if part.consumer else None,
            schedule=part.schedule,
            strict=True,
            heading=selection.heading_of(part.strategy, part.consumer),
            opening=part.opening,
            closing=part.closing,
            expected=part.expected,
            captions=part.captions,
            note=part.note,
        )
        for part in walkthrough.parts
    )


def _of_schedule(text: str, scenario: str | None) -> _Wanted:
    asked, parsed = read_schedule(text, scenario=scenario)
    if not 1 <= asked.sessions <= _MOST_SESSIONS:
        raise UsageProblem(
            f"the schedule is of {asked.sessions} sessions; the demo shows from 1 to {_MOST_SESSIONS} and a consumer"
        )
    reader = asked.consumer.name if asked.consumer else None
    part = Part(
        scenario=asked.scenario,
        strategy=asked.strategy,
        consumer=asked.consumer,
        sessions=asked.sessions,
        schedule=tuple(ScheduleEntry(session=session) for session in parsed.steps),
        strict=True,
        heading=selection.heading_of(asked.strategy.name, reader),
        opening=f"'{asked.strategy.name}': {asked.strategy.summary}. This is the requested schedule.",
    )
    return _Wanted(title=asked.scenario.title, parts=(part,), fix=_cure(asked.scenario, asked.strategy))


@contextlib.contextmanager
def ready(made: Demonstration, tell: Tell) -> Iterator[Ready]:
    """Start the server, choose the schedules that are not given, and play everything once without showing it.

    Raises UsageProblem if a strategy cannot follow its schedule.
    """
    with contextlib.ExitStack() as stack:
        tell("starting PostgreSQL", 0.0)
        target = stack.enter_context(made.server.opened(made.sessions + 1 + _EXTRA_CONNECTIONS))
        _check_versions(made, target)
        parts = made.parts
        if made.asked is not None:
            parts = selection.choose_parts(target, made.asked, made.fix, tell)
        elif made.fix is not None:
            parts = (*parts, selection.repeat_with_fix(parts[-1], made.fix))
        tell("rehearsing", 0.8)
        presentation, frames = player.rehearse(target, Presentation(title=made.title, parts=parts))
        schedules = [str(schedule_of(*played)) for played in zip(presentation.parts, frames, strict=True)]
        recording = Recording(
            title=made.title,
            frames=tuple(frame for each in frames for frame in each),
            schedules=tuple(schedules),
            pace=made.pace,
            notes=made.notes,
            scenario=made.scenario,
        )
        yield Ready(target=target, presentation=presentation, recording=recording)


def _check_versions(made: Demonstration, target: Target) -> None:
    digits = re.match(r"\d*", str(environment.describe(target)["server_version"]))
    version = int(digits[0] or 0) if digits else 0
    strategies = [part.strategy for part in made.parts] + [each for each in (made.fix,) if each is not None]
    strategies += [made.asked.strategy] if made.asked is not None else []
    for strategy in strategies:
        if strategy.server > version:
            raise DatabaseProblem(f"'{strategy.name}' needs PostgreSQL {strategy.server}, this is {version}")


def run(made: Demonstration, console: Console, errors: Console, *, auto: bool) -> None:
    """Show it on a terminal, print it where there is none, or write it to take along."""
    on_screen = made.format is None and _has_terminal(console)
    if on_screen:
        _check_size(made)
    with contextlib.ExitStack() as stack:
        with progress.bar(errors) as tell:
            prepared = stack.enter_context(ready(made, tell))
        if made.format is not None:
            _write(FORMATS[made.format](prepared.recording), made.output)
        elif on_screen:
            frames = _on_screen(made, prepared, console, auto=auto)
            stack.close()
            for line in ending(frames, prepared.recording):
                _line(console, line)
        else:
            _print(made, prepared, console)


def _has_terminal(console: Console) -> bool:
    """Whether keys can be read and a screen can be drawn."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not console.is_dumb_terminal


def _check_size(made: Demonstration) -> None:
    width, height = os.get_terminal_size(sys.stdout.fileno())
    if problem := screen.too_small(width, height, made.sessions + 1):
        raise UsageProblem(f"{problem}: enlarge the window, or print it: racebench demo … | cat")


def _on_screen(made: Demonstration, prepared: Ready, console: Console, *, auto: bool) -> tuple[Frame, ...]:
    """Show it; return the frames that were shown."""
    steps = [prepared.recording.steps(part) for part in range(len(prepared.presentation.parts))]
    marks = screen.ASCII if console.options.ascii_only else screen.UNICODE
    with viewer.playback(prepared.target, prepared.presentation) as playback:
        with terminal.full_screen(sys.stdin.fileno(), sys.stdout.fileno()) as opened:
            viewer.view(
                opened,
                playback,
                prepared.presentation,
                steps,
                made.pace if auto else None,
                marks,
                notes=made.notes,
                colour=not console.no_color,
            )
        return tuple(playback.frames)


def _print(made: Demonstration, prepared: Ready, console: Console) -> None:
    """Play it once more, printing each step as it happens."""
    _line(console, made.title)
    before: Frame | None = None
    for number, part in enumerate(prepared.presentation.parts):
        with contextlib.closing(player.play(prepared.target, part, number)) as frames:
            for frame in frames:
                for line in text.block(frame, before, notes=made.notes):
                    _line(console, line)
                before = frame
    _line(console, "")
    for each in prepared.recording.commands:
        _line(console, each)


def _line(console: Console, line: str) -> None:
    """One line as it is, however long."""
    console.file.write(f"{line}\n")
    console.file.flush()


def _write(made: str, output: Path | None) -> None:
    if output is not None:
        write_atomically(output, made)
    else:
        sys.stdout.write(made)


def show_list(console: Console) -> None:
    """Print the walkthroughs."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for walkthrough in walkthroughs.WALKTHROUGHS.values():
        parts = [selection.heading_of(part.strategy, part.consumer) for part in walkthrough.parts]
        repeated = f"; then the same schedule with {walkthrough.fix}" if walkthrough.fix else ""
        table.add_row(Text(walkthrough.name, style="bold"), Text(walkthrough.title, style="bold"))
        table.add_row("", Text(f"{walkthrough.summary}"))
        table.add_row("", Text(f"{'; '.join(parts)}{repeated}"))
    console.print(table)
    console.print(
        "\nracebench demo NAME shows a walkthrough, a strategy, or a schedule that `racebench explore` prints"
    )


def ending(frames: tuple[Frame, ...], recording: Recording) -> list[str]:
    """What is left to read when the screen is gone: each act that came to its end, and how to run it again."""
    lines = []
    for frame in frames:
        if frame.ended:
            lines += [f"{frame.heading}: {frame.verdict}", f"  {recording.commands[frame.part]}"]
    return lines
