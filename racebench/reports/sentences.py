"""What happened and what to do about it, in plain sentences. Words only: every figure is the result's own."""

from __future__ import annotations

from racebench.core.results import RunResult, Verdict


def happened(result: RunResult) -> str:
    """One sentence of what the run found."""
    counts = result.counts
    if result.verdict is Verdict.UNKNOWN:
        return _unknown(result)
    parts = []
    if counts["duplicates"]:
        parts.append(f"{counts['duplicates']:,} of {counts['rows']:,} rows have a version that another row already has")
    if counts["missed"]:
        parts.append(_missed(result))
    if "redelivered" in result.found:
        parts.append(f"{counts['redelivered']:,} rows were delivered again")
    if "violations" in result.found:
        broken = [witness for witness in result.witnesses if witness.kind == "violations"]
        parts.append(broken[0].explanation if broken else f"{counts['violations']:,} rows break an invariant")
    if "refused" in result.found:
        codes = ", ".join(_told(code, result.messages.get(code, "")) for code in result.errors)
        parts.append(
            f"{counts['refused']:,} of {counts['attempts']:,} operations "
            f"({_percent(counts['refused'], counts['attempts'])}) were refused ({codes})"
        )
    if "lost" in result.found:
        parts.append(f"{counts['lost']:,} acknowledged rows are not there")
    if "unexpected" in result.found:
        parts.append(f"{counts['unexpected']:,} operations reported failed are there all the same")
    if "unnumbered" in result.found:
        parts.append(f"{counts['unnumbered']:,} rows have no version")
    parts += [f"{counts[kind]:,} {kind}" for kind in ("gaps", "inversions") if kind in result.found]
    if result.verdict is Verdict.VALID:
        bound = f"; at most {_rate(result.upper_bound)} of them at 95%" if result.upper_bound else ""
        what = f"{counts['rows']:,} rows" if counts["rows"] else f"{counts['committed']:,} operations"
        parts = [f"none of {what} was touched by an anomaly{bound}"]
    text = ", and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"{text[0].upper()}{text[1:]}."


def advice(result: RunResult) -> str:
    """One sentence of what to do about it."""
    found = set(result.found)
    better = f"`--strategy {result.advice}`" if result.advice and result.advice != result.strategy else None
    if result.verdict is Verdict.UNKNOWN:
        return "Nothing follows from this run; see the notes and run it again."
    if unseen := [kind for kind in result.expected if kind not in found]:
        return (
            f"This strategy is known to allow {_listing(unseen)}, which did not show this time: "
            "raise --workers, --duration, --think or --hold before believing it."
        )
    if found & {"lost", "unexpected", "unnumbered"}:
        return "See the witness; what was acknowledged and what is in the table do not agree."
    if not found:
        return "Load proves nothing for certain; more --duration lowers the bound."
    if "violations" in found:
        move = "What was read was no longer true when it was acted on; make the check and the write one step"
    elif "duplicates" in found:
        move = "Two sessions read the same maximum before either had committed; make one wait for the other"
    elif "missed" in found:
        move = "The numbers are unique but become visible out of order; make writers commit in number order"
    else:
        move = "Each refusal is an error your user sees; retry it, or make one session wait for the other"
    return f"{move}: try {better}." if better else f"{move}."


def conditions(result: RunResult) -> str | None:
    """How closely the sessions began together, and who used the CPU; None for an older document."""
    pace = result.pace
    if pace is None or pace.start_spread_us is None:
        return None
    said = f"first operations within {pace.start_spread_us / 1e3:.1f} ms"
    client, server = pace.cpu.client_s, pace.cpu.server_s
    if client is not None and server is not None and client + server > 0:
        said += f"; of the CPU time the workers used {_share(client, client + server)}"
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


def _told(code: str, message: str) -> str:
    """A code; with its message if it is one of calls.code's for an exception: those say nothing by themselves."""
    return f"{code}: {message}" if code.startswith("RB") and message else code


def _unknown(result: RunResult) -> str:
    if result.counts["committed"] == 0:
        said = [f"{code} {result.messages.get(code, '')}".strip() for code in result.errors]
        return f"No operation was committed{f' ({said[0]})' if said else ''}."
    return "A consumer did not read to the end, so what it missed is not known."


def _missed(result: RunResult) -> str:
    """Which consumers never saw how many rows; one in full, several by name."""
    rows = result.counts["rows"]
    guilty = [(c.name, c.counts["missed"]) for c in result.consumers if c.counts["missed"]]
    if len(result.consumers) == 1:
        missed = guilty[0][1]
        return f"the consumer never saw {missed:,} of {rows:,} committed rows ({_percent(missed, rows)})"
    listed = ", ".join(f"'{name}' {missed:,} ({_percent(missed, rows)})" for name, missed in guilty)
    return f"of {rows:,} committed rows {listed} were never seen"


_COUNTABLE = frozenset({"duplicates", "violations", "gaps", "inversions"})


def counted(kind: str, count: int) -> str:
    """So many anomalies of a kind: '1 duplicate', '2 duplicates', '1 missed'."""
    return f"{count:,} {kind.removesuffix('s') if count == 1 and kind in _COUNTABLE else kind}"


def _listing(words: list[str]) -> str:
    return " and ".join(words)


def _percent(part: int, whole: int) -> str:
    """A share with two digits."""
    share = 100 * part / whole
    return f"{share:.0f}%" if share >= 10 else f"{share:.2g}%"


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.2g}%"
