"""A script as an exploration runs it: what the server would wrap in a transaction of its own is written as one.

An autocommitted INSERT is BEGIN, INSERT, COMMIT to the server; explored as one step it would hide the race between its
number and its commit. A plain read is left alone: nothing of it outlives it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from racebench.compiling import begins, ends
from racebench.exploration.footprints import Footprint, footprint
from racebench.model import Branch, Jump, Pipeline, Script, Statement, Step


def in_transactions(script: Script, volatile: Collection[str] = ()) -> Script:
    """Put BEGIN and COMMIT around each statement that has no transaction, but for plain reads and pipelines."""
    made: list[Step] = []
    moved: list[int] = []  # where each step of the script went
    opened = piped = False
    for step in script.steps:
        moved.append(len(made))
        if isinstance(step, Pipeline):
            piped = step.start
        if not isinstance(step, Statement) or piped:
            made.append(step)
            continue
        alone = not opened and not begins(step) and not ends(step)
        if begins(step) or ends(step):
            opened = begins(step)
        if alone and footprint([step], isolation=None, volatile=volatile) is not Footprint.READ:
            made += [_word("BEGIN", step), step, _word("COMMIT", step)]
        else:
            made.append(step)
    moved.append(len(made))
    steps = tuple(
        replace(step, otherwise=moved[step.otherwise])
        if isinstance(step, Branch)
        else replace(step, to=moved[step.to])
        if isinstance(step, Jump)
        else step
        for step in made
    )
    return replace(script, steps=steps)


def _word(word: str, step: Statement) -> Statement:
    return Statement(line=step.line, text=word, sql=word, parameters=(), fragments=(word,))
