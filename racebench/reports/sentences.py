"""What happened and what to do about it, in plain sentences. Words only: every figure is the result's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from racebench.analysis.remedies import remedy
from racebench.core import codes
from racebench.core.anomalies import ANOMALIES, AnomalyKind
from racebench.core.faults import is_fault
from racebench.core.liveness import listed
from racebench.core.model import Load
from racebench.core.quantity import quantity
from racebench.core.verdict import Verdict

if TYPE_CHECKING:
    from racebench.core.results import Anomaly, ConsumerResult, RunResult


def happened(result: RunResult) -> str:
    """One sentence of what the run found."""
    counts = result.counts
    if result.verdict is Verdict.UNKNOWN:
        return _unknown(result)
    parts = [
        _sentence(kind, result)
        for kind in ANOMALIES.values()
        if kind.name in result.found or (kind.always_said and counts.get(kind.name))
    ]
    if result.verdict is Verdict.VALID:
        bound = f"; at most {_rate(result.upper_bound)} of them at 95%" if result.upper_bound else ""
        what = quantity(counts["rows"], "row") if counts["rows"] else quantity(counts["committed"], "operation")
        parts = [f"none of {what} was touched by an anomaly{bound}"]
        if others := [counted(name, number) for name, number in _counts_of_kinds(result).items() if number]:
            parts = [f"none of {what} was touched by a forbidden anomaly{bound}; not forbidden: {', '.join(others)}"]
    text = ", and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"{_capitalized(text)}."


def example(witness: Anomaly, result: RunResult | None = None, of: str = "") -> str:
    """One anomaly in words: "One of the duplicates of naive: …"; "" if what happened in the result says it already."""
    kind = ANOMALIES[witness.kind]
    if kind.witness_says and result is not None and witness.kind in result.found:
        return ""
    return f"One of the {kind.plural or kind.name}{f' of {of}' if of else ''}: {witness.explanation}."


def advice(result: RunResult) -> str:
    """One sentence of what to do about it."""
    if result.verdict is Verdict.UNKNOWN and _alone(result):
        return f"{_capitalized(remedy(result.load))}."
    if result.verdict is Verdict.UNKNOWN:
        return "Nothing follows from this run; see the notes and run it again."
    longer = _longer(result.load)
    if not result.found and result.expected:
        return (
            f"This strategy is known to allow {_listing(result.expected)}, which did not show this time: "
            f"raise --workers, {longer}, --think or --hold before believing it."
        )
    if not result.found:
        return f"Load proves nothing for certain; more {longer} lowers the bound."
    if losing := _consumers_at_fault(result):
        return _of_consumers(losing)
    kind, better = _advised_on(result), instead(result)
    said = _SENT_AGAIN if kind.name == "violations" and any(map(is_fault, result.retried)) else kind.advice
    return f"{said}: try `--strategy {better}`." if better else f"{said}."


#: What to do about violations of a strategy that sends an operation again after its connection was lost.
_SENT_AGAIN = (
    "Operations were sent again whose first try may have been committed before its answer was lost; give each request "
    "a key that the server checks"
)


def _longer(load: Load) -> str:
    """The option that gives a run of such a load more operations."""
    if load.duration_s is not None:
        return "--duration"
    return "--operations" if load.operations not in (None, load.sessions) else "--workers"


def instead(result: RunResult) -> str | None:
    """The strategy, or the consumer, to use instead; None if nothing went wrong or none is known to be better."""
    if not result.found:
        return None
    if losing := _consumers_at_fault(result):
        return next((consumer.instead for consumer in losing if consumer.instead), None)
    advises = _advised_on(result).advises_strategy
    return result.advice if advises and result.advice != result.strategy else None


def _advised_on(result: RunResult) -> AnomalyKind:
    """Of the kinds that were found, the one to advise on."""
    return min((ANOMALIES[name] for name in result.found), key=lambda kind: kind.advice_rank)


def _consumers_at_fault(result: RunResult) -> list[ConsumerResult]:
    """The consumers that miss rows, if they alone are the cause of what is advised on."""
    losing = [consumer for consumer in result.consumers if consumer.counts["missed"]]
    alone = _advised_on(result).name == "missed" and all(consumer.at_fault for consumer in losing)
    return losing if alone else []


def _of_consumers(losing: Sequence[ConsumerResult]) -> str:
    """What to do about consumers that miss rows by their own doing."""
    names = _listing([f"'{consumer.name}'" for consumer in losing])
    they, pass_ = ("consumers", "pass") if len(losing) > 1 else ("consumer", "passes")
    better = next((f": try `--consumer {consumer.instead}`" for consumer in losing if consumer.instead), "")
    return (
        f"The strategy is not the cause: {they} {names} {pass_} rows in whatever order they are committed; "
        f"read with another consumer{better}."
    )


def conditions(results: Sequence[RunResult]) -> str | None:
    """How closely the sessions of some runs began together, and who used the CPU.

    None for older documents, and for runs of one session.
    """
    paces = [result.pace for result in results if result.pace is not None and result.load.sessions > 1]
    spreads = [pace.start_spread_us for pace in paces if pace.start_spread_us is not None]
    if not spreads:
        return None
    said = f"The workers' first operations began within {max(spreads) / 1e3:.1f} ms of each other."
    client = sum(pace.cpu.client_s or 0 for pace in paces)
    server = sum(pace.cpu.server_s or 0 for pace in paces)
    if client > 0 and server > 0:
        said += f" Of the CPU time, the workers used {_share(client, client + server)} and the server the rest."
    return said


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f}%"


def kept_up(result: RunResult) -> str | None:
    """How an open loop kept up; None for a closed one."""
    loop = None if result.pace is None else result.pace.open_loop
    if loop is None:
        return None
    p50, p99 = loop.latency_us["p50"], loop.latency_us["p99"]
    waited = "" if p50 is None or p99 is None else f"; latency from due p50 {p50 / 1e3:.1f}, p99 {p99 / 1e3:.1f} ms"
    return f"open loop: {loop.late:,} began more than 1 ms late, {loop.unsent:,} were due and never begun{waited}"


def first_duplicate(result: RunResult) -> str | None:
    """When the first duplicate was there, and when it was known; None if none was known before the end."""
    first = result.first_duplicate
    if first is None:
        return None
    there = "" if first.acknowledged_us is None else f"was there after {first.acknowledged_us / 1e3:.1f} ms and "
    return f"the first duplicate {there}was known after {first.known_us / 1e3:.1f} ms"


def on_standby(result: RunResult) -> list[str]:
    """A sentence for each consumer that read on a standby as well: what it missed only there, and how late it was."""
    primary = {consumer.name: consumer for consumer in result.consumers if consumer.server == "primary"}
    said = []
    for consumer in result.consumers:
        twin = primary.get(consumer.name.partition("@")[0])
        if consumer.server == "primary" or twin is None:
            continue
        parts = []
        if consumer.missed_only_here is not None:
            rows = quantity(consumer.counts["missed"], "row") if consumer.counts["missed"] else "no row"
            only = f", {consumer.missed_only_here:,} of them only there" if consumer.counts["missed"] else ""
            parts.append(f"missed {rows}{only}")
        else:
            parts.append("cannot be compared with the primary: one of the two did not read to the end")
        if late := _late(consumer):
            beside = f" (on the primary {_late(twin)})" if _late(twin) else ""
            parts.append(f"was given rows {late} after their commit{beside}")
        said.append(f"on the standby '{twin.name}' {' and '.join(parts)}")
    return said


def _late(consumer: ConsumerResult) -> str:
    p50, most = consumer.late_us["p50"], consumer.late_us["max"]
    return "" if p50 is None or most is None else f"{p50 / 1e3:.1f} ms (median) to {most / 1e3:.1f} ms"


def stalls(result: RunResult) -> list[str]:
    """For each consumer that was stalled: how long, from when on, and behind whom."""
    return [
        f"consumer '{consumer.name}' was stalled for {_duration(consumer.stalled_ms or 0.0)} from "
        f"{_duration((consumer.stalled_from_us or 0.0) / 1e3)} on: it polled and held committed rows back"
        f"{_behind(consumer)}"
        for consumer in result.consumers
        if consumer.stalled
    ]


def _behind(consumer: ConsumerResult) -> str:
    number = ", behind a missing number" if consumer.waits_for_numbers else ""
    if consumer.behind is None:
        return f"{number}; which transactions were open is not known"
    if not consumer.behind:
        return f"{number}; no transaction with an xid was open from the beginning on"
    if number:
        return f"{number}, which one of these open transactions may have, or none: {listed(consumer.behind)}"
    return f", behind {listed(consumer.behind)}"


def _duration(ms: float) -> str:
    return f"{ms / 1e3:,.2f} s" if ms >= 1e3 else f"{ms:.0f} ms"


def injected(results: Sequence[RunResult]) -> str | None:
    """Which faults were injected into some runs, and what became of their operations; None without faults."""
    injected_faults = faults_of(results)
    if not injected_faults:
        return None
    total = {name: sum(result.counts[name] for result in results) for name in ("committed", "failed", "unknown")}
    return (
        f"faults: {injected_faults}; of {sum(total.values()):,} operations {total['committed']:,} are OK, "
        f"{total['failed']:,} FAIL, {total['unknown']:,} UNKNOWN"
    )


def faults_of(results: Sequence[RunResult]) -> str:
    """How often each fault was injected into some runs; "" without faults."""
    counts: dict[str, int] = {}
    for result in results:
        for fault, count in result.injected.items():
            counts[fault] = counts.get(fault, 0) + count
    return ", ".join(f"{count:,} × {fault}" for fault, count in counts.items())


def expectation(result: RunResult) -> str:
    """Whether the result is what the field knows of the strategy, as the end of a clause."""
    if result.as_expected is None:
        return ""
    if result.verdict is Verdict.UNKNOWN:
        return ", nothing to compare"
    return ", as expected" if result.as_expected else ", NOT as expected"


def _code(code: str, message: str) -> str:
    """A SQLSTATE; with its message if it stands for an application's error: such a code says nothing by itself."""
    shown = codes.shown(code)
    if not message or not any(low <= code <= high for low, high in codes.OF_APPLICATIONS):
        return shown
    return message if message.startswith(shown) else f"{shown}: {message}"


def _said(code: str, message: str) -> str:
    """A code and its message, if there is one, which may begin with it."""
    shown = codes.shown(code)
    return message if message.startswith(shown) else f"{shown} {message}".strip()


def _unknown(result: RunResult) -> str:
    if result.counts["committed"] == 0:
        said = [_said(code, result.messages.get(code, "")) for code in result.errors]
        return f"No operation was committed{f' ({said[0]})' if said else ''}."
    if _alone(result):
        attempts = result.counts["attempts"]
        what = "There was one operation" if attempts == 1 else f"No two of {attempts:,} operations overlapped in time"
        return f"{what}, so no race could occur."
    if holding := [consumer for consumer in result.consumers if consumer.held_back]:
        rows = ", ".join(f"'{consumer.name}' {quantity(consumer.held_back, 'row')}" for consumer in holding)
        return f"At the end consumers may have held rows back behind an open transaction ({rows}); the notes name it."
    if any(consumer.longest_poll_us is None for consumer in result.consumers):
        return "A consumer did not read to the end, so what it missed is not known."
    return "The notes say why nothing can be said."


def _alone(result: RunResult) -> bool:
    """Whether something was committed, but never beside another operation."""
    return result.counts["committed"] > 0 and result.pace is not None and result.pace.overlapped is False


class _Counted(int):
    """A number in a sentence: `{count}` is itself, `{count:row is|rows are}` the words that go with it."""

    def __format__(self, words: str) -> str:
        singular, bar, plural = words.partition("|")
        return (singular if self == 1 else plural) if bar else f"{int(self):,}"


def _sentence(kind: AnomalyKind, result: RunResult) -> str:
    """The kind's own sentence, filled in with what the run counted."""
    witnesses = [witness for witness in result.witnesses if witness.kind == kind.name]
    if kind.witness_says and witnesses:
        return witnesses[0].explanation
    count, rows, attempts = result.counts[kind.name], result.counts["rows"], result.counts["attempts"]
    per_consumer = [(log.name, log.counts[kind.name]) for log in result.consumers if log.counts.get(kind.name)]
    sentence = kind.sentence_by_consumer if kind.sentence_by_consumer and len(result.consumers) > 1 else kind.sentence
    return sentence.format(
        count=_Counted(count),
        rows=_Counted(rows),
        attempts=_Counted(attempts),
        share_of_rows=_percent(count, rows),
        share_of_attempts=_percent(count, attempts),
        codes=", ".join(_code(code, result.messages.get(code, "")) for code in result.errors),
        by_consumer=", ".join(
            f"'{name}' never saw {number:,} ({_percent(number, rows)})" for name, number in per_consumer
        ),
    )


def counted(kind: str, count: int) -> str:
    """So many anomalies of a kind: "1 duplicate", "2 duplicates", "1 missed"."""
    singular = ANOMALIES[kind].singular if count == 1 else ""
    return f"{count:,} {singular or kind}"


def _counts_of_kinds(result: RunResult) -> Mapping[str, int]:
    """The counts of the kinds of anomaly; for VALID all of them are of kinds that the scenario does not forbid."""
    return {name: result.counts.get(name, 0) for name in ANOMALIES}


def _capitalized(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _listing(words: Sequence[str]) -> str:
    return " and ".join(words)


def _percent(part: int, whole: int) -> str:
    """A share with two digits."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f}%" if share >= 10 else f"{share:.2g}%"


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.2g}%"


def machines(result: RunResult) -> str:
    """On how many machines a run's sessions were, how well their clocks are known, and what that leaves undecided."""
    worst = max(machine.bound_us for machine in result.machines)
    count = quantity(len(result.machines), "machine", "machines")
    said = f"{count}; times are the server's, right within {worst:.0f} µs"
    left = undecided(result.undecided)
    return f"{said}; {left}" if left else said


def undecided(counts: Mapping[str, int]) -> str | None:
    """What the bounds of the machines' clocks leave undecided, None if that is nothing."""
    left = [
        quantity(count, "delivery that may be late", "deliveries that may be late")
        if kind == "late"
        else quantity(count, f"possible {kind} more", f"possible {kind} more")
        for kind, count in counts.items()
    ]
    return f"undecided within the bounds of their clocks: {', '.join(left)}" if left else None
