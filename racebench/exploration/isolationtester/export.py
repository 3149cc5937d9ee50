"""Writes a replayed schedule as a spec for PostgreSQL's isolationtester: the same statements, in the same order.

Variables have the values of the replay; what a script decides by them was decided there. Everything happens in a schema
that the setup creates and the teardown drops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from racebench.core.errors import UsageProblem
from racebench.exploration.choices import cuts, place_of
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Replay
from racebench.exploration.schedules import Step

_SCHEMA = "racebench_witness"


def spec(request: ExplorationRequest, replay: Replay) -> str:
    """The text of a spec; raises UsageProblem for what a spec cannot hold: Python, a closing brace in its SQL."""
    if not request.strategy.script.steps or request.scenario.setup:
        raise UsageProblem(f"{request.strategy.name} is Python; a spec holds SQL alone, so it cannot be exported")
    if cuts(replay.schedule.steps):
        raise UsageProblem("a spec cannot cut a connection, so this schedule cannot be exported")
    if request.pooler is not None:
        raise UsageProblem("a spec has no pooler, so a schedule behind one cannot be exported; leave out --export-spec")
    schedule = str(replay.schedule)
    taken = [sent for step in replay.steps for sent in _with_rollbacks(step)]
    markers = _markers(replay.steps)
    names = list(dict.fromkeys(session for session, _ in taken))
    blocks = {session: [text for owner, text in taken if owner == session] for session in names}
    lines = [
        f"# {schedule}",
        f"# {_what(replay)}; written by racebench, for isolationtester.",
        "",
        f"setup {_block(f'CREATE SCHEMA {_SCHEMA}; SET search_path = {_SCHEMA};', schedule)}",
    ]
    files = [*request.scenario.schema, *request.strategy.schema, *(request.consumer.schema if request.consumer else ())]
    lines += [f"setup\n{_block(part.text.strip(), str(part.path), apart=True)}" for part in dict.fromkeys(files)]
    lines += [f"setup {_block(text, 'what is run before')}" for text in replay.prepared]
    lines += [f"teardown {_block(f'RESET search_path; DROP SCHEMA {_SCHEMA} CASCADE;', schedule)}", ""]
    for session in sorted(names, key=place_of):
        settings = [f"SET search_path = {_SCHEMA};"]
        if request.strategy.isolation and place_of(session)[0] <= request.sessions:
            settings.append(f"SET default_transaction_isolation = '{request.strategy.isolation}';")
        if session in _spared(replay.steps):
            settings.append("SET deadlock_timeout = '100s';")
        lines.append(f"session {session}")
        lines.append(f"setup {_block(' '.join(settings), schedule)}")
        for number, text in enumerate(blocks[session], 1):
            lines.append(f"step {_name(session, number)} {_block(text, f'step {number} of {session}')}")
        lines.append("")
    counts = dict.fromkeys(names, 0)
    permutation = []
    for session, _ in taken:
        counts[session] += 1
        name = _name(session, counts[session])
        permutation.append(f"{name}({markers[name]})" if name in markers else name)
    lines.append(f"permutation {' '.join(permutation)}")
    return "\n".join(lines) + "\n"


def _with_rollbacks(step: Step) -> Iterator[tuple[str, str]]:
    """A step, and the ROLLBACK that racebench sends by itself after a refused statement."""
    if step.literal:  # else it only goes on after a wait
        yield step.session, step.literal
    for session, answers in ((step.session, step.answered), *step.went_on):
        if any(answer.startswith("ERROR") for answer in answers):
            yield session, "ROLLBACK;"


def _markers(steps: Sequence[Step]) -> dict[str, str]:
    """After a deadlock two sessions go on at once: by step, the other step to report first, which is the victim's."""
    counts: dict[str, int] = {}
    markers: dict[str, str] = {}
    for step in steps:
        counts[step.session] = counts.get(step.session, 0) + bool(step.literal)
        mine = _name(step.session, counts[step.session])
        others = {name: (_name(name, counts[name]), answers) for name, answers in step.went_on}
        victims = [name for name, answers in others.values() if _deadlocked(answers)]
        if _deadlocked(step.answered):
            markers.update({name: mine for name, _ in others.values()})
        elif victims:
            markers[mine] = victims[0]
        for session, answers in ((step.session, step.answered), *step.went_on):
            counts[session] += any(answer.startswith("ERROR") for answer in answers)  # its ROLLBACK
    return markers


def _deadlocked(answers: Sequence[str]) -> bool:
    return any(answer.startswith("ERROR 40P01") for answer in answers)


def _spared(steps: Sequence[Step]) -> set[str]:
    """The sessions that waited for each other and were not the victim: the others look for the deadlock first."""
    told = [(step.session, step.answered) for step in steps]
    told += [woken for step in steps for woken in step.went_on]
    victims = {session for session, answers in told if _deadlocked(answers)}
    waited = {step.session for step in steps if step.waits_for or any(name in victims for name, _ in step.went_on)}
    return waited - victims if victims else set()


def _what(replay: Replay) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in replay.anomalies.items()) or "nothing goes wrong"


def _name(session: str, number: int) -> str:
    return f"{session}_{number}"


def _block(text: str, where: str, *, apart: bool = False) -> str:
    if "}" in text:
        raise UsageProblem(f"{where} has a '}}' in it, which ends an SQL block in a spec, so it cannot be exported")
    return f"{{\n{text}\n}}" if apart else f"{{ {text} }}"
