"""Sentences for steps and ends without a caption, derived from what happened, so that they are always true."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from racebench.core.anomalies import ANOMALIES
from racebench.core.model import first_word
from racebench.demo.frames import Effect, FoundAnomaly, TakenStep
from racebench.exploration.choices import Cut
from racebench.exploration.steps import CUT_ANSWERS, GOES_ON

_LOCKS = re.compile(r"\bpg_advisory_(xact_)?lock", re.IGNORECASE)
_TRIES = re.compile(r"\bpg_try_advisory_", re.IGNORECASE)
_UNLOCKS = re.compile(r"\bpg_advisory_unlock", re.IGNORECASE)
#: At the end of the statement: a subquery may lock other rows than those that are returned.
_LOCKS_ROWS = re.compile(
    r"\bFOR\s+(NO\s+KEY\s+UPDATE|UPDATE|SHARE|KEY\s+SHARE)(\s+OF\s+[\w, ]+)?(\s+NOWAIT|\s+SKIP\s+LOCKED)?\s*;?\s*$",
    re.IGNORECASE,
)
_LEVEL = re.compile(r"\bISOLATION\s+LEVEL\s+(SERIALIZABLE|REPEATABLE\s+READ|READ\s+\w+)", re.IGNORECASE)
_TO_SAVEPOINT = re.compile(r"\s*ROLLBACK\s+(WORK\s+|TRANSACTION\s+)?TO\b", re.IGNORECASE)
_UPSERTS = re.compile(r"\bON\s+CONFLICT\b.*\bDO\s+UPDATE\b", re.IGNORECASE | re.DOTALL)
_COUNTED = re.compile(r"(?:INSERT 0|UPDATE|DELETE|MERGE|SELECT|FETCH|COPY) (\d+)")
_SEVERAL = re.compile(r" \((\d+) rows\)$")
_ROWS = re.compile(r"(?:INSERT 0|UPDATE|DELETE|MERGE) (\d+)")
_REFUSED = re.compile(r"ERROR [0-9A-Z]{5}: ")
_POLLED = re.compile(r"\d+ new(; cursor at |$)")
#: What a statement does, as it is said of no row, and of some rows.
_WRITES = {
    "INSERT": ("adds", "inserts"),
    "UPDATE": ("changes", "updates"),
    "DELETE": ("removes", "deletes"),
    "MERGE": ("changes", "merges"),
}


def summarize_answer(answers: Sequence[str]) -> str:
    """The server's answers without those that say nothing: command tags, and functions that return void."""
    return "; ".join(summary for answer in answers if (summary := _summarize(answer)))


def is_refused(answers: Sequence[str]) -> bool:
    """Whether one of the answers is an error."""
    return any(_REFUSED.match(answer) for answer in answers)


def _summarize(answer: str) -> str:
    if answer in CUT_ANSWERS.values():
        return "connection cut"
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
    if step.waits_for:
        by_short_name = {f"s{session}": lower_first(long) for session, long in names.items()}
        return f"{name} has to wait for {' and '.join(by_short_name.get(short, short) for short in step.waits_for)}."
    if step.cut is Cut.BEFORE:
        return f"{name} loses its connection before the server gets its {first_word(step.sent)}."
    if step.cut is Cut.AFTER:
        return f"The server carries out the {first_word(step.sent)} of {lower_first(name)}, and the answer is lost."
    if step.refused:
        return f"The server refuses {lower_first(name)}: {_error(step.answer)}."
    if _POLLED.match(step.answer):
        return f"{name} polls: {step.answer.replace('; cursor at', '; its cursor is at')}."
    if step.sent == GOES_ON:
        return f"{name} goes on{f': {step.answer}' if step.answer else ''}."
    if len(step.effects) > 1:
        return f"{name} sends {len(step.effects)} statements at once{f': {step.answer}' if step.answer else ''}."
    effect = step.effects[0] if step.effects else Effect(sql=step.sent, values=step.answer)
    keyword = first_word(effect.sql)
    if keyword in _WRITES:
        return f"{name} {_wrote(keyword, effect)}{_seen_by(step, effect)}"
    return f"{name} {_did(keyword, effect, step)}."


def _wrote(keyword: str, effect: Effect) -> str:
    """What an INSERT, UPDATE, DELETE or MERGE changed."""
    does, did = _WRITES[keyword]
    if _UPSERTS.search(effect.sql):
        does, did = "writes", "inserts or updates"
    if effect.rows == 0:
        return f"sends its {keyword}, which {does} no row."
    if effect.rows is None:
        return f"sends its {keyword}."
    got = f" and gets {effect.values}" if effect.values else ""
    return f"{did} {_rows(effect.rows)}{got}."


def _seen_by(step: TakenStep, effect: Effect) -> str:
    """Which sessions see what a statement changed; "" if it changed nothing, or that is not known."""
    if not effect.rows:
        return ""
    if step.in_transaction:
        return " No other session sees that before the commit."
    return " It is committed at once: there is no transaction around it."


def _did(keyword: str, effect: Effect, step: TakenStep) -> str:
    """What a statement did that is no INSERT, UPDATE, DELETE or MERGE, as a predicate."""
    got = f" and gets {effect.values}" if effect.values else ""
    if keyword in ("BEGIN", "START"):
        level = _LEVEL.search(effect.sql)
        isolation = " ".join((level[1] if level else step.isolation).upper().split())
        return f"begins a transaction{f' at isolation level {isolation}' if isolation else ''}"
    if keyword in ("COMMIT", "END"):
        return "sends its COMMIT, but its transaction had failed: it is rolled back" if step.rolled_back else "commits"
    if keyword in ("ROLLBACK", "ABORT"):
        return "rolls back to a savepoint" if _TO_SAVEPOINT.match(effect.sql) else "rolls back"
    if keyword == "LOCK":
        return "locks the table"
    if keyword == "SELECT" and _UNLOCKS.search(effect.sql):
        return f"releases an advisory lock{got}"
    if keyword == "SELECT" and _TRIES.search(effect.sql):
        return f"asks for an advisory lock without waiting{got}"
    if keyword == "SELECT" and _LOCKS.search(effect.sql):
        return f"requests an advisory lock and gets it{f': {effect.values}' if effect.values else ''}"
    if keyword == "SELECT" and _LOCKS_ROWS.search(effect.sql):
        if effect.rows == 0:
            return "finds no row to lock"
        return f"locks {'the row' if effect.rows == 1 else _rows(effect.rows or 0)} that it reads{got}"
    sent = {"WITH": "query"}.get(keyword, keyword)
    return f"sends its {sent} and gets no row" if effect.rows == 0 else f"sends its {sent}{got}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def effect_of(sql: str, answer: str) -> Effect:
    """What a statement did, from the server's answer to it: its command tag, or the values of its last row."""
    if " = " in answer:
        several = _SEVERAL.search(answer)
        return Effect(sql=sql, rows=int(several[1]) if several else 1, values=_summarize(answer))
    counted = _COUNTED.fullmatch(answer)
    return Effect(sql=sql, rows=int(counted[1]) if counted else None)


def _error(answer: str) -> str:
    """The error alone, without the answers after it."""
    return next(part for part in answer.split("; ") if _REFUSED.match(part))


def lower_first(name: str) -> str:
    """A name as it is written inside a sentence."""
    return name[0].lower() + name[1:]


def narrate_end(
    anomalies: Sequence[FoundAnomaly],
    *,
    waited: Sequence[str],
    retried: Sequence[str],
    refused: Sequence[str],
    late: int,
    cut: Sequence[str] = (),
) -> str:
    """The result of a part: its anomalies, else the sessions that waited, or were refused, once and for all or not.

    `cut`: those that lost their connection, and are in none of the others. `late`: how many rows the consumer was
    given after the last step.
    """
    polled = f"The consumer polls once more and is given {_rows(late)}. " if late else ""
    if anomalies:
        return polled + " ".join(f"{anomaly.description[0].upper()}{anomaly.description[1:]}." for anomaly in anomalies)
    price = [f"{_names(waited)} had to wait"] if waited else []
    price += [f"{_names(retried)} {_was(retried)} refused and tried again"] if retried else []
    price += [f"{_names(refused)} {_was(refused)} refused"] if refused else []
    price += [f"{_names(cut)} lost {'its connection' if len(cut) == 1 else 'their connections'}"] if cut else []
    if price:
        return f"{polled}No anomaly. The price: {', and '.join(price)}."
    return f"{polled}No anomaly, and no session had to wait."


def _names(names: Sequence[str]) -> str:
    return " and ".join(map(lower_first, names))


def _was(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def anomaly(kind: str, count: int, details: Sequence[str]) -> FoundAnomaly:
    """An anomaly, with the affected rows or sessions where they are known."""
    description = "; ".join(details) if details else f"{count} {ANOMALIES[kind].description}"
    return FoundAnomaly(kind=kind, count=count, description=description)
