"""`demo`: from a telling, a strategy or a schedule to what is shown, and to a file to take along."""

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
from racebench.demo import keys, orders, play, screen, show, tellings
from racebench.demo.exports import FORMATS, text
from racebench.demo.frames import Frame
from racebench.demo.orders import Tell
from racebench.demo.shown import Shown, schedule
from racebench.demo.telling import Part, Programme, Telling, Turn
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
        """Whose turns the fix is played in."""
        last = self.parts[-1] if self.parts else self.asked
        assert last is not None
        return last


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A programme that has been rehearsed on the server it will be shown on."""

    target: Target
    programme: Programme
    shown: Shown


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
    """What a telling, a strategy or a schedule stands for."""
    if name is not None and ":" in name:
        if consumer is not None:
            raise UsageProblem("a schedule has its own consumer; leave --consumer out, or name a strategy")
        return _of_schedule(name, scenario)
    where = catalog.find_scenario(scenario)
    shipped = where.folder.parent.resolve() == catalog.shipped_folder().resolve()
    name = name or (_DEFAULT if _DEFAULT in where.strategies else next(iter(where.strategies)))
    telling = tellings.TELLINGS.get(name) if shipped and name not in where.strategies else None
    if telling is not None and telling.scenario != where.name:
        raise UsageProblem(f"telling '{name}' is of {telling.scenario}; leave --scenario out")
    if telling is not None and consumer is not None:
        raise UsageProblem(f"telling '{name}' has its own consumer; leave --consumer out, or name a strategy")
    if telling is None and consumer is None and shipped:
        telling = tellings.of_strategy(where.name, name)
    if telling is not None:
        return _Wanted(title=telling.title, parts=_of_telling(where, telling), fix=telling.fix)
    if name not in where.strategies:
        if (catalog.shipped_folder() / name / catalog.MANIFEST).is_file() or Path(name, catalog.MANIFEST).is_file():
            raise UsageProblem(f"'{name}' is a scenario: racebench demo [STRATEGY] --scenario {name}")
        known = [*where.strategies, *tellings.TELLINGS]
        raise UsageProblem(f"'{name}' is no telling and no strategy of {where.name}{suggest(name, known)}")
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


def _of_telling(scenario: Scenario, telling: Telling) -> tuple[Part, ...]:
    return tuple(
        Part(
            scenario=scenario,
            strategy=scenario.strategies[act.strategy],
            consumer=scenario.consumers[act.consumer] if act.consumer else None,
            turns=act.turns,
            strict=True,
            heading=orders.heading_of(act.strategy, act.consumer),
            opening=act.opening,
            closing=act.closing,
            claims=act.claims,
            beats=act.beats,
            note=act.note,
        )
        for act in telling.acts
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
        turns=tuple(Turn(session=session) for session in parsed.steps),
        strict=True,
        heading=orders.heading_of(asked.strategy.name, reader),
        opening=f"'{asked.strategy.name}': {asked.strategy.summary}. This is the order that was asked for.",
    )
    return _Wanted(title=asked.scenario.title, parts=(part,), fix=_cure(asked.scenario, asked.strategy))


@contextlib.contextmanager
def ready(made: Demonstration, tell: Tell) -> Iterator[Ready]:
    """Start the server, find what is still to be found, and rehearse it all, unseen.

    Raises UsageProblem if a strategy cannot follow its order.
    """
    with contextlib.ExitStack() as stack:
        tell("starting PostgreSQL", 0.0)
        target = stack.enter_context(made.server.opened(made.sessions + 1 + _EXTRA_CONNECTIONS))
        _check_versions(made, target)
        parts = made.parts
        if made.asked is not None:
            parts = orders.explored(target, made.asked, made.fix, tell)
        elif made.fix is not None:
            parts = (*parts, orders.again(parts[-1], made.fix))
        tell("rehearsing", 0.8)
        programme, frames = play.rehearse(target, Programme(title=made.title, parts=parts))
        schedules = [str(schedule(*each)) for each in zip(programme.parts, frames, strict=True)]
        shown = Shown(
            title=made.title,
            frames=tuple(frame for each in frames for frame in each),
            schedules=tuple(schedules),
            pace=made.pace,
            notes=made.notes,
            scenario=made.scenario,
        )
        yield Ready(target=target, programme=programme, shown=shown)


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
            _write(FORMATS[made.format](prepared.shown), made.output)
        elif on_screen:
            frames = _on_screen(made, prepared, console, auto=auto)
            stack.close()
            for line in ending(frames, prepared.shown):
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
    steps = [prepared.shown.steps(act) for act in range(len(prepared.programme.parts))]
    marks = screen.ASCII if console.options.ascii_only else screen.FANCY
    with show.reel(prepared.target, prepared.programme) as reel:
        with keys.taken(sys.stdin.fileno(), sys.stdout.fileno()) as terminal:
            show.show(
                terminal,
                reel,
                prepared.programme,
                steps,
                made.pace if auto else None,
                marks,
                notes=made.notes,
                colour=not console.no_color,
            )
        return tuple(reel.frames)


def _print(made: Demonstration, prepared: Ready, console: Console) -> None:
    """Play it once more, printing each step as it happens."""
    _line(console, made.title)
    before: Frame | None = None
    for act, part in enumerate(prepared.programme.parts):
        with contextlib.closing(play.play(prepared.target, part, act)) as frames:
            for frame in frames:
                for line in text.block(frame, before, notes=made.notes):
                    _line(console, line)
                before = frame
    _line(console, "")
    for each in prepared.shown.commands:
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
    """Print the tellings."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for telling in tellings.TELLINGS.values():
        acts = [orders.heading_of(act.strategy, act.consumer) for act in telling.acts]
        cure = f"; then the same turns with {telling.fix}" if telling.fix else ""
        table.add_row(Text(telling.name, style="bold"), Text(telling.title, style="bold"))
        table.add_row("", Text(f"{telling.summary}"))
        table.add_row("", Text(f"{'; '.join(acts)}{cure}"))
    console.print(table)
    console.print("\nracebench demo NAME; any strategy too, and any schedule that `racebench explore` prints")


def ending(frames: tuple[Frame, ...], shown: Shown) -> list[str]:
    """What is left to read when the screen is gone: each act that came to its end, and how to run it again."""
    lines = []
    for frame in frames:
        if frame.ended:
            lines += [f"{frame.heading}: {frame.verdict}", f"  {shown.commands[frame.act]}"]
    return lines
