"""What reports say of an exploration: its sentence, the heading of a witness, and a Markdown table of several.

Words only: every figure is the result's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from racebench.core.anomalies import NON_SERIALIZABLE
from racebench.core.defaults import MOST_EXPLORED_SESSIONS
from racebench.core.quantity import quantity
from racebench.core.verdict import Verdict
from racebench.exploration.choices import cuts
from racebench.exploration.result import Exploration, Limit, Replay, Start, Unseen
from racebench.exploration.schedules import Step
from racebench.reports import escape, short_statements
from racebench.reports.sentences import counted

#: The option that raises each limit.
_RAISED_BY = {Limit.BUDGET: "--budget", Limit.SCHEDULES: "--max-schedules"}
#: What to do about a schedule by its name (exploration/oracle/naming.py), and about one without a name.
_REMEDIES = {
    "": "make one session wait for the other, by a lock that each takes before it reads, or use SERIALIZABLE and try "
    "again",
    "lost update": "let the UPDATE compute from the row (SET n = n + 1), or lock the row when it is read (SELECT … FOR "
    "UPDATE)",
    "write skew": "use SERIALIZABLE and try again, or lock the rows that are read (SELECT … FOR UPDATE)",
    "phantom": "let a constraint (UNIQUE, EXCLUDE) refuse the second row, take a lock before the search "
    "(pg_advisory_xact_lock), or use SERIALIZABLE and try again",
    "read skew": "read in one statement, or in one transaction under REPEATABLE READ",
    "duplicate number": "take the number from a row that an UPDATE locks until the commit, or let a unique constraint "
    "refuse it and try again",
    "missed row": "make sessions commit in the order of their numbers, or have the consumer wait for transactions that "
    "are still open",
}
#: What to do about a schedule that goes wrong because a connection is cut.
_BEHIND_A_POOLER = (
    "explore it without --pooler; if nothing goes wrong there, keep nothing in the session between transactions "
    "(SET LOCAL, pg_advisory_xact_lock, values of the statement), or use session pooling"
)
_AFTER_A_CUT = (
    "do in one transaction what must not be done by half, and have a client that tries again recognize what it has "
    "done before (an idempotency key)"
)
#: The longest text of a row that breaks an invariant, in characters.
_LONGEST_DETAIL = 60


def sentence(exploration: Exploration) -> str:
    """What was found, without what is known of the strategy."""
    said = finding(exploration)
    if exploration.verdict is Verdict.INVALID and exploration.anomalous:
        said += _unfinished(exploration)
    elif exploration.verdict is Verdict.VALID:
        return f"{_capital(said)}.{_inside(exploration)}"
    elif exploration.verdict is Verdict.UNKNOWN and not exploration.leftovers:
        said += _why_unknown(exploration)
    return f"{_capital(said)}."


def finding(exploration: Exploration) -> str:
    """What was found, as the beginning of a sentence, and short: one line of a terminal holds it."""
    run, schedules = f"{exploration.run:,}", _schedules(exploration)
    if exploration.leftovers:
        wrong = f"{exploration.anomalous:,} of {run}" if exploration.anomalous else f"none of its {run}"
        more = f" (and {len(exploration.leftovers) - 1} more)" if len(exploration.leftovers) > 1 else ""
        goes = "goes" if exploration.anomalous < 2 else "go"
        return (
            f"{wrong} {schedules} {goes} wrong, but the schedules did not begin in the same state: "
            f"{exploration.leftovers[0]}{more}"
        )
    if exploration.verdict is Verdict.INVALID and not exploration.anomalous:
        return (
            f"none of its {run} schedules of statements goes wrong, but {_bursts(exploration)} does, in which sessions "
            "send their statements at once: the race is inside a statement"
        )
    if exploration.verdict is Verdict.INVALID:
        return f"{exploration.anomalous:,} of {run} {schedules} {_wrong(exploration)}"
    if exploration.verdict is Verdict.VALID:
        if exploration.run == 1:
            return f"its only schedule was run{_draws(exploration)}, nothing went wrong"
        every = "schedules that matter" if exploration.reduced else "feasible schedules"
        return f"all {run} {every} were run{_draws(exploration)}, nothing went wrong"
    if exploration.complete:
        return f"none of its {run} schedules goes wrong" if exploration.run > 1 else "its only schedule goes right"
    return (
        f"{quantity(exploration.run, 'schedule')} {'was' if exploration.run == 1 else 'were'} run, nothing went wrong"
    )


def row(exploration: Exploration) -> str:
    """One of several explorations that has ended, in one line."""
    return f"{exploration.strategy}: {exploration.verdict.value}, {finding(exploration)} ({exploration.seconds:.0f} s)"


def _wrong(exploration: Exploration) -> str:
    """What anomalous schedules do, with the row or the refusal of the witness."""
    one, witness, kinds = exploration.anomalous == 1, exploration.witness, exploration.found
    if kinds == ("violations",):
        name, detail = _broken(witness)
        named = "the invariant" if name in ("", "invariant") else f"invariant '{name}'"
        return f"{'breaks' if one else 'break'} {named}{f' ({detail})' if detail else ''}"
    if kinds == ("refused",):
        ends = () if witness is None or witness.outcome is None else witness.outcome.sessions
        codes = ", ".join(sorted({end.sqlstate for end in ends if end.sqlstate}))
        return f"{'refuses' if one else 'refuse'} an operation{f' ({codes})' if codes else ''}"
    if kinds == (NON_SERIALIZABLE,):
        detail = "" if witness is None else witness.difference.partition(";")[0]
        named = f", a {witness.named}" if witness is not None and witness.named else ""
        said = f": {short_statements.cut(detail, _LONGEST_DETAIL)}" if detail else ""
        return f"{'ends' if one else 'end'} as no serial order does{named}{said}"
    named = f" ({', '.join(kinds)})" if kinds else ""
    return f"{'goes' if one else 'go'} wrong{named}"


def _broken(witness: Replay | None) -> tuple[str, str]:
    """The invariant that the witness breaks, and by what, shortened; empty if the witness was not run again."""
    if witness is None or not witness.broken:
        return "", ""
    name, by, detail = witness.broken[0].partition("' is broken by ")
    if not by:
        name, _, detail = witness.broken[0].partition("' is broken: ")
    more = f", and {len(witness.broken) - 1} more" if len(witness.broken) > 1 else ""
    shown = short_statements.cut(detail, _LONGEST_DETAIL)
    return name.removeprefix("'"), shown + more


def _unfinished(exploration: Exploration) -> str:
    """That not all schedules were run, and why, as the end of a sentence; empty if all were."""
    if exploration.complete:
        return ""
    if exploration.fault:
        return f"; the search was not finished: {exploration.fault}"
    if exploration.limit is Limit.ENOUGH:
        return "; the search ended there, --budget for more"
    if exploration.limit is Limit.FIRST:
        return "; the search ended at the first"
    return "; the search was not finished"


def _why_unknown(exploration: Exploration) -> str:
    """Why nothing follows although nothing went wrong, and what to do, as the end of a sentence."""
    if exploration.fault:
        return f"; then a fault ended the search: {exploration.fault}"
    if exploration.complete and exploration.unseen is Unseen.RANDOM:
        return (
            f"{_draws(exploration)}, but random numbers may decide what a session does, and another choice of them may "
            "go wrong. Explore more with --draws N"
        )
    if exploration.complete and exploration.unseen is Unseen.PHYSICAL:
        prevented = "" if exploration.beginning is None else f" ({exploration.beginning.prevented})"
        return (
            ", but an anomaly may depend on what is left in an index, and the tables could not be made anew for each "
            f"schedule{prevented}. Explore on the embedded server, or as a role that may truncate them"
        )
    if exploration.complete and exploration.unseen is Unseen.ATTRIBUTION:
        return ", but it could not always be told which request a statement belonged to: see the notes"
    if exploration.complete and exploration.unseen is Unseen.ORDERS:
        return ", but not every outcome could be compared with the serial orders: see the notes"
    if exploration.complete:
        return (
            f"{_harmless_bursts(exploration)}, but {_unseen(exploration)} no schedule of statements shows. Look for it "
            "under load (`racebench run`, in Python hammer)"
        )
    drawn = ""
    if exploration.drawn and exploration.chance is not None:
        drawn = (
            f"; {exploration.drawn:,} of them were drawn at random, which meet a bug of depth {exploration.depth} with "
            f"a chance of at least {100 * exploration.chance:.2g}%"
        )
    more = f": raise {_RAISED_BY[exploration.limit]}" if exploration.limit in _RAISED_BY else ""
    return f"{drawn}. There are more schedules{more}"


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


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
    ran = server_sessions(replay)
    return f"{replay.schedule.strategy}{runs}{reads}: {wrong}{f' ({ran})' if ran else ''}"


def server_sessions(replay: Replay) -> str:
    """What "on 1" of a step means; "" if its sessions had no pooler."""
    pooled = any(step.backend is not None for step in replay.steps)
    return "on 1, on 2 …: the pooler's server sessions" if pooled else ""


def remedy(replay: Replay) -> str:
    """What to do about an outcome that no serial order has; "" if there is none."""
    if not replay.difference:
        return ""
    if cuts(replay.schedule.steps):
        return _AFTER_A_CUT
    ran = {(step.backend, step.session) for step in replay.steps if step.backend is not None}
    if len(ran) > len({backend for backend, _ in ran}):
        return _BEHIND_A_POOLER  # a server session had steps of two sessions
    return _REMEDIES.get(replay.named, _REMEDIES[""])


def behind(exploration: Exploration) -> str:
    """Behind which pooler the sessions were; "" if they connected directly."""
    pooler = exploration.pooler
    if pooler is None:
        return ""
    return f" behind a pooler in {pooler.pooling} mode with {quantity(pooler.size, 'server session')}"


def values(step: Step) -> str:
    """The values that travelled with a step, in brackets; "" if there were none."""
    return f"[{', '.join(step.values)}]" if step.values else ""


def markdown(explorations: Sequence[Exploration]) -> str:
    """The verdicts as a Markdown table."""
    lines = [
        "| strategy | verdict | schedules run | pruned | go wrong | anomalies | outcomes | shortest witness |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    for exploration in explorations:
        wrong = ", ".join(exploration.found) or "none"
        if exploration.witness is not None and exploration.witness.named:
            wrong += f" ({exploration.witness.named})"
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
    took = f"{exploration.seconds:,.1f}\u00a0s" if exploration.seconds >= 0.1 else "less than 0.1\u00a0s"
    began = f" {said}" if (said := beginning(exploration)) else ""
    cut = f", with at most {quantity(exploration.crash, 'connection')} cut in each" if exploration.crash else ""
    sessions += behind(exploration)
    return f"Tried: {schedules} of {sessions}{consumer}{cut}, in {took}.{began}"


def beginning(exploration: Exploration) -> str:
    """What each schedule began with, and why, where more than rows may matter; else ""."""
    began = exploration.beginning
    if began is None or not began.reasons:
        return ""
    reasons = ", and ".join(began.reasons)
    if began.start is Start.ANEW:
        return f"Each schedule began with tables made anew, as {reasons}."
    if began.start is Start.PAGES:
        return f"Tables were made anew before a schedule where one had grown, as {reasons}."
    return f"The tables were not made anew for each schedule, though {reasons}: {began.prevented}."


def next_step(exploration: Exploration) -> str:
    """What to do next; "" where the sentence of the exploration says it."""
    if exploration.verdict is Verdict.INVALID and exploration.witness is not None:
        again = "run this schedule again" if exploration.witness.command else "replay this schedule"
        return f"Next: see in the steps below how the sessions meet, mend the code, {again}, then explore again."
    if exploration.verdict is Verdict.VALID:
        larger = exploration.sessions + 1
        more = f"explore with `--sessions {larger}`; " if larger <= MOST_EXPLORED_SESSIONS else ""
        return f"Next: {more}`racebench run` shows the cost under load."
    return ""


def remarks(exploration: Exploration) -> list[str]:
    """A sentence for each SQLSTATE of a refusal after which a call returned: it may be meant, or a lost row."""
    return [
        f"In {quantity(times, 'schedule')} a call returned although its last statement was refused ({code}): "
        "is that meant?"
        for code, times in exploration.swallowed.items()
    ]
