"""What is said of a step or an end that no telling speaks of: derived from what happened, so that it is always true."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from racebench.core.anomalies import ANOMALIES
from racebench.demo.frames import Loss, Taken

_LOCKS = re.compile(r"\bpg_(try_)?advisory_\w*lock|\bFOR\s+(NO\s+KEY\s+)?(UPDATE|SHARE)\b|^LOCK\b", re.IGNORECASE)
_ROWS = re.compile(r"(?:INSERT 0|UPDATE|DELETE|MERGE) (\d+)")
_REFUSED = re.compile(r"ERROR [0-9A-Z]{5}: ")
_POLLED = re.compile(r"\d+ new(; cursor at |$)")
_WRITES = ("INSERT", "UPDATE", "DELETE", "MERGE")


def answer(answered: Sequence[str]) -> str:
    """What the server answered, without what says nothing: command tags, and functions that return void."""
    return "; ".join(said for each in answered if (said := _plain(each)))


def refused(answered: Sequence[str]) -> bool:
    """Whether one of the answers is an error."""
    return any(_REFUSED.match(each) for each in answered)


def _plain(said: str) -> str:
    if match := _ROWS.fullmatch(said):
        return f"{match[1]} row{'' if match[1] == '1' else 's'}"
    if _REFUSED.match(said) or _POLLED.match(said):
        return said
    return ", ".join(pair for pair in said.split(", ") if " = " in pair and not pair.endswith(" = "))


def narrate(taken: Taken, who: Mapping[int, str]) -> str:
    """A step as a sentence; `who` names the sessions as a sentence begins."""
    said = _step(taken, who[taken.session], who)
    for each in taken.went_on:
        if each.refused:
            said += f" {who[each.session]} goes on, and the server refuses it: {_error(each.answer)}."
        else:
            said += f" {who[each.session]} goes on{f': {each.answer}' if each.answer else ''}."
    return said


def _step(taken: Taken, name: str, who: Mapping[int, str]) -> str:
    word = (taken.sent.split() or [""])[0].upper()
    if taken.waits_for:
        blockers = [
            next((middle(long) for n, long in who.items() if f"s{n}" == each), each) for each in taken.waits_for
        ]
        return f"{name} has to wait for {' and '.join(blockers)}."
    if taken.refused:
        return f"The server refuses {middle(name)}: {_error(taken.answer)}."
    if _POLLED.match(taken.answer):
        return f"{name} polls: {taken.answer.replace('; cursor at', '; its cursor is at')}."
    if word in ("BEGIN", "START"):
        return f"{name} begins a transaction."
    if word in ("COMMIT", "END"):
        return f"{name} commits."
    if word in _WRITES:
        return f"{name} sends its {word}: {taken.answer or 'done'}. Nobody else sees that before it commits."
    if _LOCKS.search(taken.sent):
        return f"{name} asks for a lock and gets it{f': {taken.answer}' if taken.answer else ''}."
    return f"{name} sends its {word}{f': {taken.answer}' if taken.answer else ''}."


def _error(said: str) -> str:
    """The error without what followed it."""
    return next(part for part in said.split("; ") if _REFUSED.match(part))


def middle(name: str) -> str:
    """As in the middle of a sentence."""
    return name[0].lower() + name[1:]


def closing(losses: Sequence[Loss], waited: Sequence[str], again: Sequence[str], *, late: int) -> str:
    """What came of it all: who had to wait, who was refused and tried again, how many rows came after the last turn."""
    said = f"The consumer polls once more and is given {late} row{'' if late == 1 else 's'}. " if late else ""
    if losses:
        return said + " ".join(f"{loss.words[0].upper()}{loss.words[1:]}." for loss in losses)
    price = [f"{' and '.join(map(middle, waited))} had to wait"] if waited else []
    price += [f"{' and '.join(map(middle, again))} was refused and tried again"] if again else []
    if price:
        return f"{said}Nothing is lost. The price: {', and '.join(price)}."
    return f"{said}Nothing is lost, and nobody had to wait."


def loss(kind: str, count: int, details: Sequence[str]) -> Loss:
    """Something that went wrong, with the rows or sessions it happened to where they are known."""
    words = "; ".join(details) if details else f"{count} {ANOMALIES[kind].description}"
    return Loss(kind=kind, count=count, words=words)
