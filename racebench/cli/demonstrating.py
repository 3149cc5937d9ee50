"""What demo does: from a walkthrough, a strategy or a schedule to what is shown, printed or written to a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from racebench.cli import invocation
from racebench.cli.console import shown_progress
from racebench.cli.files import check_file
from racebench.cli.option_groups import TargetOptions
from racebench.cli.replaying import read_schedule
from racebench.cli.servers import Server, server_of
from racebench.cli.streams import say
from racebench.core.defaults import MOST_EXPLORED_SESSIONS
from racebench.core.errors import DatabaseProblem, UsageProblem, suggest
from racebench.core.model import Consumer, Scenario, Strategy
from racebench.core.plain_text import printable
from racebench.core.target import Target
from racebench.core.watching import unsaid
from racebench.demo import player, screen, selection, terminal, viewer, walkthroughs
from racebench.demo.exports import FORMATS, text
from racebench.demo.frames import Frame
from racebench.demo.presentation import Part, Presentation, Walkthrough
from racebench.demo.recording import Recording, schedule_of
from racebench.demo.schedules import entries
from racebench.demo.selection import Tell
from racebench.exploration import choices
from racebench.exploration.request import ExplorationRequest
from racebench.postgres import environment
from racebench.postgres.requirements import lacking
from racebench.reports.results.document import now, write_atomically
from racebench.reports.terminal import tables
from racebench.reports.terminal.tables import Column, Grid
from racebench.workloads import catalog

_DEFAULT = "naive"
_DEFAULT_CONSUMER = "cursor"
_NO_FIX = "none"
_POLLS = 2
_BUDGET_S = 5.0
#: Connections beside the sessions: to ask which session waits, to prepare, to read rows, to create and drop the schema.
_EXTRA_CONNECTIONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """What to show, checked. `parts` are given, or chosen by exploring `to_explore`; `fix` may follow them."""

    title: str
    parts: tuple[Part, ...]
    to_explore: ExplorationRequest | None
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
        return max([part.sessions for part in self.parts] + [self.to_explore.sessions if self.to_explore else 0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What a name stands for: its parts, or what to explore to choose them, and the strategy that fixes the race."""

    title: str
    parts: tuple[Part, ...] = ()
    to_explore: ExplorationRequest | None = None
    fix: str | None = None

    @property
    def of(self) -> Part | ExplorationRequest:
        """The part or exploration whose schedule the fix is played with."""
        last = self.parts[-1] if self.parts else self.to_explore
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
    where, chosen_consumer = wanted.of.scenario, wanted.of.consumer
    fix_name = wanted.fix if fix is None else None if fix == _NO_FIX else fix
    demonstration = Demonstration(
        title=wanted.title,
        parts=wanted.parts,
        to_explore=wanted.to_explore,
        fix=catalog.find_strategy(where, fix_name) if fix_name is not None else None,
        server=server_of(target, where),
        format=format_,
        output=path,
        pace=2.0 if autoplay is None else autoplay,
        notes=notes,
        scenario=scenario,
    )
    shown_fix = demonstration.fix
    if shown_fix is not None and chosen_consumer is not None and not chosen_consumer.fits(shown_fix):
        raise UsageProblem(
            f"consumer '{chosen_consumer.name}' cannot read what '{shown_fix.name}' writes; "
            "choose another --fix, or --fix none"
        )
    return demonstration


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
    named = walkthroughs.WALKTHROUGHS.get(name) if name is not None and scenario is None else None
    where = catalog.find_scenario(scenario if named is None else named.scenario)
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
        return _Wanted(title=walkthrough.title, parts=_of_walkthrough(where, walkthrough), fix=walkthrough.fix)
    if name not in where.strategies:
        if catalog.is_scenario(name):
            raise UsageProblem(f"'{name}' is a scenario: racebench demo [STRATEGY] --scenario {name}")
        known = [*where.strategies, *walkthroughs.WALKTHROUGHS]
        raise UsageProblem(f"'{name}' is not a walkthrough or a strategy of {where.name}{suggest(name, known)}")
    strategy = where.strategies[name]
    to_explore = ExplorationRequest(
        scenario=where, strategy=strategy, consumer=_consumer(where, strategy, consumer), polls=_POLLS,
        budget_s=_BUDGET_S, stop_at_first=where.once,
    )  # fmt: skip
    return _Wanted(title=where.title, to_explore=to_explore, fix=_advised_fix(where, strategy))


def _consumer(scenario: Scenario, strategy: Strategy, name: str | None) -> Consumer | None:
    if name == "none":
        return None
    if name is not None:
        named = catalog.find_consumer(scenario, name)
        if not named.fits(strategy):
            raise UsageProblem(f"consumer '{name}' cannot read what '{strategy.name}' writes; choose another")
        return named
    default = scenario.consumers.get(_DEFAULT_CONSUMER)
    return default if default is not None and default.fits(strategy) else None


def _advised_fix(scenario: Scenario, strategy: Strategy) -> str | None:
    """The strategy that the scenario advises, unless this one is correct or the advised one itself."""
    return None if strategy.right or scenario.advise == strategy.name else scenario.advise


def _of_walkthrough(scenario: Scenario, walkthrough: Walkthrough) -> tuple[Part, ...]:
    return tuple(
        Part(
            scenario=scenario,
            strategy=scenario.strategies[part.strategy],
            consumer=scenario.consumers[part.consumer] if part.consumer else None,
            sessions=part.sessions,
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
    request, parsed = read_schedule(text, scenario=scenario)
    if not 1 <= request.sessions <= MOST_EXPLORED_SESSIONS:
        raise UsageProblem(
            f"the schedule is of {request.sessions} sessions; the demo shows from 1 to {MOST_EXPLORED_SESSIONS} "
            "and a consumer"
        )
    if any(choices.strand_of(number) for number in parsed.steps):
        raise UsageProblem("the demo shows no strands; use racebench replay")
    consumer_name = request.consumer.name if request.consumer else None
    part = Part(
        scenario=request.scenario,
        strategy=request.strategy,
        consumer=request.consumer,
        sessions=request.sessions,
        schedule=entries(parsed.steps),
        strict=True,
        heading=selection.heading_of(request.strategy.name, consumer_name),
        opening=f"'{request.strategy.name}': {request.strategy.summary}. This is the requested schedule.",
    )
    return _Wanted(title=request.scenario.title, parts=(part,), fix=_advised_fix(request.scenario, request.strategy))


@contextlib.contextmanager
def ready(demonstration: Demonstration, tell: Tell) -> Iterator[Ready]:
    """Start the server, choose the schedules that are not given, and play everything once without showing it.

    Raises UsageProblem if a strategy cannot follow its schedule.
    """
    with contextlib.ExitStack() as stack:
        tell("starting PostgreSQL", 0.0)
        target = stack.enter_context(demonstration.server.opened(demonstration.sessions + 1 + _EXTRA_CONNECTIONS))
        _check_versions(demonstration, target)
        parts = demonstration.parts
        if demonstration.to_explore is not None:
            parts = selection.choose_parts(target, demonstration.to_explore, demonstration.fix, tell)
        elif demonstration.fix is not None:
            parts = (*parts, selection.repeat_with_fix(parts[-1], demonstration.fix))
        tell("rehearsing", 0.8)
        presentation, frames = player.rehearse(target, Presentation(title=demonstration.title, parts=parts))
        schedules = [str(schedule_of(*played)) for played in zip(presentation.parts, frames, strict=True)]
        recording = Recording(
            title=demonstration.title,
            frames=tuple(frame for part_frames in frames for frame in part_frames),
            schedules=tuple(schedules),
            pace=demonstration.pace,
            notes=demonstration.notes,
            scenario=demonstration.scenario,
            command=invocation.command(),
            created=now(),
        )
        yield Ready(target=target, presentation=presentation, recording=recording)


def _check_versions(demonstration: Demonstration, target: Target) -> None:
    strategies = [part.strategy for part in demonstration.parts]
    strategies += [demonstration.fix] if demonstration.fix is not None else []
    strategies += [demonstration.to_explore.strategy] if demonstration.to_explore is not None else []
    for name, lack in lacking(strategies, (), environment.describe(target), target).items():
        raise DatabaseProblem(f"'{name}' {lack}")


def run(demonstration: Demonstration, console: Console, *, auto: bool) -> None:
    """Write a demonstration if it has a format, else show it on a terminal, else print it."""
    on_screen = demonstration.format is None and _has_terminal(console)
    if on_screen:
        _check_size(demonstration)
        server = demonstration.server
        quiet = replace(server.patience, say=unsaid)  # the screen is full
        demonstration = replace(demonstration, server=replace(server, patience=quiet))
    with contextlib.ExitStack() as stack:
        with shown_progress() as tell:
            prepared = stack.enter_context(ready(demonstration, tell))
        if demonstration.format is not None:
            _write(FORMATS[demonstration.format](prepared.recording), demonstration.output)
        elif on_screen:
            frames = _on_screen(demonstration, prepared, console, auto=auto)
            stack.close()
            for line in ending(frames, prepared.recording):
                _line(console, line)
        else:
            _print(demonstration, prepared, console)


def _has_terminal(console: Console) -> bool:
    """Whether keys can be read and a screen can be drawn."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not console.is_dumb_terminal


def _check_size(demonstration: Demonstration) -> None:
    width, height = os.get_terminal_size(sys.stdout.fileno())
    if problem := screen.too_small(width, height, demonstration.sessions + 1):
        raise UsageProblem(f"{problem}: enlarge the window, or print it: racebench demo … | cat")


def _on_screen(demonstration: Demonstration, prepared: Ready, console: Console, *, auto: bool) -> tuple[Frame, ...]:
    """Show it on the screen; return the frames that were shown."""
    steps = [prepared.recording.steps(part) for part in range(len(prepared.presentation.parts))]
    marks = screen.ASCII if console.options.ascii_only else screen.UNICODE
    with viewer.playback(prepared.target, prepared.presentation) as playback:
        with terminal.full_screen(sys.stdin.fileno(), sys.stdout.fileno()) as opened:
            viewer.view(
                opened,
                playback,
                prepared.presentation,
                steps,
                demonstration.pace if auto else None,
                marks,
                notes=demonstration.notes,
                color=not console.no_color,
            )
        return tuple(playback.frames)


def _print(demonstration: Demonstration, prepared: Ready, console: Console) -> None:
    """Play it again, and print each step as it happens."""
    _line(console, demonstration.title)
    before: Frame | None = None
    for number, part in enumerate(prepared.presentation.parts):
        with contextlib.closing(player.play(prepared.target, part, number)) as frames:
            for frame in frames:
                for line in text.block(frame, before, notes=demonstration.notes):
                    _line(console, line)
                before = frame
    _line(console, "")
    for command in prepared.recording.commands:
        _line(console, command)


def _line(console: Console, line: str) -> None:
    """One line as it is, however long."""
    console.file.write(f"{printable(line)}\n")
    console.file.flush()


def _write(content: str, output: Path | None) -> None:
    if output is not None:
        write_atomically(output, printable(content))
    else:
        say(content, end="")


def show_list(console: Console) -> None:
    """Print the walkthroughs."""
    columns = (Column(), Column(wraps=True))
    table = Grid(columns, ascii_only=console.options.ascii_only, headed=False, gap=2)
    for walkthrough in walkthroughs.WALKTHROUGHS.values():
        parts = [selection.heading_of(part.strategy, part.consumer) for part in walkthrough.parts]
        repeated = f"; then the same schedule with {walkthrough.fix}" if walkthrough.fix else ""
        table.add_row(Text(walkthrough.name, style="bold"), Text(walkthrough.title, style="bold"))
        table.add_row("", Text(f"{walkthrough.summary}"))
        table.add_row("", Text(f"{'; '.join(parts)}{repeated}"))
    ending = "racebench demo NAME shows a walkthrough, a strategy, or a schedule that `racebench explore` prints"
    tables.show(console, [table, Text(), Text(ending)])


def ending(frames: tuple[Frame, ...], recording: Recording) -> list[str]:
    """The lines printed after the screen is closed: each part that was shown to its end, and how to run it again."""
    lines = []
    for frame in frames:
        if frame.ended:
            lines += [f"{frame.heading}: {frame.verdict}", f"  {recording.commands[frame.part]}"]
    return lines
