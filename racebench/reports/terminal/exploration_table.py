"""Explorations, as a table, sentences and lanes, and as JSON (docs/explore.md)."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from racebench.core.anomalies import ANOMALIES
from racebench.core.results import Verdict
from racebench.exploration.explorer import Explored, Replayed
from racebench.exploration.request import ExplorationRequest
from racebench.reports.results import explorations
from racebench.reports.sentences import counted
from racebench.reports.terminal import lanes
from racebench.reports.terminal.tables import amount, blank_table, verdict_text

_SPOKEN = 4  # explorations that get a sentence each; of more, only those that surprise
_SHOWN = 3  # witnesses on a terminal
_OUTCOMES = 8  # of one exploration on a terminal; the JSON has all


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What an exploration found, its witness step by step, and whether that is what is known of the strategy."""

    found: Explored
    witness: Replayed | None
    expected: tuple[str, ...]
    as_expected: bool | None


def document(
    results: Sequence[Reported], environment: Mapping[str, Any], created: str, *, complete: bool
) -> explorations.Explorations:
    """Explorations as they are saved, and as the other reports take them."""
    return explorations.Explorations(
        environment=environment,
        created=created,
        explorations=tuple(explorations.exploration(_published(result)) for result in results),
        complete=complete,
    )


def _published(result: Reported) -> dict[str, Any]:
    found, asked = result.found, result.found.asked
    return {
        "scenario": asked.scenario.name,
        "strategy": asked.strategy.name,
        "summary": asked.strategy.summary,
        "consumer": asked.consumer.name if asked.consumer else None,
        "sessions": asked.sessions,
        "polls": asked.polls if asked.consumer else 0,
        "reduced": asked.reduce,
        "seed": asked.seed,
        "verdict": found.verdict.value,
        "expected": list(result.expected),
        "as_expected": result.as_expected,
        "forbidden": list(asked.scenario.forbid),
        **({"calls": _calls(asked)} if asked.strategy.calls else {}),
        "counts": {kind: found.counts[kind] for kind in ANOMALIES},
        "explored": {
            "feasible": found.run if found.complete and not asked.reduce else None,
            "run": found.run,
            "pruned": found.pruned,
            "drawn": found.drawn,
            "depth": asked.depth,
            "chance": found.chance,
            "anomalous": found.anomalous,
            "raced": found.raced,
            "triggers": list(found.triggers),
            "swallowed": dict(sorted(found.swallowed.items())),
            "complete": found.complete,
            "seconds": found.seconds,
            "schedules_per_s": found.run / found.seconds if found.seconds else 0.0,
        },
        "outcomes": [_outcome(signature, times) for signature, times in found.outcomes.most_common()],
        "witness": None if found.schedule is None else _witness(result),
    }


def _outcome(signature: tuple[Any, ...], times: int) -> dict[str, Any]:
    sessions, wrong = signature
    names = ("outcome", "sqlstate", "rank", "tries")
    return {
        "schedules": times,
        "sessions": [dict(zip(names, session, strict=True)) for session in sessions],
        "anomalies": dict(wrong),
    }


def _witness(result: Reported) -> dict[str, Any]:
    return {
        "schedule": str(result.found.schedule),
        "replay": _replay(result.found.asked, str(result.found.schedule)),
        "anomalies": dict(result.witness.wrong) if result.witness else {},
        "broken": list(result.witness.broken) if result.witness else [],
        "steps": [
            {
                "session": step.session,
                "sent": step.sent,
                "where": step.where,
                "answered": list(step.answered),
                "waits_for": list(step.waits_for),
                "went_on": [{"session": name, "answered": list(answered)} for name, answered in step.went_on],
            }
            for step in (result.witness.steps if result.witness else ())
        ],
    }


def show(console: Console, results: Sequence[Reported], environment: Mapping[str, Any]) -> None:
    """Print what was found, what it means, and the shortest witnesses."""
    for part in render(results, environment, ascii_only=console.options.ascii_only):
        _print(console, part)


def render(
    results: Sequence[Reported], environment: Mapping[str, Any], *, ascii_only: bool = False
) -> Iterator[RenderableType]:
    """Yield the parts of the report, top to bottom."""
    if not results:
        return
    yield Text(_headline(results[0].found.asked, environment), style="dim")
    kinds = [kind for kind in ANOMALIES if any(result.found.counts[kind] for result in results)]
    heads = {"duplicates": "dupli-\ncates", "violations": "viola-\ntions", "redelivered": "again"}
    middle = ("orders\nrun", "pruned", "wrong", *(heads.get(kind, kind) for kind in kinds), "per s")
    made = blank_table(("strategy",), middle, ("verdict",), ascii_only=ascii_only)
    for result in results:
        found = result.found
        made.add_row(
            found.asked.strategy.name,
            amount(found.run),
            amount(found.pruned),
            amount(found.anomalous, bad=True),
            *(amount(found.counts[kind], bad=kind in found.asked.scenario.forbid) for kind in kinds),
            f"{found.run / found.seconds:,.0f}" if found.seconds else "–",
            verdict_text(found.verdict),
        )
    yield made
    spoken = [result for result in results if len(results) <= _SPOKEN or not result.as_expected]
    if len(spoken) < len(results):
        yield Text(f"{len(results) - len(spoken)} of {len(results)} are as expected.")
    for result in spoken:
        yield Text(_sentence(result))
        for code, times in sorted(result.found.swallowed.items()):
            orders = "order" if times == 1 else "orders"
            said = f"In {times:,} {orders} a call returned although its last statement was refused ({code})"
            yield Text(f"{said}: is that meant?")
        yield from _outcomes(result, ascii_only=ascii_only)
    shown = 0
    for result in results:
        if result.witness is not None and shown < _SHOWN:
            shown += 1
            yield from _shown(result.found.asked, result.witness, str(result.found.schedule), ascii_only=ascii_only)


def _outcomes(result: Reported, *, ascii_only: bool) -> Iterator[RenderableType]:
    """What orders came to, those that came to the same together, the commonest first."""
    found = result.found.outcomes.most_common()
    numbered = result.found.asked.scenario.rows is not None
    made = blank_table(("sessions came to",), ("orders",), ("anomalies",), ascii_only=ascii_only)
    sign = "x" if ascii_only else "×"
    for signature, times in found[:_OUTCOMES]:
        sessions, wrong = signature
        came = Counter(_came_to(session, numbered=numbered) for session in sessions)
        made.add_row(
            ", ".join(f"{often} {sign} {each}" if often > 1 else each for each, often in came.items()),
            amount(times),
            ", ".join(counted(kind, count) for kind, count in wrong) or "none",
        )
    yield Text()
    yield made
    if (left := len(found) - _OUTCOMES) > 0:
        yield Text(f"and {left:,} more, which the JSON has", style="dim")


def _came_to(session: tuple[Any, ...], *, numbered: bool) -> str:
    """What became of a session: of versions their rank counts, for which number it is depends on those before."""
    outcome, sqlstate, rank, tries = session
    what = {"OK": "committed", "FAIL": "refused", "UNKNOWN": "unknown"}.get(outcome, str(outcome).lower())
    if outcome == "OK" and numbered and rank:
        what = f"version {rank}"
    more = [str(sqlstate)] if sqlstate else []
    more += [f"at try {tries}"] if tries > 1 else []
    return " ".join([what, *more])


def markdown(results: Sequence[Reported]) -> str:
    """The verdicts as a Markdown table."""
    return explorations.markdown([explorations.exploration(_published(result)) for result in results])


def show_replay(console: Console, asked: ExplorationRequest, replayed: Replayed, schedule: str) -> None:
    """Print a replay and what came of it."""
    for part in _shown(asked, replayed, schedule, ascii_only=console.options.ascii_only):
        _print(console, part)


def _print(console: Console, part: RenderableType) -> None:
    """Print a part; a command is one line, however long: it is there to be copied."""
    console.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))


def _shown(
    asked: ExplorationRequest, replayed: Replayed, schedule: str, *, ascii_only: bool
) -> Iterator[RenderableType]:
    wrong = ", ".join(counted(kind, count) for kind, count in replayed.wrong.items()) or "nothing wrong"
    consumer = f" (s{asked.sessions + 1} is consumer '{asked.consumer.name}')" if asked.consumer else ""
    yield Text()
    called = [f"{session} {name}" for session, name in _calls(asked).items()]
    who = f" ({', '.join(called)})" if len({*asked.strategy.calls}) > 1 else ""
    yield Text(f"{asked.strategy.name}{who}{consumer}: {wrong}", style="bold")
    yield lanes.draw(replayed.steps, ascii_only=ascii_only)
    for said in replayed.broken:
        yield Text(f"  {said}", style="red")
    if (command := _replay(asked, schedule)) is not None:
        yield Text(f"  {command}", style="dim", no_wrap=True)


def _calls(asked: ExplorationRequest) -> dict[str, str]:
    """Which of several calls each session runs."""
    made = asked.strategy.calls
    return {f"s{number}": str(made[(number - 1) % len(made)]) for number in range(1, asked.sessions + 1) if made}


def _replay(asked: ExplorationRequest, schedule: str) -> str | None:
    """The command that runs a schedule again; None for code that no command line can name."""
    if asked.scenario.options is None:
        return None
    return " ".join(["racebench replay", f"'{schedule}'", *map(shlex.quote, asked.scenario.options)])


def _headline(asked: ExplorationRequest, environment: Mapping[str, Any]) -> str:
    reader = f" and consumer '{asked.consumer.name}' polling {asked.polls} times" if asked.consumer else ""
    reduced = "" if asked.reduce else " · every order, without reduction"
    server = environment.get("server_version", "?")
    return (
        f"{asked.scenario.name} on PostgreSQL {server} ({environment.get('target', '?')}) · "
        f"{asked.sessions} sessions{reader}{reduced}"
    )


def _unseen(found: Explored) -> str:
    """What no order of statements shows, as the begin of a clause."""
    consumer = found.asked.consumer
    if found.held and consumer is not None:
        return f"consumer '{consumer.name}' holds rows back for a time, and what happens meanwhile"
    if found.timed:
        return "the script has a time-out of its own, and what comes of that"
    return "its race is inside one statement, which"


def _sentence(result: Reported) -> str:
    found = result.found
    name, verdict = found.asked.strategy.name, found.verdict.value
    known = ", as expected" if result.as_expected else ", NOT as expected"
    if found.verdict is Verdict.UNKNOWN or result.as_expected is None:
        known = ""
    if found.verdict is Verdict.VALID:
        inside = ""
        if found.triggers:
            inside = f" (A step is a statement; what trigger {', '.join(found.triggers)} does is inside one.)"
        orders = "orders that matter" if found.asked.reduce else "feasible orders"
        return f"{name} is {verdict}{known}: all {found.run:,} {orders} were run, nothing went wrong.{inside}"
    if found.complete and found.blind and not found.anomalous:
        where = _unseen(found)
        return (
            f"{name} is {verdict}: no order of its {found.run:,} goes wrong, but {where} no order of statements shows. "
            "Hammer it with `racebench run`."
        )
    if found.verdict is Verdict.INVALID:
        rest = "" if found.complete else "; the search did not come to its end"
        orders = "orders" if found.asked.reduce or not found.complete else "feasible orders"
        return f"{name} is {verdict}{known}: {found.anomalous:,} of {found.run:,} {orders} go wrong{rest}."
    drawn = ""
    if found.drawn and found.chance is not None:
        drawn = (
            f" {found.drawn:,} of them at random, which meet a bug of depth {found.asked.depth} with a chance of "
            f"at least {100 * found.chance:.2g}%;"
        )
    return (
        f"{name} is {verdict}: {found.run:,} orders were run,{drawn} nothing went wrong, and there are more. "
        "Raise --budget."
    )
