"""What reports say of an exploration: its sentence, the heading of a witness, and a Markdown table of several.

Words only: every figure is the result's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from racebench.core.results import Verdict
from racebench.exploration.result import Exploration, Replay, Unseen
from racebench.reports import escape
from racebench.reports.sentences import counted


def sentence(exploration: Exploration) -> str:
    """What was found, without what is known of the strategy."""
    run = f"{exploration.run:,}"
    if exploration.leftovers:
        wrong = f"{exploration.anomalous:,} of {run}" if exploration.anomalous else f"None of its {run}"
        more = f" (and {len(exploration.leftovers) - 1} more)" if len(exploration.leftovers) > 1 else ""
        goes = "go" if exploration.anomalous else "goes"
        return (
            f"{wrong} {_schedules(exploration)} {goes} wrong, but the schedules did not begin in the same state: "
            f"{exploration.leftovers[0]}{more}."
        )
    if exploration.verdict is Verdict.INVALID and not exploration.anomalous:
        return (
            f"None of its {run} schedules of statements goes wrong, but {_bursts(exploration)} does, in which sessions "
            "send their statements at once: the race is inside a statement."
        )
    if exploration.verdict is Verdict.INVALID:
        rest = "" if exploration.complete else "; the search was not finished"
        rest += f": {exploration.fault}" if exploration.fault else ""
        return f"{exploration.anomalous:,} of {run} {_schedules(exploration)} go wrong{rest}."
    if exploration.verdict is Verdict.VALID:
        every = "schedules that matter" if exploration.reduced else "feasible schedules"
        return f"All {run} {every} were run{_draws(exploration)}, nothing went wrong.{_inside(exploration)}"
    if exploration.fault:
        return f"{run} schedules were run, nothing went wrong; then a fault ended the search: {exploration.fault}."
    if exploration.complete and exploration.unseen is Unseen.RANDOM:
        return (
            f"None of its {run} schedules goes wrong{_draws(exploration)}, but random numbers may decide what a session"
            " does, and another choice of them may go wrong. Explore more with --draws N (racebench.Search(draws=N))."
        )
    if exploration.complete:
        return (
            f"None of its {run} schedules goes wrong{_harmless_bursts(exploration)}, but {_unseen(exploration)} no "
            "schedule of statements shows. Use `racebench run`."
        )
    drawn = ""
    if exploration.drawn and exploration.chance is not None:
        drawn = (
            f" {exploration.drawn:,} of them at random, which meet a bug of depth {exploration.depth} with a chance "
            f"of at least {100 * exploration.chance:.2g}%;"
        )
    return f"{run} schedules were run,{drawn} nothing went wrong, and there are more. Raise --budget."


def _bursts(exploration: Exploration) -> str:
    return (
        f"{exploration.anomalous_bursts:,} of {exploration.bursts:,} {'burst' if exploration.bursts == 1 else 'bursts'}"
    )


def _harmless_bursts(exploration: Exploration) -> str:
    return f", nor any of {exploration.bursts:,} bursts of statements sent at once" if exploration.bursts else ""


def _schedules(exploration: Exploration) -> str:
    return "feasible schedules" if exploration.feasible is not None else "schedules"


def _draws(exploration: Exploration) -> str:
    """With which random numbers the schedules were run, if that may matter."""
    if not exploration.draws:
        return ""
    choices = "one choice" if exploration.draws == 1 else f"{exploration.draws:,} choices"
    return f" with {choices} of random numbers"


def _inside(exploration: Exploration) -> str:
    """What is not interleaved, because it is inside a step."""
    named = {"trigger": exploration.triggers, "function": exploration.functions}
    does = " and ".join(f"{kind} {', '.join(names)}" for kind, names in named.items() if names)
    return f" (A step is a statement; what {does} does is inside one.)" if does else ""


def _unseen(exploration: Exploration) -> str:
    """What no schedule of statements shows, as the begin of a clause."""
    if exploration.unseen is Unseen.DELAY:
        return f"consumer '{exploration.consumer}' holds rows back for a time, and what happens during that time"
    if exploration.unseen is Unseen.TIMEOUT:
        return "the script sets a time-out, and what happens when it expires"
    if exploration.unseen is Unseen.BATCH:
        return "a call sends several statements at once (in one string, or by executemany), and a race between them"
    if exploration.unseen is Unseen.CATALOG:
        return "two sessions change the schema at the same time, and a race inside such a statement"
    if exploration.unseen is Unseen.STATEMENT:
        return "its race is inside one statement, which"
    return "its race may be inside one statement, or a matter of time, which"  # an older document does not say


def heading(replay: Replay) -> str:
    """A schedule's strategy, who its sessions are, and what goes wrong in it."""
    wrong = ", ".join(counted(kind, count) for kind, count in replay.anomalies.items()) or "nothing wrong"
    consumer = replay.schedule.consumer
    reads = f" (s{replay.sessions + 1} is consumer '{consumer}')" if consumer else ""
    calls = [f"{session} {call}" for session, call in replay.calls.items()]
    runs = f" ({', '.join(calls)})" if len({*replay.calls.values()}) > 1 else ""
    return f"{replay.schedule.strategy}{runs}{reads}: {wrong}"


def markdown(explorations: Sequence[Exploration]) -> str:
    """The verdicts as a Markdown table."""
    lines = [
        "| strategy | verdict | schedules run | pruned | go wrong | anomalies | outcomes | shortest witness |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    for exploration in explorations:
        wrong = ", ".join(exploration.found) or "none"
        unfinished = "" if exploration.complete else " (search not finished)"
        surprise = " (not as expected)" if surprises(exploration) else ""
        surprise += f" ({drawn.strip()})" if (drawn := _draws(exploration)) else ""
        witness = escape.code(str(exploration.witness.schedule)) if exploration.witness else ""
        lines.append(
            f"| {escape.code(exploration.strategy)} | {exploration.verdict.value}{surprise}{unfinished} "
            f"| {exploration.run} | {exploration.pruned} | {exploration.anomalous} | {wrong} "
            f"| {len(exploration.outcomes)} | {witness} |"
        )
    return "\n".join(lines) + "\n"


def surprises(exploration: Exploration) -> bool:
    """Whether the verdict is not what is known of the strategy; UNKNOWN contradicts nothing."""
    return exploration.as_expected is False and exploration.verdict is not Verdict.UNKNOWN


def tried(exploration: Exploration) -> str:
    """What was tried: how many schedules, of which sessions, in what time."""
    consumer = ""
    if exploration.consumer is not None:
        times = "once" if exploration.polls == 1 else f"{exploration.polls:,} times"
        consumer = f" and consumer '{exploration.consumer}', which polls {times}"
    calls = list(dict.fromkeys(exploration.calls.values()))
    of = f" ({', '.join(calls)})" if calls else ""
    sessions = f"{exploration.sessions} session{'' if exploration.sessions == 1 else 's'}{of}"
    schedules = f"{exploration.run:,} schedule{'' if exploration.run == 1 else 's'}"
    return f"Tried: {schedules} of {sessions}{consumer}, in {exploration.seconds:,.1f}\u00a0s."


def next_step(exploration: Exploration) -> str:
    """What to do next; "" where the sentence of the exploration says it."""
    if exploration.verdict is Verdict.INVALID and exploration.witness is not None:
        again = "run this schedule again" if exploration.witness.command else "replay this schedule"
        return f"Next: see in the steps below how the sessions meet, mend the code, {again}, then explore again."
    if exploration.verdict is Verdict.VALID:
        more = f"--sessions {exploration.sessions + 1}"
        return f"Next: explore with `{more}`; `racebench run` shows the cost under load."
    return ""
