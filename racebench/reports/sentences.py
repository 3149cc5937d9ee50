"""What happened and what to do about it, in plain sentences. Words only: every figure is the result's own."""

from __future__ import annotations

from collections.abc import Sequence

from racebench.core.anomalies import ANOMALIES, AnomalyKind
from racebench.core.results import RunResult, Verdict


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
        what = f"{counts['rows']:,} rows" if counts["rows"] else f"{counts['committed']:,} operations"
        parts = [f"none of {what} was touched by an anomaly{bound}"]
    text = ", and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"{text[0].upper()}{text[1:]}."


def advice(result: RunResult) -> str:
    """One sentence of what to do about it."""
    better = f"`--strategy {result.advice}`" if result.advice and result.advice != result.strategy else None
    if result.verdict is Verdict.UNKNOWN:
        return "Nothing follows from this run; see the notes and run it again."
    if unseen := [kind for kind in result.expected if kind not in result.found]:
        return (
            f"This strategy is known to allow {_listing(unseen)}, which did not show this time: "
            "raise --workers, --duration, --think or --hold before believing it."
        )
    if not result.found:
        return "Load proves nothing for certain; more --duration lowers the bound."
    kind = min((ANOMALIES[name] for name in result.found), key=lambda kind: kind.advice_rank)
    return f"{kind.advice}: try {better}." if better and kind.advises_strategy else f"{kind.advice}."


def conditions(results: Sequence[RunResult]) -> str | None:
    """How closely the sessions of some runs began together, and who used the CPU; None for older documents."""
    paces = [result.pace for result in results if result.pace is not None]
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


def expectation(result: RunResult) -> str:
    """Whether the result is what the field knows of the strategy, as the end of a clause."""
    if result.as_expected is None:
        return ""
    if result.verdict is Verdict.UNKNOWN:
        return ", nothing to compare"
    return ", as expected" if result.as_expected else ", NOT as expected"


def _code(code: str, message: str) -> str:
    """A SQLSTATE; with its message if it stands for a Python exception (RB…): such a code says nothing by itself."""
    return f"{code}: {message}" if code.startswith("RB") and message else code


def _unknown(result: RunResult) -> str:
    if result.counts["committed"] == 0:
        said = [f"{code} {result.messages.get(code, '')}".strip() for code in result.errors]
        return f"No operation was committed{f' ({said[0]})' if said else ''}."
    if any(consumer.longest_poll_us is None for consumer in result.consumers):
        return "A consumer did not read to the end, so what it missed is not known."
    return "The notes say why nothing can be said."


def _sentence(kind: AnomalyKind, result: RunResult) -> str:
    """The kind's own sentence, filled in with what the run counted."""
    witnesses = [witness for witness in result.witnesses if witness.kind == kind.name]
    if kind.witness_says and witnesses:
        return witnesses[0].explanation
    count, rows, attempts = result.counts[kind.name], result.counts["rows"], result.counts["attempts"]
    per_consumer = [(log.name, log.counts[kind.name]) for log in result.consumers if log.counts.get(kind.name)]
    sentence = kind.sentence_by_consumer if kind.sentence_by_consumer and len(result.consumers) > 1 else kind.sentence
    return sentence.format(
        count=f"{count:,}",
        rows=f"{rows:,}",
        attempts=f"{attempts:,}",
        share_of_rows=_percent(count, rows),
        share_of_attempts=_percent(count, attempts),
        codes=", ".join(_code(code, result.messages.get(code, "")) for code in result.errors),
        by_consumer=", ".join(f"'{name}' {number:,} ({_percent(number, rows)})" for name, number in per_consumer),
    )


def counted(kind: str, count: int) -> str:
    """So many anomalies of a kind: "1 duplicate", "2 duplicates", "1 missed"."""
    singular = ANOMALIES[kind].singular if count == 1 else ""
    return f"{count:,} {singular or kind}"


def _listing(words: list[str]) -> str:
    return " and ".join(words)


def _percent(part: int, whole: int) -> str:
    """A share with two digits."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f}%" if share >= 10 else f"{share:.2g}%"


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.2g}%"
