"""Makes a program smaller while something about it stays true: fewer sessions, statements, features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from benchmarks.fuzz.program import OUTSIDE, Batch, Branch, Code, Many, Program, Savepoint, Sql, Step, Unit


def minimise(program: Program, wanted: Callable[[Program], bool], *, seconds: float) -> Program:
    """The smallest program that is found in some seconds; each step of the way has what is `wanted`."""
    deadline = time.monotonic() + seconds
    tried: set[Program] = {program}
    while True:
        for smaller in smaller_programs(program):
            if time.monotonic() > deadline:
                return program
            if smaller not in tried and wanted(smaller):
                program = smaller
                break
            tried.add(smaller)
        else:
            return program


def smaller_programs(program: Program) -> Iterator[Program]:
    """The programs that are one step smaller, those that lack most first."""
    sessions = program.sessions
    for place in range(len(sessions)):
        if len(sessions) > 2:
            yield _renumbered(replace(program, sessions=sessions[:place] + sessions[place + 1 :]))
    for place in reversed(range(len(program.setup))):
        yield replace(program, setup=program.setup[:place] + program.setup[place + 1 :])
    for place, code in enumerate(program.codes):
        for smaller in _codes(code):
            yield replace(program, codes=(*program.codes[:place], smaller, *program.codes[place + 1 :]))
    for place in range(len(program.invariants)):
        yield replace(program, invariants=program.invariants[:place] + program.invariants[place + 1 :])


def _renumbered(program: Program) -> Program:
    """Without the codes that no session has."""
    used = sorted(set(program.sessions))
    return replace(
        program,
        codes=tuple(program.codes[place] for place in used),
        sessions=tuple(used.index(place) for place in program.sessions),
    )


def _codes(code: Code) -> Iterator[Code]:
    for place in range(len(code.units)):
        if len(code.units) > 1:
            yield replace(code, units=code.units[:place] + code.units[place + 1 :])
    if code.tries > 1:
        yield replace(code, tries=1)
    if code.unlock:
        yield replace(code, unlock=False)
    for place, unit in enumerate(code.units):
        for smaller in _units(unit, implicit=code.implicit):
            yield replace(code, units=(*code.units[:place], smaller, *code.units[place + 1 :]))


def _units(unit: Unit, *, implicit: bool) -> Iterator[Unit]:
    for steps in _lists(unit.steps):
        if steps:
            yield replace(unit, steps=steps)
    if unit.level:
        yield replace(unit, level="")
    if not unit.commit:
        yield replace(unit, commit=True)
    may_be_alone = all(isinstance(step, Sql) and step.text.split()[0] in OUTSIDE for step in unit.steps)
    if unit.transaction and not implicit and may_be_alone:
        yield replace(unit, transaction=False, level="", commit=True)


def _lists(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    """The lists that lack a step, or have a smaller one."""
    for place in range(len(steps)):
        yield steps[:place] + steps[place + 1 :]
    for place, step in enumerate(steps):
        for instead in _instead(step):
            yield (*steps[:place], *instead, *steps[place + 1 :])


def _instead(step: Step) -> Iterator[tuple[Step, ...]]:
    if isinstance(step, Branch):
        yield step.then
        yield step.otherwise
        yield from ((replace(step, then=then),) for then in _lists(step.then))
        yield from ((replace(step, otherwise=otherwise),) for otherwise in _lists(step.otherwise))
    elif isinstance(step, Savepoint):
        yield step.steps
        yield from ((replace(step, steps=steps),) for steps in _lists(step.steps) if steps)
    elif isinstance(step, Many):
        yield from ((Sql(text=step.text.replace("%s", str(value))),) for value in step.values)
    elif isinstance(step, Batch):
        yield from ((Sql(text=text),) for text in step.texts)
