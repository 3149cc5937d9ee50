"""Schedules for the demo: the same schedule for another script, and schedules in which sessions overlap."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from racebench.demo.frames import Frame, clean
from racebench.demo.presentation import TO_THE_END, Part, ScheduleEntry
from racebench.exploration.choices import cut_of, session_of
from racebench.exploration.steps import describe


def entries(steps: Sequence[int]) -> tuple[ScheduleEntry, ...]:
    """The schedule of an exploration, step by step."""
    return tuple(ScheduleEntry(session=session_of(number), cut=cut_of(number)) for number in steps)


def transfer(frames: Sequence[Frame], part: Part) -> tuple[ScheduleEntry, ...]:
    """The schedule of played frames, for the part's script: each session goes as far as it went, matched by statement.

    Polls are left out if the part has no consumer.
    """
    consumer = part.sessions + 1
    steps = [(frame, frame.step) for frame in frames if frame.step is not None]
    last_frames = {step.session: frame for frame, step in steps}
    new = [clean(describe([statement])) for statement in part.strategy.script.statements]
    transferred = []
    for _, step in steps:
        if step.session == consumer:
            if part.consumer is not None:
                transferred.append(ScheduleEntry(session=consumer))
            continue
        old = [line.text for line in last_frames[step.session].lanes[step.session - 1].lines]
        until = matching_statements(old, new)[step.line]
        transferred.append(ScheduleEntry(session=step.session, until=until, cut=step.cut))
    return tuple(transferred)


def matching_statements(old: Sequence[str], new: Sequence[str]) -> list[int]:
    """For each statement of `old`, the index of the statement of `new` with the same progress, or −1 for none.

    Statements match by their first word. A statement without a match has the index of the statement before it.
    """
    old_words = [text.split()[0].upper() for text in old]
    new_words = [text.split()[0].upper() for text in new]
    # The explorer runs a script without BEGIN inside BEGIN and COMMIT.
    if "BEGIN" in old_words and "BEGIN" not in new_words:
        new_words = ["BEGIN", *new_words, "COMMIT"]
    matches: dict[int, int] = {}
    for block in difflib.SequenceMatcher(a=old_words, b=new_words, autojunk=False).get_matching_blocks():
        matches |= {block.a + offset: block.b + offset for offset in range(block.size)}
    indexes, last = [], -1
    for index in range(len(old)):
        last = matches.get(index, last)
        indexes.append(last)
    return indexes


def overlapping(sessions: int, lines: int, consumer: bool) -> Iterator[tuple[ScheduleEntry, ...]]:
    """Schedules in which the second session runs while the first is inside its script.

    The first schedule stops session 1 as late as possible; each further one stops it a statement earlier.
    """
    poll = [ScheduleEntry(session=sessions + 1)] if consumer else []
    for until in range(max(lines - 2, 0), -1, -1):
        yield (
            ScheduleEntry(session=1, until=until),
            ScheduleEntry(session=2, until=TO_THE_END),
            ScheduleEntry(session=1, until=TO_THE_END),
            *poll,
            *(ScheduleEntry(session=session, until=TO_THE_END) for session in range(2, sessions + 1)),
            *poll,
        )
