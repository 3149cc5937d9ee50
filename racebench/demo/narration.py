"""Sentences for steps and ends without a caption, derived from what happened, so that they are always true."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from racebench.core.anomalies import ANOMALIES
from racebench.demo.frames import FoundAnomaly, TakenStep

_LOCKS = re.compile(r"\bpg_(try_)?advisory_\w*lock|\bFOR\s+(NO\s+KEY\s+)?(UPDATE|SHARE)\b|^LOCK\b", re.IGNORECASE)
_ROWS = re.compile(r"(?:INSERT 0|UPDATE|DELETE|MERGE) (\d+)")
_REFUSED = re.compile(r"ERROR [0-9A-Z]{5}: ")
_POLLED = re.compile(r"\d+ new(; cursor at |$)")
_WRITES = ("INSERT", "UPDATE", "DELETE", "MERGE")


def summarize_answer(answers: Sequence[str]) -> str:
    """The server's answers without those that say nothing: command tags, and functions that return void."""
    return "; ".join(summary for answer in answers if (summary := _summarize(answer)))


def is_refused(answers: Sequence[str]) -> bool:
    """Whether one of the answers is an error."""
    return any(_REFUSED.match(answer) for answer in answers)


def _summarize(answer: str) -> str:
    if match := _ROWS.fullmatch(answer):
        return f"{match[1]} row{'' if match[1] == '1' else 's'}"
    if _REFUSED.match(answer) or _POLLED.match(answer):
        return answer
    return ", ".join(pair for pair in answer.split(", ") if " = " in pair and not pair.endswith(" = "))


def narrate_step(step: TakenStep, names: Mapping[int, str]) -> str:
    """A step as a sentence; `names` has each session's name, capitalized."""
    sentence = _narrate(step, names[step.session], names)
    for resumed in step.resumed:
        name = names[resumed.session]
        if resumed.refused:
            sentence += f" {name} goes on, and the server refuses it: {_error(resumed.answer)}."
        else:
            sentence += f" {name} goes on{f': {resumed.answer}' if resumed.answer else ''}."
    return sentence


def _narrate(step: TakenStep, name: str, names: Mapping[int, str]) -> str:
    keyword = (step.sent.split() or [""])[0].upper()
    if step.waits_for:
        by_short_name = {f"s{session}": lower_first(long) for session, long in names.items()}
        return f"{name} has to wait for {' and '.join(by_short_name.get(short, short) for short in step.waits_for)}."
    if step.refused:
        return f"The server refuses {lower_first(name)}: {_error(step.answer)}."
    if _POLLED.match(step.answer):
        return f"{name} polls: {step.answer.replace('; cursor at', '; its cursor is at')}."
    if keyword in ("BEGIN", "START"):
        return f"{name} begins a transaction."
    if keyword in ("COMMIT", "END"):
        return f"{name} commits."
    if keyword in _WRITES:
        result = step.answer or "done"
        return f"{name} sends its {keyword}: {result}. No other session sees that before the commit."
    if _LOCKS.search(step.sent):
        return f"{name} requests a lock and gets it{f': {step.answer}' if step.answer else ''}."
    return f"{name} sends its {keyword}{f': {step.answer}' if step.answer else ''}."


def _error(answer: str) -> str:
    """The error alone, without the answers after it."""
    return next(part for part in answer.split("; ") if _REFUSED.match(part))


def lower_first(name: str) -> str:
    """A name as it is written inside a sentence."""
    return name[0].lower() + name[1:]


def narrate_end(anomalies: Sequence[FoundAnomaly], waited: Sequence[str], retried: Sequence[str], *, late: int) -> str:
    """The result of a part: its anomalies, else the sessions that waited or were refused and tried again.

    `late`: how many rows the consumer was given after the last step.
    """
    polled = f"The consumer polls once more and is given {late} row{'' if late == 1 else 's'}. " if late else ""
    if anomalies:
        return polled + " ".join(f"{anomaly.description[0].upper()}{anomaly.description[1:]}." for anomaly in anomalies)
    price = [f"{' and '.join(map(lower_first, waited))} had to wait"] if waited else []
    price += [f"{' and '.join(map(lower_first, retried))} was refused and tried again"] if retried else []
    if price:
        return f"{polled}No anomaly. The price: {', and '.join(price)}."
    return f"{polled}No anomaly, and no session had to wait."


def anomaly(kind: str, count: int, details: Sequence[str]) -> FoundAnomaly:
    """An anomaly, with the affected rows or sessions where they are known."""
    description = "; ".join(details) if details else f"{count} {ANOMALIES[kind].description}"
    return FoundAnomaly(kind=kind, count=count, description=description)
